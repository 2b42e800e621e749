"""A comparison as sections of a page, as figures by file name, and as a table for a terminal.

>>> import ntkbias as nb
>>> from ntkbias.report import comparison
>>> x, weights = nb.domains.Circle().quadrature(32)
>>> found = nb.compare({"mlp": nb.infinite_ntk(nb.nets.mlp())}, x, nb.domains.Circle(), weights=weights)
>>> list(comparison.figures(found))
['spectra', 'frequency', 'energy_mlp', 'eigenfunctions_mlp']
>>> print(comparison.table(found, 3).splitlines()[0])
mlp
"""

import dataclasses
import html
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from ntkbias import plots
from ntkbias.checks import require_positive
from ntkbias.comparison import ComparedKernel, Comparison
from ntkbias.frequency import MEASURES
from ntkbias.report.page import drawn, html_figure, html_table, slug_names
from ntkbias.tables import Fact, Table, counted, number

__all__ = ["body", "figure_names", "figures", "table"]

TABLE_MODES = 20  # modes per kernel in the page's tables
FIGURE_MODES = 8
FIRST_MODES = 3  # modes per kernel whose eigenvalues the table of kernels shows
KERNELS = """Eigenvalues are those of K / n, the kernel matrix divided by the number of inputs, so they do not grow with
n. The trace is their sum. The effective rank is exp(entropy) of their shares. Spearman's ρ is the rank correlation of
eigenvalue and frequency; it is -1 if low frequencies always come first. The decay exponent is the slope of
eigenvalue against frequency, over the modes of the dashed line. Its range spans the slopes of the thirds of these
modes, their trend continued by one third, and the 95 % errors of the fit and of the sample of inputs. The 95 %
interval of ρ keeps the modes fixed: it shows what their uncertain frequencies change. Both numbers leave out modes
whose frequency the inputs do not resolve."""
MODES = """Modes are in the order in which they are learned, fastest first. The learning time is 1 / eigenvalue, in
units of steps × learning rate. In that time gradient flow reduces a mode's error by a factor of e, for one output or an
infinitely wide network. Modes of one eigenspace have eigenvalues too close to distinguish, and share their frequency;
any rotation of them is equally valid. Frequencies are in radians per unit of length.
Purity is the share of a mode's power that lies in its main degree. A > marks a lower bound of a frequency that the
inputs do not resolve."""
OVERVIEW = {  # one figure for all kernels
    "spectra": """The eigenvalues of each kernel, in descending order. The earlier and steeper a curve falls, the fewer
        functions are learned early. The dotted line is the noise floor; eigenvalues below it are rounding and are left
        out.""",
    "frequency": """Each point is a mode. Points that fall to the right show a preference for low frequencies. The
        dashed line is the power law, over the modes of its fit. If the points bend away from it, no single exponent
        describes them. Hollow marks are modes that the inputs do not resolve; their frequency is a lower bound.""",
    "cumulative_power": """The share of the targets' power in the first k modes, summed over targets. A curve that rises
        early belongs to a kernel that learns these targets early.""",
}
EACH = {  # one figure per kernel: heading and text
    "energy": (
        "Energy per degree",
        """The harmonics in each mode. A column with one dark cell is a mode of a single frequency. A rising staircase
        shows a preference for low frequencies. The members of an eigenspace share their energy.""",
    ),
    "eigenfunctions": (
        "Eigenfunctions",
        """The first modes over the inputs: along the angle, or as colors at the inputs in two coordinates (for images
        and point clouds, the first two principal components). The sign of a mode is arbitrary. "of 2-3" names an
        eigenspace, whose members are meaningful only together.""",
    ),
}


def figures(comparison: Comparison) -> dict[str, Figure]:
    """All figures of the page for a comparison, by file name without suffix.

    They are "spectra", "frequency", "cumulative_power" if there are targets, "energy_<kernel>" if the domain has
    harmonics, and "eigenfunctions_<kernel>". <kernel> is the kernel's name in lower-case letters, digits and
    underscores. The figures belong to no window and need not be closed.
    """
    made = {
        "spectra": drawn(plots.spectra, comparison),
        "frequency": drawn(plots.eigenvalue_against_frequency, comparison),
    }
    if comparison.targets is not None and np.any(np.asarray(comparison.targets)):
        made["cumulative_power"] = drawn(plots.cumulative_power, comparison)
    slugs = slug_names(comparison.names)
    for slug, ranking in zip(slugs, comparison.rankings, strict=True):
        if ranking.energy is not None:
            made[f"energy_{slug}"] = drawn(plots.energy_per_degree, ranking)
    for index, (slug, (_, (spectrum, ranking))) in enumerate(zip(slugs, comparison.items(), strict=True)):
        figure = made[f"eigenfunctions_{slug}"] = Figure()
        axes = plots.panels(min(FIGURE_MODES, len(ranking.frequencies)), figure)
        plots.eigenfunctions(spectrum, ranking, comparison.domain, FIGURE_MODES, axes, color=plots.color(index))
    return made


def figure_names(kernels: list[str]) -> list[str]:
    """The names that `figures` may return for a comparison of kernels with these names."""
    return [*OVERVIEW, *(f"{kind}_{slug}" for slug in slug_names(kernels) for kind in EACH)]


def table(comparison: Comparison, num_modes: int = 10) -> str:
    """The comparison's own table if there are several kernels, then the first modes of each, with its facts below.

    The text has at most 100 columns. Brackets before the rows join the members of one eigenspace. Notes on the columns
    come last.
    """
    require_positive("num_modes", num_modes)
    tables = [comparison.table(len(comparison))] if len(comparison) > 1 else []
    notes: dict[str, None] = {}
    for name, kernel in comparison.items():
        modes = kernel.table(num_modes)
        facts, *sentences = modes.notes
        notes |= dict.fromkeys(sentences)
        tables.append(dataclasses.replace(modes, title=name, notes=[facts]))
    return "\n\n".join(table.text() for table in [*tables, Table("", notes=[" ".join(notes)])])


def body(comparison: Comparison, pictures: dict[str, str]) -> list[str]:
    """The sections of the page as HTML: summary, kernels, figures (from `pictures`, SVG texts by name), modes."""
    shown = [name for name in OVERVIEW if name in pictures]
    overview = [html_figure(name, pictures[name], html.escape(OVERVIEW[name])) for name in shown]
    parts = [
        f"<p>{html.escape(_summary(comparison))}</p>",
        f"<h2>Kernels</h2>{_kernel_table(comparison)}<p class='note'>{KERNELS}</p>",
        f"<h2>Spectra and frequencies</h2><div class='grid'>{''.join(overview)}</div>",
    ]
    slugs = dict(zip(slug_names(comparison.names), comparison.names, strict=True))
    for kind, (heading, text) in EACH.items():
        each = [
            html_figure(f"{kind}_{slug}", pictures[f"{kind}_{slug}"], html.escape(name), "wide" * (kind != "energy"))
            for slug, name in slugs.items()
            if f"{kind}_{slug}" in pictures
        ]
        if each:
            parts.append(f"<h2>{heading}</h2><p class='note'>{text}</p><div class='grid'>{''.join(each)}</div>")
    modes = [_mode_table(name, kernel) for name, kernel in comparison.items()]
    return [*parts, f"<h2>The first modes</h2><p class='note'>{MODES}</p><div class='grid'>{''.join(modes)}</div>"]


def _summary(comparison: Comparison) -> str:
    """Which kernel prefers low frequencies most, by rank and by decay, and the range of effective ranks."""
    names, rankings = comparison.names, comparison.rankings
    known = MEASURES.get(rankings[0].measure)
    measure = f"the measure {rankings[0].measure!r}" if known is None else known.text
    kernels = "One kernel" if len(names) == 1 else f"{len(names)} kernels"
    inputs = counted(len(comparison.spectra[0].weights), "input")
    sentences = [
        f"{kernels} on {inputs} ({type(comparison.domain).__name__}). The frequency of a mode, in radians per unit of "
        f"length, is {measure}."
    ]
    if len(names) == 1:
        return " ".join([*sentences, *_about_one(comparison)])
    facts = _facts(comparison)
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
        overlap = f", whose interval overlaps with that of {_listed(alike)}" if alike else ""
        text = facts[steepest]["decay exponent"].text
        sentences.append(f"The steepest decay: {steepest}, with an exponent of {text}{overlap}.")
    ranks = {name: found["effective rank"] for name, found in facts.items()}
    low, high = min(ranks, key=lambda name: ranks[name].value), max(ranks, key=lambda name: ranks[name].value)
    spread = "is" if low == high else f"goes from {ranks[low].text} ({low}) to"
    sentences.append(f"The effective rank {spread} {ranks[high].text} ({high}).")
    return " ".join(sentences)


def _about_one(comparison: Comparison) -> list[str]:
    """Whether a single kernel prefers low frequencies, by rank and by decay, and its effective rank."""
    (ranking,), (facts,) = comparison.rankings, _facts(comparison).values()
    sentences = []
    if np.isfinite(ranking.spearman):
        rho = round(ranking.spearman, 3)
        verdict = (
            "The kernel prefers low frequencies by rank" if rho < 0 else "The kernel does not prefer low frequencies"
        )
        sentences.append(f"{verdict}, with a Spearman's ρ of {rho:.3f} between eigenvalue and frequency.")
    if ranking.decay is not None:
        sentences.append(f"Its eigenvalues decay with an exponent of {facts['decay exponent'].text}.")
    return [*sentences, f"Its effective rank is {facts['effective rank'].text}."]


def _facts(comparison: Comparison) -> dict[str, dict[str, Fact]]:
    """The facts of each kernel by their labels."""
    return {name: {fact.label: fact for fact in kernel.facts()} for name, kernel in comparison.items()}


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _kernel_table(comparison: Comparison) -> str:
    """A table with one row per kernel, which shows the kernel's color in the figures."""
    rows, facts = [], []
    for index, (name, kernel) in enumerate(comparison.items()):
        facts = kernel.facts()
        first = [number(value) for value in kernel.ranking.eigenvalues[:FIRST_MODES]]
        swatch = f'<span class="swatch" style="background:{plots.color(index)}"></span>{html.escape(name)}'
        rows.append([swatch, *(fact.text for fact in facts), *first, *["-"] * (FIRST_MODES - len(first))])
    heads = ["kernel", *(fact.label for fact in facts), *(f"mode {mode + 1}" for mode in range(FIRST_MODES))]
    return html_table(heads, rows, css="named")


def _mode_table(name: str, kernel: ComparedKernel) -> str:
    """The table of modes as in a terminal, but with the number of the eigenspace instead of a bracket."""
    columns = dict(kernel.table(TABLE_MODES).columns)
    del columns[""]
    columns["eigenspace"] = [str(space + 1) for space in np.asarray(kernel.ranking.eigenspace)[:TABLE_MODES]]
    rows = [[html.escape(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    return html_table(list(columns), rows, caption=html.escape(name), css="modes")
