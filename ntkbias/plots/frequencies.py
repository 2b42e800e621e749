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
from ntkbias.comparison import Comparison
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyRanking
from ntkbias.plots.drawing import MARKERS, axes_of, by_name, color, label_of, legend, plain_numbers
from ntkbias.tables import interval

__all__ = ["eigenvalue_against_frequency", "energy_per_degree"]


def eigenvalue_against_frequency(comparison: Comparison | FrequencyRanking, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalue of each mode in the ranking against its frequency, with the fitted power law.

    Both axes are logarithmic. If some modes have a frequency of zero or nearly zero, the frequency axis is linear up to
    the smallest other frequency, and its label says so. The dashed line is `FrequencyRanking.decay`, drawn over the
    fitted modes. The legend gives its exponent with the 95 % interval, and Spearman's rank correlation. The exponent is
    the slope over the fitted modes, which may differ from the asymptotic one. Hollow marks are modes whose frequency
    the inputs do not resolve.
    """
    rankings = by_name(comparison, FrequencyRanking, "rankings")
    ax = axes_of(ax)
    least = _least_on_logarithmic_axis(np.concatenate([np.asarray(r.frequencies) for r in rankings.values()]))
    for index, (name, ranking) in enumerate(rankings.items()):
        law = _law(ranking)
        _draw_ranking(ax, ranking, index, law if isinstance(comparison, FrequencyRanking) else label_of(name, law))
        if ranking.decay is not None:
            _draw_power_law(ax, ranking, least, color(index))
    label = "radians per unit of length"
    if min(float(np.min(r.frequencies)) for r in rankings.values()) < least:
        ax.set_xscale("symlog", linthresh=least, linscale=0.4)
        most = max(float(np.max(r.frequencies)) for r in rankings.values())
        ax.set_xlim(left=-0.15 * least, right=None if most >= least else least)
        label += f"; the axis is linear below {least:.2g}"
    else:
        ax.set_xscale("log")
    ax.set(yscale="log", xlabel=f"frequency ({label})", ylabel="eigenvalue of K / n")
    plain_numbers(ax.xaxis)
    if all(ranking.resolved.all() for ranking in rankings.values()):
        entries = []
    else:
        note = "hollow: not resolved, the frequency is a lower bound"
        entries = [Line2D([], [], linestyle="none", marker="o", color="0.4", fillstyle="none", label=note)]
    title = "slope of the dashed line (95 % interval), Spearman's ρ"
    legend(ax, *entries, title=title if isinstance(comparison, FrequencyRanking) else f"kernel: {title}")
    return ax


def energy_per_degree(ranking: FrequencyRanking, ax: Axes | None = None, num_modes: int = 40) -> Axes:
    """Draw the share of each mode's power in each degree as a heat map: modes along x, degrees along y.

    It shows the first `num_modes` modes, up to the last degree whose share is at least 5 % of the largest share. Raises
    `InputError` if the ranking was not made with harmonics.
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


def _draw_ranking(ax: Axes, ranking: FrequencyRanking, index: int, label: str) -> None:
    """One mark per mode: filled if its frequency is resolved, hollow if only a lower bound is known."""
    frequencies, eigenvalues = np.asarray(ranking.frequencies, float), np.asarray(ranking.eigenvalues, float)
    known = np.asarray(ranking.resolved)
    style: dict[str, Any] = {"s": 14, "marker": MARKERS[index % len(MARKERS)], "alpha": 0.55, "rasterized": True}
    ax.scatter(frequencies[known], eigenvalues[known], color=color(index), linewidths=0, label=label, **style)
    if not known.all():
        bounds = frequencies[~known], eigenvalues[~known]
        ax.scatter(*bounds, facecolors="none", edgecolors=color(index), linewidths=0.7, **style)


def _law(ranking: FrequencyRanking) -> str:
    """The exponent, its interval and Spearman's rho, as text for a legend."""
    law = "too few frequencies for a power law"
    if (decay := ranking.decay) is not None:
        law = f"exponent {interval(decay.exponent, decay.low, decay.high)}"
    rho = ranking.spearman_text.partition(" (")[0]
    return f"{law}, ρ {rho}".replace("-", "−")


def _least_on_logarithmic_axis(frequencies: Float[np.ndarray, " k"]) -> float:
    """The smallest frequency above a thousandth of the median. Below that, a mode is constant up to rounding."""
    positive = frequencies[frequencies > 1e-3 * np.median(frequencies)]
    return float(positive.min()) if len(positive) else 1.0


def _draw_power_law(ax: Axes, ranking: FrequencyRanking, least: float, color: str) -> None:
    """The fitted line over the fitted modes. Least squares on logarithms passes through their geometric mean."""
    assert ranking.decay is not None
    fitted = slice(ranking.decay.first, ranking.decay.last)
    frequencies, eigenvalues = np.asarray(ranking.frequencies, float)[fitted], np.asarray(ranking.eigenvalues)[fitted]
    positive = (frequencies > 0) & np.asarray(ranking.resolved)[fitted]
    middle_x, middle_y = (np.exp(np.mean(np.log(v[positive]))) for v in (frequencies, eigenvalues))
    ends = np.array([max(frequencies[positive].min(), least), frequencies[positive].max()])
    line = middle_y * (ends / middle_x) ** ranking.decay.exponent
    ax.plot(ends, line, "--", color=color, linewidth=1.6)
