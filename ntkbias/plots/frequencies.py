"""Figures of frequency: eigenvalues against frequency, and the power of modes in each degree.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(32)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> ranking = nb.rank_by_frequency(spectrum, nb.domains.Circle())
>>> nb.plots.energy_per_degree(ranking).get_ylabel()
'degree of the harmonics'
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ntkbias.checks import require_positive
from ntkbias.comparison import ComparedKernel, Comparison
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyRanking
from ntkbias.plots.drawing import (
    MARKERS,
    SIZE,
    axes_of,
    by_name,
    color,
    label_of,
    legend,
    new_figure,
    part_of,
    plain_numbers,
)

__all__ = ["eigenvalue_against_frequency", "energy_per_degree", "frequency_size"]

MOST_VECTOR_MARKS = 2_000  # per kernel: more of them make a large file, and are drawn as pixels
GOLDEN = 0.618  # its multiples, without their whole parts, are spread evenly
FAINT = "0.75"


def eigenvalue_against_frequency(comparison: Comparison | FrequencyRanking, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalue of each mode in the ranking against its frequency, with the fitted power law.

    A comparison of several kernels has one panel per kernel, with common scales: `ax` is their frame, and
    `ax.child_axes` are the panels. The title of a panel gives the exponent with the 95 % interval, and Spearman's rank
    correlation (for several runs of a network, their means); for a single kernel, the legend does. The marks are the
    modes of the first run. The dashed line is `FrequencyRanking.decay`, drawn over the
    fitted modes; thin gray lines are those of the other kernels. The exponent is the slope over the fitted modes, which
    may differ from the asymptotic one.

    Modes whose frequency the inputs do not resolve are hollow marks in a strip of their own on the right: for these
    only a lower bound of the frequency is known. Both axes are logarithmic. If some modes have a frequency of zero or
    nearly zero, the frequency axis is linear up to the smallest other frequency, and its label says so.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(32)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    >>> ax = nb.plots.eigenvalue_against_frequency(nb.rank_by_frequency(spectrum, circle))
    >>> ax.get_xlabel()
    'frequency (radians per unit of length; the axis is linear below 1)'
    """
    rankings = by_name(comparison, FrequencyRanking, "rankings")
    if ax is None and len(rankings) > 1:
        ax = new_figure(figsize=frequency_size(len(rankings)), layout="constrained").subplots()
    frame = axes_of(ax)
    several, strips = len(rankings) > 1, not all(ranking.resolved.all() for ranking in rankings.values())
    panels = _panels(frame, len(rankings), strips) if several else [(frame, _strip_beside(frame) if strips else None)]
    least = _least_on_logarithmic_axis(np.concatenate([np.asarray(r.frequencies) for r in rankings.values()]))
    for index, ((name, ranking), (panel, strip)) in enumerate(zip(rankings.items(), panels, strict=True)):
        law = _law(comparison[name] if isinstance(comparison, Comparison) else ranking)
        label = law if isinstance(comparison, FrequencyRanking) else label_of(name, law)
        _draw_ranking(panel, strip, ranking, index, label)
        for other, lawful in enumerate(rankings.values()):
            if lawful.decay is not None:
                _draw_power_law(panel, lawful, least, index if other == index else None)
        if several:
            panel.set_gid(part_of(index, "panel"))
            if strip is not None:
                strip.set_gid(part_of(index, "strip"))
            panel.set_title(f"{label_of(name)}\n{law}", fontsize=8, loc="left")
    label = "frequency (radians per unit of length"
    first = panels[0][0]
    if min(float(np.min(r.frequencies)) for r in rankings.values()) < least:
        first.set_xscale("symlog", linthresh=least, linscale=0.4)
        most = max(float(np.max(r.frequencies)) for r in rankings.values())
        first.set_xlim(left=-0.15 * least, right=None if most >= least else least)
        label += f"; the axis is linear below {least:.2g}"
    else:
        first.set_xscale("log")
    first.set_yscale("log")
    frame.set(xlabel=f"{label})", ylabel="eigenvalue of K / n")
    for panel, _ in panels:
        plain_numbers(panel.xaxis)
    entries = []
    if several:
        entries.append(Line2D([], [], linestyle="--", color="0.4", label="power law over the modes of its fit"))
        entries.append(Line2D([], [], linestyle="--", color=FAINT, label="those of the other kernels"))
    if strips:
        note = "not resolved: only a lower bound of the frequency is known"
        entries.append(Line2D([], [], linestyle="none", marker="o", color="0.4", fillstyle="none", label=note))
    title = "slope of the dashed line (95 % interval), Spearman's ρ"
    prefix = "" if isinstance(comparison, FrequencyRanking) else "kernel: "
    legend(frame, *entries, title=None if several else f"{prefix}{title}")
    return frame


def frequency_size(num_kernels: int) -> tuple[float, float]:
    """Inches of a figure that has room for `eigenvalue_against_frequency` of so many kernels.

    >>> import ntkbias as nb
    >>> nb.plots.frequency_size(1), nb.plots.frequency_size(4)
    ((7.0, 5.0), (7.4, 6.1))
    """
    if num_kernels == 1:
        return SIZE
    columns = _columns(num_kernels)
    return 1.2 + 3.1 * columns, 1.1 + 2.5 * -(-num_kernels // columns)


def _columns(num_kernels: int) -> int:
    return 2 if num_kernels <= 4 else 3


def _panels(frame: Axes, count: int, strips: bool) -> list[tuple[Axes, Axes | None]]:
    """Panels with common scales within a frame, each with a strip for unresolved modes if there are any."""
    columns = _columns(count)
    rows = -(-count // columns)
    frame.grid(False)
    frame.spines[:].set_visible(False)
    frame.set(xticks=[], yticks=[])
    frame.xaxis.labelpad, frame.yaxis.labelpad = 27 if strips else 18, 34  # room for the panels' own labels
    width, height = 1 / columns, 1 / rows
    made: list[tuple[Axes, Axes | None]] = []
    for index in range(count):
        row, column = divmod(index, columns)
        left, bottom = column * width, 1 - (row + 1) * height
        across, up = width * (1 if column == columns - 1 else 0.95), height * (0.8 if rows > 1 else 0.9)
        main = across * (0.83 if strips else 1)
        shared = made[0][0] if made else None
        panel = axes_of(frame.inset_axes((left, bottom, main, up), sharex=shared, sharey=shared))
        strip = None
        if strips:
            strip = _as_strip(frame.inset_axes((left + 0.86 * across, bottom, 0.14 * across, up), sharey=panel))
            if index + columns < count:
                strip.set_xlabel("")
        panel.tick_params(which="both", labelsize=8, labelbottom=index + columns >= count, labelleft=column == 0)
        made.append((panel, strip))
    return made


def _strip_beside(ax: Axes) -> Axes:
    """A strip to the right of the axes, with the same axis of eigenvalues."""
    return _as_strip(ax.inset_axes((1.02, 0, 0.12, 1), sharey=ax))


def _as_strip(strip: Axes) -> Axes:
    strip.tick_params(which="both", left=False, labelleft=False)
    strip.set(xticks=[], xlim=(-0.15, 1.15))
    strip.set_xlabel("not\nresolved", fontsize=7)
    strip.spines[:].set_visible(False)
    strip.set_facecolor("0.95")
    return strip


def energy_per_degree(ranking: FrequencyRanking, ax: Axes | None = None, num_modes: int = 40) -> Axes:
    """Draw the share of each mode's power in each degree as a heat map: modes along x, degrees along y.

    It shows the first `num_modes` modes, up to the last degree whose share is at least 5 % of the largest share. Raises
    `InputError` if the ranking was not made with harmonics.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(32)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    >>> ax = nb.plots.energy_per_degree(nb.rank_by_frequency(spectrum, circle))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('mode index', 'degree of the harmonics')
    """
    if not isinstance(ranking, FrequencyRanking):
        raise InputTypeError(f"Expected a FrequencyRanking; got {type(ranking).__name__}. Use comparison.rankings[i].")
    require_positive("num_modes", num_modes)
    if ranking.energy is None:
        raise InputError(
            f"Expected a ranking with the energy per degree; got one by the {ranking.measure} measure. "
            "Rank with measure='harmonic', on a domain with harmonics."
        )
    ax = axes_of(ax)
    energy = np.asarray(ranking.energy)[:num_modes]
    energy = energy[:, : np.flatnonzero(energy.max(0) >= 0.05 * energy.max())[-1] + 1]
    modes, degrees = energy.shape
    mesh = ax.pcolormesh(
        np.arange(modes + 1) + 0.5,
        np.arange(degrees + 1) - 0.5,
        energy.T,
        cmap="Blues",
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    ax.set(xlabel="mode index", ylabel="degree of the harmonics")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    labels = [str(level).strip("[]").replace(",", "") for level in np.asarray(ranking.levels)[:degrees].tolist()]
    if labels != [str(index) for index in range(degrees)]:  # degrees are missing, or a harmonic has several
        shown = range(0, degrees, -(-degrees // 24))
        ax.set_yticks(shown, [labels[index] for index in shown])
    bar = ax.figure.colorbar(mesh, ax=ax, label="share of the mode's power")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return ax


def _draw_ranking(ax: Axes, strip: Axes | None, ranking: FrequencyRanking, index: int, label: str) -> None:
    """One mark per mode: filled at its frequency if that is resolved, and otherwise hollow, in the strip."""
    frequencies, eigenvalues = np.asarray(ranking.frequencies, float), np.asarray(ranking.eigenvalues, float)
    known = np.asarray(ranking.resolved)
    style: dict[str, Any] = {"s": 14, "marker": MARKERS[index % len(MARKERS)], "alpha": 0.55}
    style["rasterized"] = len(known) > MOST_VECTOR_MARKS
    marks = ax.scatter(frequencies[known], eigenvalues[known], color=color(index), linewidths=0, label=label, **style)
    marks.set_gid(part_of(index, "modes"))
    if strip is not None and not known.all():
        spread = (np.arange(np.sum(~known)) * GOLDEN) % 1  # side by side, so that they do not hide each other
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 0.5, "markersize": 2.5}
        (bounds,) = strip.plot(
            spread, eigenvalues[~known], style["marker"], color=color(index), rasterized=style["rasterized"], **hollow
        )
        bounds.set_gid(part_of(index, "bounds"))


def _law(value: ComparedKernel | FrequencyRanking) -> str:
    """The exponent, its interval and Spearman's rho, as text for a legend: for several runs, their means."""
    facts = {fact.label: fact.text for fact in value.facts()}
    exponent = facts.get("decay exponent", "not defined").removesuffix(" against frequency")
    law = "too few frequencies for a power law" if exponent == "not defined" else f"exponent {exponent}"
    rho = facts["Spearman's rho"].partition(" (")[0]
    return f"{law}, ρ {rho}".replace("-", "−")


def _least_on_logarithmic_axis(frequencies: Float[np.ndarray, " k"]) -> float:
    """The smallest frequency above a thousandth of the median. Below that, a mode is constant up to rounding."""
    positive = frequencies[frequencies > 1e-3 * np.median(frequencies)]
    return float(positive.min()) if len(positive) else 1.0


def _draw_power_law(ax: Axes, ranking: FrequencyRanking, least: float, index: int | None) -> None:
    """The fitted line over the fitted modes, faint if it is that of another kernel.

    Least squares on logarithms passes through the geometric mean of the modes.
    """
    assert ranking.decay is not None
    fitted = slice(ranking.decay.first, ranking.decay.last)
    frequencies, eigenvalues = np.asarray(ranking.frequencies, float)[fitted], np.asarray(ranking.eigenvalues)[fitted]
    positive = (frequencies > 0) & np.asarray(ranking.resolved)[fitted]
    middle_x, middle_y = (np.exp(np.mean(np.log(v[positive]))) for v in (frequencies, eigenvalues))
    ends = np.array([max(frequencies[positive].min(), least), frequencies[positive].max()])
    line = middle_y * (ends / middle_x) ** ranking.decay.exponent
    if index is None:
        ax.plot(ends, line, "--", color=FAINT, linewidth=0.8, zorder=1)
    else:
        ax.plot(ends, line, "--", color=color(index), linewidth=1.6)
