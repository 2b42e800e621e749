"""A comparison as one self-contained HTML page, as figures by file name, and as a table for a terminal.

The page holds what a reader needs to judge it: a summary in words, tables of kernels and of modes, figures with a text
each that tells how to read it, and the settings and versions behind it all. It has no scripts and loads nothing.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(32)
>>> comparison = nb.compare({"mlp": nb.infinite_ntk(nb.nets.mlp())}, x, nb.domains.Circle(), weights=weights)
>>> list(figures(comparison))
['spectra', 'frequency', 'energy_mlp', 'eigenfunctions_mlp']
>>> print(table(comparison, 3).splitlines()[0])
mlp
"""

import html
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkbias import plots, results
from ntkbias.compare import Comparison
from ntkbias.frequency import FrequencyRanking
from ntkbias.spectrum import DecayExponent, Spectrum
from ntkbias.types import require_positive

__all__ = ["figures", "table", "write_report"]

TABLE_MODES = 20  # of each kernel in the page's tables
FIGURE_MODES = 8
WIDTH = 100  # columns of a terminal

MEASURES = {
    "harmonic": "that of the harmonics of the degree that holds most of its power",
    "graph": "estimated on the graph of neighbouring inputs",
    "dirichlet": "estimated from its differences along short steps between the inputs",
}
KERNELS = """Eigenvalues are those of K / n, the kernel's matrix over the number of inputs, so that they do not grow
with n; the trace is the sum of all of them. The effective rank is exp(entropy) of their shares. Spearman's ρ is the
rank correlation of eigenvalue and frequency: -1 where low frequencies always come first. The decay exponent is that of
eigenvalue against frequency. Their 95 % intervals come from resampling the inputs, that of the exponent with the
frequencies as they are, that of ρ with the modes: they say nothing of how well a power law fits, nor of more inputs,
and are too wide for quadrature nodes. Both leave out modes whose frequency the inputs do not resolve."""
MODES = """Fastest learned first. The learning time is 1 / eigenvalue, in units of step × learning rate: in that time
gradient flow reduces a mode's error by a factor of e, for one output or an infinitely wide network. Modes of one
eigenspace have eigenvalues too close to tell apart, and share their frequency: any rotation of them would do as
well. A frequency after > is a lower bound: the inputs do not tell it."""
OVERVIEW = {  # one figure for all kernels
    "spectra": """The eigenvalues of each kernel, in descending order. The further left and the steeper a curve falls,
        the fewer functions are learned early. Dotted: the noise floor, below which an eigenvalue is rounding and is
        left out.""",
    "frequency": """Each point is a mode. Points that fall to the right show a preference for low frequencies. Dashed:
        the power law, over the modes that it was fitted to; where they bend away from it, no one exponent describes
        them. Hollow marks are at the limit of what these inputs tell apart: their frequency is a lower bound.""",
    "cumulative_power": """How much of the targets lies in the first k modes, all targets taken together. A curve that
        rises early belongs to a kernel under which these targets are learned early.""",
}
EACH = {  # one figure a kernel: heading and text
    "energy": (
        "Energy per degree",
        """Which harmonics each mode is made of. One dark cell a column is a mode of pure frequency; a rising staircase
        is a preference for low frequencies. The members of an eigenspace share their energy.""",
    ),
    "eigenfunctions": (
        "Eigenfunctions",
        """The first modes over the inputs: along the angle, or at the inputs drawn by two coordinates (of images and
        point clouds, the first two principal components), where colour is the value. Their sign is arbitrary; "of 2-3"
        names an eigenspace, whose members mean something only together.""",
    ),
}
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


def write_report(path: str | Path, comparison: Comparison, *, title: str, settings: dict[str, Any]) -> Path:
    """Write the page to `path`, whole or not at all, and return the path.

    `settings`, which may be nested, are what the run depended on; they stand at the end. Costs some seconds a kernel.
    Raises `InputError` if the file cannot be written.
    """
    path = Path(path)
    page = _page(comparison, title, settings)
    results.write(path, lambda file: file.write(page.encode()))
    return path


def figures(comparison: Comparison) -> dict[str, Figure]:
    """All figures of a comparison by file name, without suffix: what the page shows.

    "spectra", "frequency"; "cumulative_power" if there are targets; "energy_<kernel>" where there are harmonics, and
    "eigenfunctions_<kernel>", with the kernel's name in lower-case letters, digits and underscores. They belong to no
    window, and need no closing.
    """
    drawn = {
        "spectra": _drawn(plots.spectra, comparison),
        "frequency": _drawn(plots.eigenvalue_against_frequency, comparison),
    }
    if comparison.targets is not None and np.any(np.asarray(comparison.targets)):
        drawn["cumulative_power"] = _drawn(plots.cumulative_power, comparison)
    slugs = _slugs(comparison.names)
    for slug, ranking in zip(slugs, comparison.rankings, strict=True):
        if ranking.energy is not None:
            drawn[f"energy_{slug}"] = _drawn(plots.energy_per_degree, ranking)
    for index, (slug, (_, spectrum, ranking)) in enumerate(zip(slugs, _kernels(comparison), strict=True)):
        figure = drawn[f"eigenfunctions_{slug}"] = Figure()
        axes = plots.panels(min(FIGURE_MODES, len(ranking.frequencies)), figure)
        plots.eigenfunctions(spectrum, ranking, comparison.domain, FIGURE_MODES, axes, color=plots.color(index))
    return drawn


def table(comparison: Comparison, num_modes: int = 10) -> str:
    """The first modes of each kernel as text of at most 100 columns, under a line or two about the kernel.

    Brackets before the rows join the members of one eigenspace.
    """
    require_positive("num_modes", num_modes)
    sections = []
    for name, spectrum, ranking in _kernels(comparison):
        title = " ".join(name.split())
        about = textwrap.wrap(", ".join(_facts(spectrum, ranking)) + ".", WIDTH)
        cells = [_heads(ranking), *_rows(spectrum, ranking, num_modes)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        marks = [" ", *_brackets(np.asarray(ranking.eigenspace))]
        rows = [f"{mark} {line}" for mark, line in zip(marks, lines, strict=False)]
        sections.append("\n".join([title if len(title) <= WIDTH else title[: WIDTH - 3] + "...", *about, "", *rows]))
    return "\n\n".join(sections)


def _kernels(comparison: Comparison) -> list[tuple[str, Spectrum, FrequencyRanking]]:
    return list(zip(comparison.names, comparison.spectra, comparison.rankings, strict=True))


def _drawn(draw: Callable[[Any, Axes], Axes], value: Any) -> Figure:
    figure = Figure(figsize=plots.SIZE, layout="constrained")
    draw(value, figure.subplots())
    return figure


def _slugs(names: Iterable[str]) -> list[str]:
    """Names as parts of file names: lower-case letters, digits and underscores, no two alike."""
    slugs: list[str] = []
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60] or "kernel"
        candidates = [stem, *(f"{stem}_{number}" for number in range(2, len(slugs) + 3))]
        slugs.append(next(candidate for candidate in candidates if candidate not in slugs))
    return slugs


def _number(value: Any) -> str:
    """Three digits."""
    return f"{float(value):#.3g}".rstrip(".")


def _correlation(ranking: FrequencyRanking) -> str:
    if not np.isfinite(ranking.spearman):
        return "not defined"
    low, high = (f"{end:.3f}" for end in ranking.spearman_interval)
    return f"{ranking.spearman:.3f}" + (f" ({low} to {high})" if low != high else "")


def _exponent(decay: DecayExponent | None, before: str = "") -> str:
    return "-" if decay is None else f"{decay.exponent:.2f} ({before}{decay.low:.2f} to {decay.high:.2f})"


def _facts(spectrum: Spectrum, ranking: FrequencyRanking) -> list[str]:
    """What a terminal shows of a kernel as a whole."""
    facts = [
        f"trace {_number(spectrum.trace)}",
        f"effective rank {_number(spectrum.effective_rank())}",
        f"{spectrum.num_resolved} of {len(spectrum.eigenvalues)} modes above the noise floor"
        + ("" if spectrum.method == "dense" else f" ({spectrum.method})"),
        f"Spearman's rho of eigenvalue and frequency {_correlation(ranking)}",
    ]
    if ranking.decay is not None:
        facts.append(f"eigenvalue ~ frequency^a with a = {_exponent(ranking.decay)}")
    return facts


def _heads(ranking: FrequencyRanking) -> list[str]:
    purity = [] if ranking.purity is None else ["purity"]
    return ["mode", "eigenvalue", "of trace", "frequency", *purity, "learning time"]


def _rows(spectrum: Spectrum, ranking: FrequencyRanking, num_modes: int) -> list[list[str]]:
    """A row a mode, in the order of `_heads`."""
    return [
        [
            str(mode + 1),
            _number(ranking.eigenvalues[mode]),
            f"{float(ranking.eigenvalues[mode] / spectrum.trace):.2%}",
            ("" if ranking.resolved[mode] else ">") + _number(ranking.frequencies[mode]),
            *([] if ranking.purity is None else [f"{float(ranking.purity[mode]):.1%}"]),
            _number(ranking.learning_times[mode]),
        ]
        for mode in range(min(num_modes, len(ranking.eigenvalues)))
    ]


def _brackets(eigenspace: Int[np.ndarray, " k"]) -> list[str]:
    """A mark a mode: / at the first member of an eigenspace of several, | within, and a backslash at the last."""
    before = np.concatenate([[False], eigenspace[1:] == eigenspace[:-1]])
    after = np.concatenate([before[1:], [False]])
    return np.select([before & after, before, after], ["|", "\\", "/"], " ").tolist()


def _page(comparison: Comparison, title: str, settings: dict[str, Any]) -> str:
    pictures = {name: plots.svg(figure) for name, figure in figures(comparison).items()}
    overview = [_figure(name, pictures[name], html.escape(text)) for name, text in OVERVIEW.items() if name in pictures]
    body = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(_summary(comparison))}</p>",
        f"<h2>Kernels</h2>{_kernel_table(comparison)}<p class='note'>{KERNELS}</p>",
        f"<h2>Spectra and frequencies</h2><div class='grid'>{''.join(overview)}</div>",
    ]
    slugs = dict(zip(_slugs(comparison.names), comparison.names, strict=True))
    for kind, (heading, text) in EACH.items():
        each = [
            _figure(f"{kind}_{slug}", pictures[f"{kind}_{slug}"], html.escape(name), "wide" * (kind != "energy"))
            for slug, name in slugs.items()
            if f"{kind}_{slug}" in pictures
        ]
        if each:
            body.append(f"<h2>{heading}</h2><p class='note'>{text}</p><div class='grid'>{''.join(each)}</div>")
    modes = [_mode_table(*kernel) for kernel in _kernels(comparison)]
    body += [
        f"<h2>The first modes</h2><p class='note'>{MODES}</p><div class='grid'>{''.join(modes)}</div>",
        f"<h2>Settings and versions</h2>{_table(['setting', 'value'], _flat(settings), css='text')}",
    ]
    return PAGE.format(title=html.escape(title), style=STYLE, body="\n".join(body))


def _summary(comparison: Comparison) -> str:
    """Which kernel prefers low frequencies most, by rank and by decay, and over how many modes each spreads."""
    names, rankings = comparison.names, comparison.rankings
    measure = MEASURES[rankings[0].measure]
    sentences = [
        f"{'One kernel' if len(names) == 1 else f'{len(names)} kernels'} on {len(comparison.spectra[0].weights):,} "
        f"inputs ({type(comparison.domain).__name__}). The frequency of a mode, in radians per unit of length, is "
        f"{measure}."
    ]
    rhos = {name: round(r.spearman, 3) for name, r in zip(names, rankings, strict=True) if np.isfinite(r.spearman)}
    if rhos:
        least = min(rhos.values())
        who = _listed(name for name in rhos if rhos[name] == least)
        verdict = (
            "The strongest preference for low frequencies by rank" if least < 0 else "No preference for low frequencies"
        )
        sentences.append(f"{verdict}: {who}, with a Spearman's ρ of {least:.3f} between eigenvalue and frequency.")
    decays = {name: ranking.decay for name, ranking in zip(names, rankings, strict=True) if ranking.decay is not None}
    if decays:
        steepest = min(decays, key=lambda name: decays[name].exponent)
        alike = [name for name in decays if name != steepest and decays[name].low <= decays[steepest].high]
        overlap = f", which overlaps with that of {_listed(alike)}" if alike else ""
        sentences.append(
            f"The steepest decay with frequency: {steepest}, with an exponent of "
            f"{_exponent(decays[steepest], '95 % interval ')}{overlap}."
        )
    ranks = {name: float(s.effective_rank()) for name, s in zip(names, comparison.spectra, strict=True)}
    low, high = min(ranks, key=lambda name: ranks[name]), max(ranks, key=lambda name: ranks[name])
    spread = "is" if low == high else f"goes from {_number(ranks[low])} ({low}) to"
    sentences.append(f"The effective rank {spread} {_number(ranks[high])} ({high}).")
    return " ".join(sentences)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _kernel_table(comparison: Comparison) -> str:
    """A row a kernel, with the colour that it has in the figures."""
    heads = "kernel|trace|effective rank|resolved modes|Spearman's ρ (95 %)|decay exponent (95 %)|mode 1|mode 2|mode 3"
    rows = []
    for index, (name, spectrum, ranking) in enumerate(_kernels(comparison)):
        first = [_number(value) for value in ranking.eigenvalues[:3]]
        rows.append(
            [
                f'<span class="swatch" style="background:{plots.color(index)}"></span>{html.escape(name)}',
                _number(spectrum.trace),
                _number(spectrum.effective_rank()),
                f"{spectrum.num_resolved} of {len(spectrum.eigenvalues)}",
                _correlation(ranking),
                _exponent(ranking.decay),
                *first,
                *["-"] * (3 - len(first)),
            ]
        )
    return _table(heads.split("|"), rows, css="named")


def _mode_table(name: str, spectrum: Spectrum, ranking: FrequencyRanking) -> str:
    rows = _rows(spectrum, ranking, TABLE_MODES)
    spaces = np.asarray(ranking.eigenspace)[: len(rows)] + 1
    rows = [[*row, str(space)] for row, space in zip(rows, spaces, strict=True)]
    return _table([*_heads(ranking), "eigenspace"], rows, caption=html.escape(name), css="modes")


def _table(heads: list[str], rows: list[list[str]], caption: str = "", css: str = "") -> str:
    """A table of cells that are HTML."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    content = f"<table class='{css}'>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='scroll' tabindex='0'>{content}</div>"


def _flat(settings: dict[str, Any], prefix: str = "") -> list[list[str]]:
    """Rows of name and value, as HTML; the names of nested settings are joined by dots."""
    rows = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append([html.escape(f"{prefix}{name}"), html.escape(listed)])
    return rows


def _figure(name: str, svg: str, caption: str, css: str = "") -> str:
    """An SVG file within the page: without its header and comments, and with its identifiers made its own."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    label = html.escape(name.replace("_", " "))
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f'<figure class="{css}"><div class="picture">{svg}</div><figcaption>{caption}</figcaption></figure>'
