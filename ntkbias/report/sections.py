"""A page of its own sections: what a command says about a result that is no comparison and no history.

>>> from ntkbias.report.sections import Sections, page_of
>>> from ntkbias.tables import Table
>>> sections = Sections("Which is first?", "The first.", "Nothing.", {}, [Table("Rows", {"row": ["1"]})], ())
>>> page_of(sections, {}, "Rows", {}).count("<table")
3
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ntkbias.report.making import how_made
from ntkbias.report.page import framed, html_figure, opening, table_of
from ntkbias.tables import Table

__all__ = ["Sections", "page_of"]


class Sections(NamedTuple):
    """The question, its answer and what is uncertain; the captions of the figures by name; tables; keys of papers."""

    question: str
    answer: str
    uncertain: str
    captions: Mapping[str, str]
    tables: Sequence[Table]
    papers: Sequence[str]


def page_of(sections: Sections, pictures: Mapping[str, str], title: str, settings: dict[str, Any]) -> str:
    """The page as HTML. `pictures` are the SVG texts of the figures by name."""
    figures = [html_figure(name, pictures[name], html.escape(caption)) for name, caption in sections.captions.items()]
    return framed(
        [
            opening(sections.question, sections.answer, sections.uncertain),
            f"<div class='grid'>{''.join(figures)}</div>" if figures else "",
            "<h2>Tables</h2>",
            *(table_of(table) for table in sections.tables),
            how_made(sections.papers, settings),
        ],
        title,
    )
