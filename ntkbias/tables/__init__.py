"""Results as tables: in a terminal, in a notebook, in a paper, and as data frames.

`printing.py` has the base classes of values that print. `table.py` formats a table as text, HTML, Markdown and LaTeX,
and `markup.py` escapes its cells. `labeled.py` makes data frames and datasets of results. `texts.py` formats numbers,
intervals and names.
"""

from ntkbias.tables.labeled import Axes, Labeled, Variable, joined, spread
from ntkbias.tables.printing import MOST_ROWS, Described, Printed, Tabled, printed, printed_html
from ntkbias.tables.table import WIDTH, Table
from ntkbias.tables.texts import Fact, brackets, counted, explained, interval, name_of, number, percent, spaced

__all__ = [
    "MOST_ROWS",
    "WIDTH",
    "Axes",
    "Described",
    "Fact",
    "Labeled",
    "Printed",
    "Table",
    "Tabled",
    "Variable",
    "brackets",
    "counted",
    "explained",
    "interval",
    "joined",
    "name_of",
    "number",
    "percent",
    "printed",
    "printed_html",
    "spaced",
    "spread",
]
