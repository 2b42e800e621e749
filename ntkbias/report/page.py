"""The common parts of all pages: frame, style, tables and figures as HTML.

>>> from ntkbias.report.page import slug_names
>>> slug_names(["MLP, finite", "MLP finite"])
['mlp_finite', 'mlp_finite_2']
"""

import html
import re
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkbias import plots
from ntkbias.report.style import sheet
from ntkbias.report.themes import with_variables
from ntkbias.tables import Table

__all__ = ["drawn", "framed", "html_figure", "html_table", "opening", "settings_rows", "slug_names", "table_of"]

TALL = 25  # rows beyond which a table scrolls in a box of its own on a screen
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body>
</html>
"""


def html_table(heads: list[str], rows: list[list[str]], caption: str = "", css: str = "") -> str:
    """An HTML table; the cells must be HTML already."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    content = f"<table class='{css}'>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='scroll' tabindex='0'>{content}</div>"


def table_of(value: Table, css: str = "", num_rows: int | None = None) -> str:
    """A table of a result as HTML: its columns, with its title above and its notes below, all of them escaped."""
    columns = {head: list(cells)[:num_rows] for head, cells in value.columns.items()}
    rows = [[html.escape(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    notes = " ".join(note for note in value.notes if note)
    below = f"<p class='note'>{html.escape(notes)}</p>" if notes else ""
    table = html_table([html.escape(head) for head in columns], rows, html.escape(value.title), css)
    return (table.replace("class='scroll'", "class='scroll tall'", 1) if len(rows) > TALL else table) + below


def settings_rows(settings: dict[str, Any], prefix: str = "") -> list[list[str]]:
    """Rows (name, value) as HTML; dots join the names of nested settings."""
    rows = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += settings_rows(value, f"{prefix}{name}.")
        else:
            listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append([html.escape(f"{prefix}{name}"), html.escape(listed)])
    return rows


def html_figure(name: str, svg: str, caption: str, css: str = "", kernel: int | None = None) -> str:
    """An SVG file as a figure of the page, without its header and comments, and with identifiers unique to it.

    Its colors are variables of the page. The parts that belong to a kernel have its index in `data-kernel`.
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = with_variables(svg)
    svg = re.sub(r'<g id="(kernel-(\d+)-(\w+))"', r'<g data-kernel="\2" data-part="\3" id="\1"', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    label = html.escape(name.replace("_", " "))
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    owner = "" if kernel is None else f' data-kernel="{kernel}"'
    scrolls = ' tabindex="0"' if "wide" in css else ""
    picture = f'<div class="picture"{scrolls}>{svg}</div>'
    return f'<figure class="{css}"{owner}>{picture}<figcaption>{caption}</figcaption></figure>'


def drawn(draw: Callable[[Any, Axes], Axes], value: Any, size: tuple[float, float] = plots.SIZE) -> Figure:
    """A new figure of the picture, which belongs to no window."""
    figure = Figure(figsize=size, layout="constrained")
    draw(value, figure.subplots())
    return figure


def slug_names(names: Iterable[str]) -> list[str]:
    """Unique parts of file names, one per name, of lower-case letters, digits and underscores."""
    slugs: list[str] = []
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60] or "kernel"
        candidates = [stem, *(f"{stem}_{number}" for number in range(2, len(slugs) + 3))]
        slugs.append(next(candidate for candidate in candidates if candidate not in slugs))
    return slugs


def framed(parts: list[str], title: str, script: str = "") -> str:
    """A complete page: its title and sections, its style, and a script at its end if there is one."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    last = f"\n<script>{script}</script>" if script else ""
    return PAGE.format(title=html.escape(title), style=sheet(body), body=body + last)


def opening(question: str, answer: str, uncertain: str) -> str:
    """The beginning of a page: the question, its answer, and what is uncertain."""
    return (
        f"<p class='question'>{html.escape(question)}</p>"
        f"<div class='answer'><p>{html.escape(answer)}</p></div>"
        f"<h2>What is uncertain</h2><p>{html.escape(uncertain)}</p>"
    )
