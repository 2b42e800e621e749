r"""A table of texts: in a terminal, in a notebook, in Markdown and in LaTeX.

Columns are aligned, and wide characters count as two columns. A terminal's table cuts long names. Markup and control
characters in names are escaped.

>>> from ntkbias.tables import Table
>>> table = Table("Two kernels", {"kernel": ["mlp", "<b>"], "trace": ["0.750", "12.3"]}, ["of K / n"])
>>> print(table)
Two kernels
kernel  trace
mlp     0.750
<b>      12.3
of K / n
>>> print(table.markdown().splitlines()[-3])
| \<b\> | 12.3 |
"""

import dataclasses
import html
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from ntkbias.tables.markup import latex, markdown

__all__ = ["WIDTH", "Table"]

WIDTH = 100  # terminal columns
LONGEST_CELL = 60  # terminal columns of the longest cell; a notebook wraps longer ones
NUMBER = re.compile(r"[~<>]?\s*[-+]?(\d|nan|inf)|-?$")  # the beginning of each cell in a column of numbers


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, columns of texts by their heads, and notes below. `more` is the number of rows left out.

    As text it is at most `WIDTH` columns wide if its cells allow that. Columns that do not fit follow below.
    """

    title: str
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    more: int = 0

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*self.columns.values(), strict=True))

    def text(self) -> str:
        """The table for a terminal."""
        lines = textwrap.wrap(_plain(self.title), WIDTH) if self.title else []
        if self.rows:
            lines += self._lines()
        lines += [self._left_out()] * (self.more > 0)
        for note in self.notes:
            lines += textwrap.wrap(_plain(note), WIDTH)
        return "\n".join(lines)

    def html(self) -> str:
        """The table for a notebook; markup in names is escaped."""
        parts = [f"<strong>{_escaped(self.title)}</strong>"] if self.title else []
        if self.rows:
            shown = self._shown()
            sides = ["left" if _is_text(cells) else "right" for cells in shown.values()]
            head = _html_row("th", shown, sides) if any(map(str.strip, shown)) else ""
            body = "".join(_html_row("td", row, sides) for row in zip(*shown.values(), strict=True))
            parts.append(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>")
        parts += [f"<div>{_escaped(note)}</div>" for note in self._below()]
        return f"<div>{''.join(parts)}</div>"

    def markdown(self) -> str:
        """The table in Markdown, as GitHub and Jupyter show it: numbers are right-aligned, and names are escaped."""
        parts = [f"**{_in_markdown(self.title)}**"] if self.title else []
        if self.rows:
            shown = self._shown()
            rules = [":---" if _is_text(cells) else "---:" for cells in shown.values()]
            rows = [map(_in_markdown, row) for row in (shown, *zip(*shown.values(), strict=True))]
            lines = [f"| {' | '.join(row)} |" for row in rows]
            parts.append("\n".join([lines[0], f"| {' | '.join(rules)} |", *lines[1:]]))
        return "\n\n".join([*parts, *map(_in_markdown, self._below())])

    def latex(self) -> str:
        """The table in LaTeX, with the title as its caption and the notes below; needs the package booktabs.

        Negative numbers and powers of ten are set as mathematics. Characters beyond ASCII, as in names, are left as
        they are, which XeLaTeX and LuaLaTeX typeset.
        """
        lines = [r"\begin{table}", r"\centering"]
        if self.title:
            lines.append(rf"\caption{{{_in_latex(self.title)}}}")
        if self.rows:
            shown = self._shown()
            sides = "".join("l" if _is_text(cells) else "r" for cells in shown.values())
            rows = [map(_in_latex, row) for row in (shown, *zip(*shown.values(), strict=True))]
            head, *body = [rf"{' & '.join(row)} \\" for row in rows]
            lines += [rf"\begin{{tabular}}{{{sides}}}", r"\toprule"]
            lines += [head, r"\midrule"] if any(map(str.strip, shown)) else []
            lines += [*body, r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par {_in_latex(note)}" for note in self._below()]
        return "\n".join([*lines, r"\end{table}"])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def _shown(self) -> dict[str, Sequence[str]]:
        """The columns with a head or with cells that are not blank."""
        return {head: cells for head, cells in self.columns.items() if head or any(map(str.strip, cells))}

    def _below(self) -> list[str]:
        """The notes, after one on the rows that are left out."""
        return [*([self._left_out()] if self.more > 0 else []), *self.notes]

    def _left_out(self) -> str:
        return f"... and {self.more:,} more"

    def _lines(self) -> list[str]:
        """Aligned heads and rows. Columns that do not fit follow in groups below, each after the first column again."""
        columns = [_aligned(head, cells) for head, cells in self._shown().items()]
        groups, width = [[columns[0]]], _width(columns[0][0])
        for column in columns[1:]:
            width += 2 + _width(column[0])
            if width > WIDTH and len(groups[-1]) > 1:
                groups.append([columns[0]])
                width = _width(columns[0][0]) + 2 + _width(column[0])
            groups[-1].append(column)
        found: list[str] = []
        for group in groups:
            lines = ["  ".join(row).rstrip() for row in zip(*group, strict=True)]
            found += [""] * bool(found) + lines[not lines[0] :]
        return found


def _plain(text: object) -> str:
    """One line of printable characters. Characters that move the cursor or hide part of a name are escaped."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _in_markdown(text: object) -> str:
    return markdown(_plain(text))


def _in_latex(text: object) -> str:
    return latex(_plain(text))


def _escaped(text: object) -> str:
    return html.escape(_plain(text))


def _html_row(kind: str, cells: Iterable[str], sides: list[str]) -> str:
    marked = (
        f'<{kind} style="text-align: {side}">{_escaped(cell)}</{kind}>' for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"


def _is_text(cells: Sequence[str]) -> bool:
    return not all(NUMBER.match(cell) for cell in cells)


def _width(text: str) -> int:
    """The terminal columns of a text: two for wide East Asian characters, none for combining accents."""
    wide = (0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)
    return sum(wide)


def _aligned(head: str, cells: Sequence[str]) -> list[str]:
    """A head and its cells, padded to one width: text is left-aligned, numbers are right-aligned."""
    texts = [_cut(_plain(cell)) for cell in (head, *cells)]
    width = max(map(_width, texts))
    is_text = _is_text(cells)
    padded = []
    for text in texts:
        space = " " * (width - _width(text))
        padded.append(text + space if is_text else space + text)
    return padded


def _cut(text: str) -> str:
    if _width(text) <= LONGEST_CELL:
        return text
    while _width(text) > LONGEST_CELL - 3:
        text = text[:-1]
    return text + "..."
