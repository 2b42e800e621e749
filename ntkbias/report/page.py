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

__all__ = ["drawn", "framed", "html_figure", "html_table", "settings_rows", "slug_names"]

STYLE = """
:root { color-scheme: light dark; --line: #8886; --dim: #666 }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 1rem 1.5rem 3rem }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem } h1, p, caption, figcaption { overflow-wrap: anywhere }
svg { display: block; max-width: 100%; height: auto; margin: auto }
.picture + figcaption { margin-top: .4rem } .wide .picture { overflow-x: auto }
.wide svg { width: 100%; min-width: 700px; max-width: none }
p { max-width: 75ch } figcaption, .note { color: var(--dim); font-size: .9rem }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1.5rem }
.wide { grid-column: 1 / -1 } figure { margin: 0; min-width: 0 } .scroll { overflow-x: auto }
.picture { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top }
td { white-space: nowrap } .text td, .text th { text-align: left }
.named td:first-child, .text td { white-space: normal; overflow-wrap: anywhere; min-width: 9em }
.named th:first-child, .named td:first-child { text-align: left } thead th { vertical-align: bottom }
.modes { font-size: .85rem } .modes th, .modes td { padding: .15rem .35rem }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em }
@media print { .grid { display: block } figure, tr { break-inside: avoid } }
"""
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


def html_figure(name: str, svg: str, caption: str, css: str = "") -> str:
    """An SVG file as a figure of the page, without its header and comments, and with identifiers unique to it."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    label = html.escape(name.replace("_", " "))
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f'<figure class="{css}"><div class="picture">{svg}</div><figcaption>{caption}</figcaption></figure>'


def drawn(draw: Callable[[Any, Axes], Axes], value: Any) -> Figure:
    """A new figure of the picture, which belongs to no window."""
    figure = Figure(figsize=plots.SIZE, layout="constrained")
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


def framed(parts: list[str], title: str, settings: dict[str, Any]) -> str:
    """A complete page: title, sections, and the settings at the end."""
    tail = f"<h2>Settings and versions</h2>{html_table(['setting', 'value'], settings_rows(settings), css='text')}"
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts, tail])
    return PAGE.format(title=html.escape(title), style=STYLE, body=body)
