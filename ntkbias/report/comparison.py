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

import contextlib
import dataclasses
import html
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ntkbias import plots
from ntkbias.checks import require_positive
from ntkbias.comparison import ComparedKernel, Comparison
from ntkbias.domains import Images
from ntkbias.errors import InputError
from ntkbias.frequency import MEASURES
from ntkbias.report.page import drawn, html_figure, html_table, opening, slug_names, table_of
from ntkbias.report.style import SCRIPT
from ntkbias.report.themes import variable
from ntkbias.tables import Printed, Table, counted, number

__all__ = ["SCRIPT", "body", "figure_names", "figures", "table"]

TABLE_MODES = 20  # modes per kernel in the page's tables
FIGURE_MODES = 8
IMAGE_MODES = 5  # per kernel, where each has a row of images
MOST_HOVERED = 2_000  # modes per kernel whose numbers the page shows under the pointer
MOST_ROWS = 1_000  # of a table of comparisons
MOST_NAMED = 4  # kernels that the question names
FIRST_MODES = 3  # modes per kernel whose eigenvalues the table of kernels shows
KERNELS = """Eigenvalues are those of K / n, the kernel matrix divided by the number of inputs, so they do not grow with
n. The trace is their sum. The effective rank is exp(entropy) of their shares. Spearman's ρ is the rank correlation of
eigenvalue and frequency; it is -1 if low frequencies always come first. The decay exponent is the slope of eigenvalue
against frequency, over the modes of the dashed line. Both numbers leave out modes whose frequency the inputs do not
resolve."""
OF_MEANS = """Intervals of 95 % are those that the section on what is uncertain describes, each on its own. Numbers of
several runs are means."""
OF_RESAMPLES = """The range of the exponent spans the slopes of the thirds of the fitted modes, their trend continued by
one third, and the 95 % errors of the fit and of the sample of inputs. The 95 % interval of ρ keeps the modes fixed: it
shows what their uncertain frequencies change."""
MODES = """Modes are in the order in which they are learned, fastest first. The learning time is 1 / eigenvalue, in
units of steps × learning rate. In that time gradient flow reduces a mode's error by a factor of e, for one output or an
infinitely wide network. Modes of one eigenspace have eigenvalues too close to distinguish, and share their frequency;
any rotation of them is equally valid. Frequencies are in radians per unit of length.
Purity is the share of a mode's power that lies in its main degree. A > marks a lower bound of a frequency that the
inputs do not resolve."""
OVERVIEW = {  # one figure for all kernels
    "spectra": """The eigenvalues of each kernel, in descending order. The earlier and steeper a curve falls, the fewer
        functions are learned early. The dotted line is the noise floor; eigenvalues below it are rounding and are left
        out. For several runs of a network, a line is their median, and a band reaches from the lowest to the highest
        run.""",
    "frequency": """Each point is a mode, and higher points are learned sooner. Points that fall to the right show a
        preference for low frequencies. The dashed line is the power law, over the modes of its fit. If the points bend
        away from it, no single exponent describes them. Hollow marks, in the strip at the right, are modes whose
        frequency the inputs do not resolve: it is higher than they can tell.""",
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
        """The first modes over the inputs: along the angle, or as colors at the inputs in two coordinates (for point
        clouds, the first two principal components). The sign of a mode is arbitrary. "of 2-3" names an eigenspace,
        whose members are meaningful only together.""",
    ),
}
IMAGES = """What each of the first modes responds to. At the left are the inputs with its lowest and its highest values,
each with that value below: the network learns early to tell these two groups apart. "By pixel" is the correlation of
each pixel with the mode; its square is the share of the mode's variance that this pixel alone explains. Where all
pixels are pale, the mode is no sum of single pixels. "Mean by class" is the mode's mean in each class, with its
standard deviation within the class as a line: a mode whose means differ by more than these lines separates classes.
The sign of a mode is arbitrary, so the two groups may change places between kernels."""


def figures(comparison: Comparison) -> dict[str, Figure]:
    """All figures of the page for a comparison, by file name without suffix.

    They are "spectra", "frequency", "cumulative_power" if there are targets, "energy_<kernel>" if the domain has
    harmonics, and "eigenfunctions_<kernel>". <kernel> is the kernel's name in lower-case letters, digits and
    underscores. The figures belong to no window and need not be closed.
    """
    made = {
        "spectra": drawn(plots.spectra, comparison),
        "frequency": drawn(plots.eigenvalue_against_frequency, comparison, plots.frequency_size(len(comparison))),
    }
    if comparison.targets is not None and np.any(np.asarray(comparison.targets)):
        made["cumulative_power"] = drawn(plots.cumulative_power, comparison)
    slugs = slug_names(comparison.names)
    for slug, ranking in zip(slugs, comparison.rankings, strict=True):
        if ranking.energy is not None:
            made[f"energy_{slug}"] = drawn(plots.energy_per_degree, ranking)
    for index, (slug, name) in enumerate(zip(slugs, comparison.names, strict=True)):
        made[f"eigenfunctions_{slug}"] = _eigenfunctions(comparison, name, plots.color(index))
    return made


def _eigenfunctions(comparison: Comparison, name: str, color: str) -> Figure:
    """The first modes of a kernel: as images if its inputs are images, and else over the domain's chart."""
    spectrum, ranking = comparison[name]
    figure, known = Figure(), min(len(ranking.frequencies), spectrum.eigenfunctions.shape[-1])
    if not _are_images(comparison):
        axes = plots.panels(min(FIGURE_MODES, known), figure)
        plots.eigenfunctions(spectrum, ranking, comparison.domain, FIGURE_MODES, axes, color=color)
        return figure
    targets = comparison.targets
    classes = targets is not None and plots.classes_of(targets) is not None
    num_modes = min(IMAGE_MODES, known)
    axes = plots.panels_of_images(num_modes, classes, figure)
    plots.image_modes(spectrum, ranking, targets=targets, num_modes=num_modes, axes=axes, color=color)
    return figure


def _are_images(comparison: Comparison) -> bool:
    return isinstance(comparison.domain, Images) and plots.are_images(comparison.spectra[0])


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
    """The sections of the page as HTML: question and answer, figures (from `pictures`, SVG texts by name), tables."""
    shown = [name for name in ("frequency", *OVERVIEW) if name in pictures]  # which answers the question
    shown = list(dict.fromkeys(shown))
    wide = {"frequency"} if len(comparison) > 1 else set()
    overview = [
        html_figure(name, pictures[name], html.escape(OVERVIEW[name]), "wide" * (name in wide)) for name in shown
    ]
    parts = [
        opening(_question(comparison), comparison.answer(), comparison.uncertainty()),
        f"<h2>Spectra and frequencies</h2><p class='note'>{html.escape(_measure(comparison))}</p>",
        f"{_switches(comparison)}<div class='grid'>{''.join(overview)}</div>",
    ]
    slugs = dict(zip(slug_names(comparison.names), comparison.names, strict=True))
    for kind, (heading, text) in EACH.items():
        css = "named-figure" + " wide" * (kind != "energy")
        each = [
            html_figure(f"{kind}_{slug}", pictures[f"{kind}_{slug}"], html.escape(name), css, index)
            for index, (slug, name) in enumerate(slugs.items())
            if f"{kind}_{slug}" in pictures
        ]
        text = IMAGES if kind == "eigenfunctions" and _are_images(comparison) else text
        if each:
            parts.append(f"<h2>{heading}</h2><p class='note'>{text}</p><div class='grid'>{''.join(each)}</div>")
    intervals = OF_MEANS if any(any(kernel.is_random.values()) for _, kernel in comparison.items()) else OF_RESAMPLES
    about = f"<p class='note'>{KERNELS} {intervals}</p>"
    parts += [f"<h2>Kernels</h2>{_kernel_table(comparison)}{about}", *_tables(comparison)]
    modes = [
        f"<div data-kernel='{index}'>{_mode_table(name, kernel)}</div>"
        for index, (name, kernel) in enumerate(comparison.items())
    ]
    return [*parts, f"<h2>The first modes</h2><p class='note'>{MODES}</p><div class='grid'>{''.join(modes)}</div>"]


def _question(comparison: Comparison) -> str:
    """The question that the page answers, with the names of the kernels if they are few."""
    names, inputs = comparison.names, counted(len(comparison.spectra[0].weights), "input")
    where = f"on {inputs} ({type(comparison.domain).__name__})"
    if len(names) == 1:
        return f"Which functions does {names[0]} learn first {where}?"
    who = _listed(names) if len(names) <= MOST_NAMED else f"these {len(names)}"
    return f"Which functions does each of {who} learn first {where}?"


def _measure(comparison: Comparison) -> str:
    """What the frequency of a mode is, and whose modes are drawn if networks have several runs."""
    measure = comparison.rankings[0].measure
    known = MEASURES.get(measure)
    text = f"the measure {measure!r}" if known is None else known.text
    runs = max(kernel.runs for _, kernel in comparison.items())
    first = " Frequencies, modes and tables of modes are those of the first run of each." if runs > 1 else ""
    return f"The frequency of a mode, in radians per unit of length, is {text}.{first}"


def _switches(comparison: Comparison) -> str:
    """Switches for the kernels, with the numbers that the page shows under the pointer. The script makes them seen."""
    boxes = []
    for index, (name, kernel) in enumerate(comparison.items()):
        ranking, known = kernel.ranking, np.asarray(kernel.ranking.resolved)
        data: dict[str, Any] = {"kernel": index, "name": name}
        if len(known) <= MOST_HOVERED:
            modes = np.arange(1, len(known) + 1)
            data["values"] = map(number, np.asarray(ranking.eigenvalues))
            data["frequencies"] = map(number, np.asarray(ranking.frequencies))
            data["modes"], data["bounds"] = modes[known], modes[~known]
            data["curve"] = modes if kernel.runs == 1 else []  # of several runs, the curve is the median
        texts = {
            key: value if isinstance(value, str | int) else " ".join(map(str, value)) for key, value in data.items()
        }
        attributes = " ".join(f'data-{key}="{html.escape(str(text))}"' for key, text in texts.items())
        boxes.append(f'<label><input type="checkbox" checked {attributes}> {_swatch(index)}{html.escape(name)}</label>')
    return f"<div class='toggles' hidden>{''.join(boxes)}</div>"


def _swatch(index: int) -> str:
    return f'<span class="swatch" style="background:{variable(plots.color(index))}"></span>'


def _listed(names: Iterable[str]) -> str:
    """The names in a sentence; with semicolons if a name has a comma."""
    *first, last = names
    if any("," in name for name in (*first, last)):
        return "; ".join([*first, f"and {last}"]) if first else last
    return f"{', '.join(first)} and {last}" if first else last


def _kernel_table(comparison: Comparison) -> str:
    """A table with one row per kernel, which shows the kernel's color in the figures."""
    rows, facts = [], []
    for index, (name, kernel) in enumerate(comparison.items()):
        facts = kernel.facts()
        first = [number(value) for value in kernel.ranking.eigenvalues[:FIRST_MODES]]
        rows.append(
            [
                _swatch(index) + html.escape(name),
                *(fact.text for fact in facts),
                *first,
                *["-"] * (FIRST_MODES - len(first)),
            ]
        )
    heads = ["kernel", *(fact.label for fact in facts), *(f"mode {mode + 1}" for mode in range(FIRST_MODES))]
    return html_table(heads, rows, css="named kernels")


def _tables(comparison: Comparison) -> list[str]:
    """The tables of what was compared: differences, targets, learning curves, energy by frequency and similarity."""
    found: list[Callable[[], Printed]] = []
    if len(comparison) > 1:
        found += [comparison.verdicts, lambda: _similarity(comparison)]
    found += [comparison.by_target, comparison.learning_curves, comparison.by_frequency]
    sections, said = [], comparison.uncertainty()  # at the beginning of the page
    for make in found:
        with contextlib.suppress(InputError):  # which says that the comparison has nothing of this kind
            table = make().table(MOST_ROWS)
            notes = [note.replace(said, "").strip() for note in table.notes]
            if table.columns and table.rows:
                content = table_of(dataclasses.replace(table, title="", notes=notes), "named")
                sections.append(f"<h2>{html.escape(table.title)}</h2>{content}")
    return sections


def _similarity(comparison: Comparison) -> Printed:
    """The similarity of the first eigenfunctions, as many as all runs have above their noise, but at most ten."""
    known = [run.num_above_noise for _, kernel in comparison.items() for run in kernel.spectra]
    return comparison.similarity(min(10, *known))


def _mode_table(name: str, kernel: ComparedKernel) -> str:
    """The table of modes as in a terminal, but with the number of the eigenspace instead of a bracket."""
    columns = dict(kernel.table(TABLE_MODES).columns)
    del columns[""]
    columns["eigenspace"] = [str(space + 1) for space in np.asarray(kernel.ranking.eigenspace)[:TABLE_MODES]]
    rows = [[html.escape(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    return html_table(list(columns), rows, caption=html.escape(name), css="modes")
