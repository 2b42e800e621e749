"""A study as a page and as figures: the paper's idea, each claim beside what was measured, and the settings.

>>> from ntkbias.studies import run_study, study_of
>>> from ntkbias.studies.page import figures
>>> list(figures(study_of("hypercube"), run_study("hypercube", "smoke")))
['shares']
"""

import html
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from ntkbias import plots
from ntkbias.report.page import framed, html_figure, html_table, settings_rows
from ntkbias.studies.running import StudyResult
from ntkbias.studies.study import Study
from ntkbias.studies.table import NAMES, study_of

__all__ = ["figures", "index_page", "page"]


def figures(study: Study, result: StudyResult) -> dict[str, Figure]:
    """The study's figures of the first run, by name. They belong to no window and need not be closed."""
    made = {}
    for name, drawing in study.figures.items():
        made[name] = Figure(figsize=plots.SIZE, layout="constrained")
        drawing.draw(result.findings[0], made[name].subplots())
    return made


def page(study: Study, result: StudyResult, pictures: dict[str, str], settings: dict[str, Any]) -> str:
    """The page of a study as HTML. `pictures` are the SVG texts of its figures by name."""
    papers = "".join(f"<li>{html.escape(str(paper))}</li>" for paper in study.papers)
    heads = ["claim", "expected", "measured", "holds"]
    rows = [
        [
            html.escape(f"{measured.sentence}{f' ({claim.reason})' if claim.reason else ''}"),
            *(html.escape(cell) for cell in (measured.expected, measured.text, measured.holds)),
        ]
        for claim, measured in zip(study.claims, result.claims, strict=True)
    ]
    rows_of_settings = settings_rows(result.settings | settings)
    shown = [html_figure(name, pictures[name], html.escape(drawing.caption)) for name, drawing in study.figures.items()]
    return framed(
        [
            f"<p>{html.escape(study.idea)}</p>{papers and f'<ul>{papers}</ul>'}",
            f"<h2>What was claimed, and what was measured</h2>{html_table(heads, rows, css='text')}"
            f"<p class='note'>{html.escape(_how(result))}</p>",
            f"<h2>Figures</h2><div class='grid'>{''.join(shown)}</div>" if shown else "",
            f"<h2>Settings</h2>{html_table(['setting', 'value'], rows_of_settings, css='text')}",
        ],
        f"Study: {study.name.replace('_', ' ')}",
    )


def index_page(results: Mapping[str, Any], failures: Mapping[str, str], scale: str) -> str:
    """The page of all studies as HTML: one row per claim, and the studies that failed.

    `results` are their `result.json` by name. Each study's own page is in a folder of its name, beside this page.
    """
    rows = []
    for name in (name for name in NAMES if name in results or name in failures):
        link = f"<a href='{name}/report.html'>{name}</a><br>{html.escape(study_of(name).source)}"
        if name not in results:
            rows.append([link, html.escape(failures[name].splitlines()[-1]), "", "", "failed", ""])
        for place, claim in enumerate(results[name]["claims"] if name in results else ()):
            cells = [html.escape(claim[part]) for part in ("claim", "expected", "measured", "holds")]
            rows.append([link, *cells, f"{results[name]['seconds']:.0f}"] if place == 0 else ["", *cells, ""])
    heads = ["paper", "claim", "expected", "measured", "holds", "seconds"]
    claims = [claim["holds"] for found in results.values() for claim in found["claims"]]
    summary = (
        f"{len(results)} studies ran at the {scale} scale, and {len(failures)} failed. Of {len(claims)} claims, "
        f"{claims.count('yes')} hold, {claims.count('no')} do not, {claims.count('unclear')} are unclear, and "
        f"{claims.count('tie')} are ties."
    )
    return framed([f"<p>{summary}</p>", html_table(heads, rows, css="text")], "All studies")


def _how(result: StudyResult) -> str:
    runs = "One run" if result.num_seeds == 1 else f"{result.num_seeds} runs from different seeds"
    return (
        f"{runs} at the {result.scale} scale, {result.seconds:.0f} s. Numbers in brackets are the 95 % interval of the "
        "mean over runs. A claim is unclear if its interval crosses the bound. A tie is a result so near to the bound "
        "that the claim counts it as equal."
    )
