"""Pictures of eigenvalues: measured, exact, counted by density, and the power of targets in their modes.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(16)
>>> ax = nb.plots.spectra(nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), x, weights=weights))
>>> ax.get_xlabel(), ax.get_ylabel()
('mode index', 'eigenvalue of K / n')
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, PercentFormatter

from ntkbias.comparison import Comparison
from ntkbias.eigen.density import SpectralDensity
from ntkbias.errors import InputError, InputTypeError
from ntkbias.exact import ExactSpectrum
from ntkbias.frequency import FrequencyRanking
from ntkbias.plots.drawing import axes_of, by_name, color, draw_modes, legend, plain_numbers
from ntkbias.spectra import Spectrum

__all__ = ["cumulative_power", "exact_and_measured", "spectra", "spectral_density"]


def spectra(comparison: Comparison | Spectrum, ax: Axes | None = None) -> Axes:
    """The eigenvalues of K / n against mode index, both on logarithmic axes, of each kernel or of one spectrum.

    Modes above the noise floor are drawn solid, the floor as a dotted line of the same color; what lies below it is
    rounding and left out.
    """
    named = by_name(comparison, Spectrum, "spectra")
    ax = axes_of(ax)
    for index, (name, spectrum) in enumerate(named.items()):
        values = np.asarray(spectrum.eigenvalues)[: spectrum.num_above_noise]
        floor = float(spectrum.noise_floor)
        draw_modes(ax, values, index, name)
        if floor > 0:
            ax.axhline(floor, color=color(index), linestyle=":", linewidth=1.2)
    ax.set(xscale="log", yscale="log", xlabel="mode index", ylabel="eigenvalue of K / n")
    ax.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=True))
    legend(ax, Line2D([], [], color="0.4", linestyle=":", label="noise floor"))
    return ax


def spectral_density(density: SpectralDensity, ax: Axes | None = None, *, width: float = 0.1) -> Axes:
    """The number of eigenvalues of K / n a decade, smoothed over `width` decades, on logarithmic axes.

    The band is two standard errors over probes either way, the thin line what too few Lanczos steps may add: where it
    comes near the curve, take more of them or a larger `width`. Ticks on the axis are modes known exactly. The legend
    counts what a logarithmic axis cannot show, eigenvalues about zero.

    Raises `InputTypeError` for other values, and `InputError` for a kernel that is zero.
    """
    if not isinstance(density, SpectralDensity):
        raise InputTypeError(
            f"Expected a SpectralDensity; got {type(density).__name__}. Use spectral_density(operator, key=...)."
        )
    floor, known = float(density.noise_floor), np.asarray(density.eigenvalues, float)
    nodes = np.concatenate([np.ravel(density.nodes)[np.ravel(density.weights) > 0], known])
    seen = nodes[nodes > floor]
    if not len(seen):
        raise InputError("Expected eigenvalues above the noise floor; got none. Is the kernel zero?")
    margin = 10 ** (4 * width)  # beyond it nothing is left of the outermost bump
    at = np.geomspace(seen.min() / margin, seen.max() * margin, 600)
    found = density.density(at, width)
    value, error = np.asarray(found.value), 2 * np.asarray(found.standard_error)
    least = 0.5  # eigenvalues a decade
    ax = axes_of(ax)
    ax.plot(at, value, color=color(0), linewidth=1.4, label=f"eigenvalues, smoothed over {width:g} decades")
    low, high = (np.maximum(value + side * error, least / 10) for side in (-1, 1))
    ax.fill_between(at, low, high, color=color(0), alpha=0.25, linewidth=0, label="± 2 standard errors over probes")
    ax.plot(at, found.numerical_error, color=color(1), linewidth=0.8, label="error by steps (estimate)")
    if len(known):
        label = f"the {len(known)} known exactly"
        ax.plot(known, np.full(len(known), 0.012), "|", color="0.25", transform=ax.get_xaxis_transform(), label=label)
    ax.set(xscale="log", yscale="log", ylim=(least, 2 * high.max()))
    ax.set(xlabel="eigenvalue of K / n", ylabel="number of eigenvalues a decade")
    shown = density.cumulative(at[0])
    hidden = density.num_rows - float(shown)
    entries = []
    if at[0] < floor:
        ax.axvline(floor, color="0.4", linestyle=":", linewidth=1.2)
        entries.append(Line2D([], [], color="0.4", linestyle=":", label="noise floor"))
    if hidden >= 0.5:
        spread = 2 * float(shown.standard_error) + float(shown.numerical_error)
        label = f"smaller than shown: {hidden:,.0f} ± {max(spread, 1):,.0f} of {density.num_rows:,} eigenvalues"
        entries.append(Line2D([], [], linestyle="none", label=label))
    legend(ax, *entries)
    return ax


def exact_and_measured(exact: ExactSpectrum, measured: Spectrum | FrequencyRanking, ax: Axes | None = None) -> Axes:
    """Eigenvalues of a domain's integral operator and those measured on a sample of it, on logarithmic axes.

    A `Spectrum` is drawn against mode index, the exact eigenvalues as a line with a step for each degree; a
    `FrequencyRanking` against frequency, with a mark for each degree. Where the two part, the sample no longer tells
    the operator's eigenvalue. Only exact eigenvalues above their errors and modes above the noise floor are drawn, and
    on logarithmic axes no frequency of zero. Raises `InputTypeError` for other values.
    """
    if not (isinstance(exact, ExactSpectrum) and isinstance(measured, Spectrum | FrequencyRanking)):
        got = f"{type(exact).__name__} and {type(measured).__name__}"
        raise InputTypeError(f"Expected an ExactSpectrum and a Spectrum or a FrequencyRanking; got {got}.")
    ax = axes_of(ax)
    found = np.asarray(measured.eigenvalues, float)
    if isinstance(measured, Spectrum):
        found = found[: measured.num_above_noise]
        places, label = np.arange(1, len(found) + 1), "mode index"
        known = exact.expand(int(min(len(found), np.sum(np.asarray(exact.multiplicities)[exact.above_error]))))
        true = np.asarray(known.eigenvalues)
        ax.plot(
            np.arange(1, len(true) + 1), true, "-", drawstyle="steps-mid", color="0.25", lw=1.4, label="exact", zorder=3
        )
    else:
        places, label = np.asarray(measured.frequencies, float), "frequency (radians per unit of length)"
        kept = exact.above_error & (np.asarray(exact.frequencies) > 0)
        true = np.asarray(exact.eigenvalues)[kept]
        ax.plot(np.asarray(exact.frequencies)[kept], true, "_", color="0.25", markersize=14, label="exact", zorder=3)
    drawn = places > 0
    style: dict[str, Any] = {"s": 14, "color": color(0), "alpha": 0.55, "linewidths": 0, "rasterized": True}
    ax.scatter(places[drawn], found[drawn], label="measured", **style)
    ax.set(xscale="log", yscale="log", xlabel=label, ylabel="eigenvalue of K / n")
    plain_numbers(ax.xaxis)
    legend(ax)
    return ax


def cumulative_power(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """The share of the targets' power in the first k modes, against k, of each kernel; see `Spectrum.cumulative_power`.

    Several targets are taken together, each with its power as weight. Modes below the noise floor are left out, so
    that a curve need not reach one. Raises `InputError` for a comparison without targets.
    """
    if not isinstance(comparison, Comparison):
        raise InputTypeError(f"Expected a Comparison; got {type(comparison).__name__}. Use compare(kernels, x, ...).")
    if comparison.targets is None:
        raise InputError("Expected a comparison with targets; got none. Use compare(kernels, x, domain, targets=y).")
    power = [_power_of_all_targets(spectrum, comparison.targets) for spectrum in comparison.spectra]
    ax = axes_of(ax)
    for index, (name, shares) in enumerate(zip(comparison.names, power, strict=True)):
        draw_modes(ax, shares, index, name)
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="number of modes k, fastest learned first")
    ax.set_ylabel("share of the targets' power\nin the first k modes")
    ax.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend(ax)
    return ax


def _power_of_all_targets(spectrum: Spectrum, targets: Array) -> Float[np.ndarray, " k"]:
    """The mean over targets of their cumulative power, weighted with the power that each has."""
    shares = np.asarray(spectrum.cumulative_power(targets))
    shares = shares.reshape(len(shares), -1)
    power = np.tensordot(np.asarray(spectrum.weights), np.asarray(targets) ** 2, 1).reshape(-1, shares.shape[1]).sum(0)
    if not power.any():
        raise InputError("Expected targets that are not zero everywhere; got only zeros.")
    return np.average(shares[: spectrum.num_above_noise, power > 0], axis=1, weights=power[power > 0])
