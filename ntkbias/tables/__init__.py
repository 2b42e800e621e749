"""Results as tables: what a value prints in a terminal, and shows in a notebook.

`printing.py` is what values that print have in common, `table.py` a table as text and as HTML, and `texts.py` how
numbers, intervals and names are written.
"""

from ntkbias.tables.printing import MOST_ROWS, Described, Printed, printed, printed_html
from ntkbias.tables.table import WIDTH, Table
from ntkbias.tables.texts import Fact, brackets, counted, interval, name_of, number, percent, spaced

__all__ = [
    "MOST_ROWS",
    "WIDTH",
    "Described",
    "Fact",
    "Printed",
    "Table",
    "brackets",
    "counted",
    "interval",
    "name_of",
    "number",
    "percent",
    "printed",
    "printed_html",
    "spaced",
]
