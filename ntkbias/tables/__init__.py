"""Results as tables, in a terminal and in a notebook.

`printing.py` has the base classes of values that print, `table.py` formats a table as text and as HTML, and `texts.py`
formats numbers, intervals and names.
"""

from ntkbias.tables.printing import MOST_ROWS, Described, Printed, printed, printed_html
from ntkbias.tables.table import WIDTH, Table
from ntkbias.tables.texts import Fact, brackets, counted, explained, interval, name_of, number, percent, spaced

__all__ = [
    "MOST_ROWS",
    "WIDTH",
    "Described",
    "Fact",
    "Printed",
    "Table",
    "brackets",
    "counted",
    "explained",
    "interval",
    "name_of",
    "number",
    "percent",
    "printed",
    "printed_html",
    "spaced",
]
