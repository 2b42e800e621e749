"""A history of training as sections of a page, as figures by file name, and as a table for a terminal.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.report import history
>>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
>>> params, data = net.init(jax.random.key(0), (2,)), (x, jnp.sign(x[:, 0] + 0.1))
>>> options = {"optimizer": optax.sgd(0.1), "num_steps": 9}
>>> probe = nb.tracking.Probe(domain=nb.domains.Circle())
>>> found = nb.track(net.apply, params, data, probe=probe, **options)
>>> list(history.figures(found))
['evolution', 'eigenvalues', 'alignments', 'residual_spectrum', 'output_spectrum']
>>> history.table(found, 3).splitlines()[0].split()[:2]
['step', 'time']
"""

import html
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ntkbias import plots
from ntkbias.checks import require_positive
from ntkbias.plots.drawing import NUM_COLUMNS
from ntkbias.report.page import drawn, html_figure, html_table, opening
from ntkbias.tables import Table, counted, explained, number, spaced
from ntkbias.tracking import History
from ntkbias.tracking.measures import ALL

__all__ = ["SCRIPT", "body", "figure_names", "figures", "table"]

SCRIPT = ""  # the page needs none
TABLE_ROWS = 30  # rows of the page's table
TEXTS = {
    "evolution": """The measures along training, one panel per kind. If there are several runs, a line is their median,
        and a band reaches from the lowest to the highest run. The kernel drift is the change of the kernel since
        the start, divided by its norm at the start. Time is steps times learning rate, and frequencies are in radians
        per unit of length.""",
    "eigenvalues": """The largest eigenvalues of K / n. Each line follows one of them from snapshot to snapshot, by the
        overlap of eigenfunctions. If a line rises, its function is learned faster than the initial kernel predicts.
        The dotted line, if there is one, is 2 / learning rate. Where a line is above it, each step of gradient descent
        makes the error in that mode larger: the loss rises, until training diverges or has moved to where the
        eigenvalue is smaller. So a loss that first spikes and then falls, and eigenvalues that stay close to the dotted
        line, are signs of a large learning rate. The limit holds for the squared error, steps on all examples, and the
        kernel of all outputs on these examples; on a probe, or for the mean over outputs, it is a guide.""",
    "alignments": """How closely the kernel is aligned with the labels, from 0 to 1. The alignment is centered: the
        means over the probe are subtracted from features and labels. The uncentered alignment keeps them. The two are
        different quantities and may move in opposite directions.""",
}
SPECTROGRAM = """by frequency. In a residual, a frequency is learned when its column turns from dark to light; in
    outputs, when it turns from light to dark. Frequencies beyond the last one with power on this scale are left out."""


def figures(history: History) -> dict[str, Figure]:
    """All figures of the page for a history, by file name without suffix.

    They are "evolution", "eigenvalues" and "alignments" if they were measured, and one for each measure of power by
    frequency under its name, such as "residual_spectrum". The figures belong to no window and need not be closed.
    """
    made = {"evolution": _evolution(history)}
    if "eigenvalues" in history:
        made["eigenvalues"] = drawn(plots.eigenvalue_trajectories, history)
    if "alignment" in history or "uncentered_alignment" in history:
        made["alignments"] = drawn(plots.alignments, history)
    for name in history:
        if history.axes_of(name)[-1] == "level" and history.level_frequencies is not None:
            figure = made[name] = Figure(figsize=plots.SIZE, layout="constrained")
            plots.frequency_spectrogram(history, figure.subplots(), measure=name)
    return made


def figure_names() -> list[str]:
    """The names that `figures` may return for a history of the built-in measures."""
    return [*TEXTS, *(name for name, measure in ALL.items() if getattr(measure, "axes", ())[-1:] == ("level",))]


def table(history: History, num_rows: int = 10) -> str:
    """At most `num_rows` snapshots, from first to last, as text; medians if there are several runs."""
    require_positive("num_rows", num_rows)
    runs = "" if history.num_runs is None else f"medians of {counted(history.num_runs, 'run')}"
    columns = _columns(history, num_rows)
    stopped = [f"stopped: {history.stopped}"] if history.stopped else []
    return Table(runs, columns, [*stopped, " ".join(explained(columns))]).text()


def body(history: History, pictures: dict[str, str]) -> list[str]:
    """The sections of the page as HTML: question, answer, figures (from `pictures`, SVG texts by name), snapshots."""
    shown = [
        html_figure(name, svg, html.escape(_text(history, name)), "wide" * (name == "evolution"))
        for name, svg in pictures.items()
    ]
    columns = _columns(history, TABLE_ROWS)
    cells = [[html.escape(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    return [
        opening(_question(history), _answer(history), _uncertainty(history)),
        f"<h2>Along training</h2><div class='grid'>{''.join(shown)}</div>",
        f"<h2>First and last snapshot</h2>{_ends(history)}",
        f"<h2>Snapshots</h2><p class='note'>{' '.join(map(html.escape, explained(columns)))}</p>",
        f"{html_table([html.escape(head) for head in columns], cells)}",
    ]


def _question(history: History) -> str:
    learned = ", and which frequencies does the network learn when" if "residual_frequency" in history else ""
    return f"How does the kernel change while the network trains{learned}?"


def _answer(history: History) -> str:
    """Two sentences: how far the kernel moved while the loss fell, and what it has to do with labels and frequency."""
    facts = {fact.label: fact.value for fact in history.facts()}
    steps = np.asarray(history.steps)
    span = f"From step {steps[0]:,} to step {steps[-1]:,}"
    first, second = [], []
    if "loss" in facts:
        first.append(f"the loss went {_from_to(facts['loss'])}")
    if "kernel drift" in facts and facts["kernel drift"][1] is not None:
        first.append(f"the kernel moved by {number(facts['kernel drift'][1])} times its initial norm")
    if "alignment" in history:
        values = history.medians("alignment")
        second.append(f"the centered alignment of kernel and labels {_from_to([values[0], values[-1]])}")
    for label, text in (
        ("residual's frequency", "the frequency of what is still to be learned"),
        ("effective rank", "the effective rank of the kernel"),
    ):
        if label in facts:
            second.append(f"{text} {_from_to(facts[label])}")
    if not first and not second:
        first = [f"{len(facts)} measures were taken"]
    sentences = [f"{span}, {' and '.join(first)}."] if first else []
    if second:
        start = "Meanwhile, " if first else f"{span}, "
        sentences.append(f"{start}{_listed(second)}.")
    return " ".join(sentences)


def _from_to(ends: Sequence[float | None]) -> str:
    low, high = (number(math.nan if end is None else end) for end in ends)
    return f"from {low} to {high}"


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _uncertainty(history: History) -> str:
    """What the numbers do not include: other seeds, other inputs, and what comes between snapshots."""
    inputs = counted(len(history.probe), "input")
    snapshots = f"Between the {counted(len(history), 'snapshot')}, nothing was measured."
    if history.num_runs is None:
        runs = "This is one run: another initialization or order of examples may give other numbers."
    else:
        runs = (
            f"Numbers are medians of {counted(history.num_runs, 'run')}, and bands reach from the lowest to the "
            "highest run. A band is no confidence interval: further runs may lie outside of it."
        )
    stopped = [f"Training stopped early: {history.stopped}."] if history.stopped else []
    return " ".join([*stopped, runs, f"The kernel is that on {inputs}, the probe.", snapshots])


def _ends(history: History) -> str:
    """A table of the facts, each at the first and at the last snapshot."""
    rows = [
        [html.escape(fact.label), *(number(math.nan if end is None else end) for end in fact.value)]
        for fact in history.facts()
    ]
    return html_table(["measure", "at first", "at last"], rows, css="named")


def _text(history: History, name: str) -> str:
    """The caption that explains how to read a figure."""
    if name == "eigenvalues":
        return f"{TEXTS[name]} {_crossings(history)}"
    if name in TEXTS:
        return TEXTS[name]
    title = dict(history.panels).get(name, (name,))[0]
    return f"{title[0].upper()}{title[1:]}, {SPECTROGRAM}"


def _crossings(history: History) -> str:
    """At which snapshots the largest eigenvalue was above 2 / learning rate, as a sentence; "" for several runs."""
    rates = np.asarray(history.learning_rates)
    if history.num_runs is not None or not (np.isfinite(rates).all() and np.all(rates > 0)):
        return ""
    largest = np.asarray(history["eigenvalues"])[:, 0] * rates / 2
    above = np.flatnonzero(largest > 1)
    if not len(above):
        return f"Here the largest eigenvalue is at most {number(np.nanmax(largest))} times the dotted line."
    first = f"first at step {int(history.steps[above[0]]):,}"
    return f"Here the largest eigenvalue is above the dotted line at {len(above)} of {len(largest)} snapshots, {first}."


def _columns(history: History, num_rows: int) -> dict[str, list[str]]:
    """The columns of a table with one row per snapshot, for at most `num_rows` snapshots at about equal distances."""
    chosen = spaced(len(history), num_rows)
    found = {"step": [f"{int(history.steps[at]):,}" for at in chosen]}
    times = np.asarray(history.times, float)
    times = times if history.num_runs is None else np.median(times, 0)
    if np.isfinite(times).all():
        found["time"] = [number(times[at]) for at in chosen]
    for name, head in history.columns:
        values = history.medians(name)
        found[head] = [number(values[at]) for at in chosen]
    return found


def _evolution(history: History) -> Figure:
    figure = Figure(layout="constrained")
    count = plots.num_panels(history)
    columns = min(NUM_COLUMNS, count)
    rows = -(-count // columns)
    figure.set_size_inches(plots.PANEL[0] * columns + 0.6, plots.PANEL[1] * rows + 0.2)
    plots.evolution(history, figure.subplots(rows, columns, squeeze=False))
    return figure
