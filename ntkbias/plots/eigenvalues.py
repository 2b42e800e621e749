"""Figures of eigenvalues: measured, exact, as a density, and the power of targets in their modes.

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

from ntkbias.comparison import ComparedKernel, Comparison
from ntkbias.eigen import SpectralDensity
from ntkbias.errors import InputError, InputTypeError
from ntkbias.exact import ExactSpectrum
from ntkbias.frequency import FrequencyRanking
from ntkbias.plots.drawing import axes_of, by_name, color, draw_modes, legend, part_of, plain_numbers
from ntkbias.spectra import Spectrum

__all__ = ["cumulative_power", "exact_and_measured", "spectra", "spectral_density"]


def spectra(comparison: Comparison | Spectrum, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of K / n against mode index, on logarithmic axes, for each kernel or for one spectrum.

    Solid lines show the modes above the noise floor. A dotted line of the same color marks the floor. Modes below the
    floor are rounding error, and are left out. For several runs of a network, a line is their median, and a band
    reaches from the lowest to the highest run.

    >>> import ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2))
    >>> ax = nb.plots.spectra(nb.spectrum(kernel, x, weights=weights))
    >>> ax.get_xscale(), ax.get_yscale()
    ('log', 'log')
    """
    named = by_name(comparison, Spectrum, "spectra")
    ax = axes_of(ax)
    num_runs = 1
    for index, (name, spectrum) in enumerate(named.items()):
        runs = _runs(comparison[name]) if isinstance(comparison, Comparison) else spectrum.eigenvalues[None]
        num_runs = max(num_runs, len(runs))
        shown = np.min(np.sum(np.asarray(runs) > np.asarray(spectrum.noise_floor), 1))
        values = np.asarray(runs)[:, :shown]
        floor = float(spectrum.noise_floor)
        draw_modes(ax, values if len(values) > 1 else values[0], index, name)
        if floor > 0:
            ax.axhline(floor, color=color(index), linestyle=":", linewidth=1.2, gid=part_of(index, "floor"))
    ax.set(xscale="log", yscale="log", xlabel="mode index", ylabel="eigenvalue of K / n")
    ax.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=True))
    entries = [Line2D([], [], color="0.4", linestyle=":", label="noise floor")]
    if num_runs > 1:
        label = f"from the lowest to the highest of {num_runs} runs"
        entries.append(Line2D([], [], color="0.6", linewidth=6, alpha=0.4, label=label))
    legend(ax, *entries)
    return ax


def _runs(kernel: ComparedKernel) -> Float[np.ndarray, "r k"]:
    """The eigenvalues of all runs: all of them if the comparison has them, or those that it keeps with functions."""
    if kernel.eigenvalues is not None:
        return np.asarray(kernel.eigenvalues)
    shown = min(len(run.eigenvalues) for run in kernel.spectra)
    return np.stack([np.asarray(run.eigenvalues)[:shown] for run in kernel.spectra])


def spectral_density(density: SpectralDensity, ax: Axes | None = None, *, width: float = 0.1) -> Axes:
    """Draw the number of eigenvalues of K / n per decade, smoothed over `width` decades, on logarithmic axes.

    The band is plus or minus two standard errors over probes. The thin line estimates the error from the number of
    Lanczos steps: if it comes near the curve, use more steps or a larger `width`. Ticks at the bottom mark modes that
    are known exactly. A logarithmic axis cannot show eigenvalues near zero: the legend counts them.

    Raises `InputTypeError` on other values, and `InputError` if no eigenvalue is above the noise floor.

    >>> import jax, ntkbias as nb
    >>> x = jax.random.normal(jax.random.key(0), (64, 3))
    >>> density = nb.eigen.spectral_density(nb.infinite_ntk(nb.nets.mlp(depth=1)).operator(x), key=jax.random.key(1))
    >>> nb.plots.spectral_density(density).get_xlabel()
    'eigenvalue of K / n'
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
    margin = 10 ** (4 * width)  # four widths beyond the outermost eigenvalue, its bump has vanished
    at = np.geomspace(seen.min() / margin, seen.max() * margin, 600)
    found = density.density(at, width)
    value, error = np.asarray(found.value), 2 * np.asarray(found.standard_error)
    least = 0.5  # eigenvalues per decade
    ax = axes_of(ax)
    ax.plot(at, value, color=color(0), linewidth=1.4, label=f"eigenvalues, smoothed over {width:g} decades")
    low, high = (np.maximum(value + side * error, least / 10) for side in (-1, 1))
    ax.fill_between(at, low, high, color=color(0), alpha=0.25, linewidth=0, label="± 2 standard errors over probes")
    ax.plot(at, found.numerical_error, color=color(1), linewidth=0.8, label="error from Lanczos steps (estimate)")
    if len(known):
        label = f"the {len(known)} known exactly"
        ax.plot(known, np.full(len(known), 0.012), "|", color="0.25", transform=ax.get_xaxis_transform(), label=label)
    ax.set(xscale="log", yscale="log", ylim=(least, 2 * high.max()))
    ax.set(xlabel="eigenvalue of K / n", ylabel="number of eigenvalues per decade")
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
    """Draw the exact eigenvalues of a domain's integral operator and those measured on a sample, on logarithmic axes.

    A `Spectrum` is drawn against mode index, and the exact eigenvalues are a line with one step per degree. A
    `FrequencyRanking` is drawn against frequency, with one mark per degree. Where the two separate, the sample no
    longer determines the operator's eigenvalues. Exact eigenvalues below their errors and modes below the noise floor
    are left out, and so are frequencies of zero. Raises `InputTypeError` on other values.

    >>> import jax, ntkbias as nb
    >>> sphere, kernel = nb.domains.Sphere(3), nb.infinite_ntk(nb.nets.mlp(depth=2))
    >>> exact = nb.exact_spectrum(kernel, sphere, max_degree=6)
    >>> sample = nb.spectrum(kernel, sphere.sample(64, key=jax.random.key(0)))
    >>> nb.plots.exact_and_measured(exact, sample).get_xlabel()
    'mode index'
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
    """Draw the share of the targets' power in the first k modes against k, for each kernel.

    See `Spectrum.cumulative_power`. Several targets are averaged, each with its power as weight. Modes below the noise
    floor are left out, so a curve may end below one. Raises `InputError` if the comparison has no targets.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
    >>> found = nb.compare(kernels, x, nb.domains.Circle(), weights=weights, targets=jnp.sign(x[:, 0] + 0.1))
    >>> nb.plots.cumulative_power(found).get_xscale()
    'log'
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
    """The mean of the targets' cumulative power, weighted by the power of each target."""
    shares = np.asarray(spectrum.cumulative_power(targets))
    shares = shares.reshape(len(shares), -1)
    power = np.tensordot(np.asarray(spectrum.weights), np.asarray(targets) ** 2, 1).reshape(-1, shares.shape[1]).sum(0)
    if not power.any():
        raise InputError("Expected targets that are not zero everywhere; got only zeros.")
    return np.average(shares[: spectrum.num_above_noise, power > 0], axis=1, weights=power[power > 0])
