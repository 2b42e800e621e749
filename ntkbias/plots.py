"""Pictures: one function a picture, from a value and axes to the axes. What is drawn is read off the values.

Each function draws on `ax`, or on a new figure of pyplot if there is none. In all pictures of one comparison a kernel
has the same colour: that of its place among `names`, from a palette that colour-blind readers tell apart (Okabe and
Ito 2008). Modes are numbered from one, as in the tables of `report`.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(16)
>>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
>>> ax = nb.plots.spectra(nb.compare(kernels, x, nb.domains.Circle(), weights=weights))
>>> ax.get_xlabel(), ax.get_ylabel()
('mode index', 'eigenvalue of K / n')
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from ntkbias import results
from ntkbias.compare import Comparison
from ntkbias.domains import Circle, Domain
from ntkbias.eigen.density import SpectralDensity
from ntkbias.exact import ExactSpectrum
from ntkbias.frequency import FrequencyRanking
from ntkbias.spectrum import Spectrum
from ntkbias.types import InputError, InputTypeError, require_positive

__all__ = [
    "PANEL",
    "SIZE",
    "color",
    "cumulative_power",
    "eigenfunctions",
    "eigenvalue_against_frequency",
    "energy_per_degree",
    "exact_and_measured",
    "panels",
    "save",
    "spectra",
    "spectral_density",
    "svg",
]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 150  # of a PNG file
DPI_WITHIN_SVG = 120  # of scatters and heat maps, whose thousands of marks would make a large file
SIZE = (7.0, 5.0)  # inches, of a figure of one picture
PANEL = (2.4, 2.1)  # of one of several panels
NUM_COLUMNS = 4
MAX_NAME = 40  # characters of a kernel's name in a legend


def color(index: int) -> str:
    """The colour of the kernel at this place among a comparison's names, from 0; the ninth has that of the first."""
    return PALETTE[index % len(PALETTE)]


def spectra(comparison: Comparison | Spectrum, ax: Axes | None = None) -> Axes:
    """The eigenvalues of K / n against mode index, both on logarithmic axes, of each kernel or of one spectrum.

    Modes above the noise floor are drawn solid, the floor as a dotted line of the same colour; what lies below it is
    rounding and left out.
    """
    named = _by_name(comparison, Spectrum, "spectra")
    ax = _axes(ax)
    for index, (name, spectrum) in enumerate(named.items()):
        values = np.asarray(spectrum.eigenvalues)[: spectrum.num_resolved]
        floor = float(spectrum.noise_floor)
        _draw_modes(ax, values, index, name)
        if floor > 0:
            ax.axhline(floor, color=color(index), linestyle=":", linewidth=1.2)
    ax.set(xscale="log", yscale="log", xlabel="mode index", ylabel="eigenvalue of K / n")
    ax.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=True))
    _legend(ax, Line2D([], [], color="0.4", linestyle=":", label="noise floor"))
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
    ax = _axes(ax)
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
    _legend(ax, *entries)
    return ax


def eigenvalue_against_frequency(comparison: Comparison | FrequencyRanking, ax: Axes | None = None) -> Axes:
    """The eigenvalue of each resolved mode against its frequency, with the power law fitted to them.

    Both axes are logarithmic; where some modes have frequency zero, or next to it, the frequency axis is linear up to
    the first of the others, as its label says. The dashed line is `FrequencyRanking.decay`, drawn over the modes that
    it was fitted to. The legend gives its exponent with the 95 % interval, and Spearman's rank correlation.
    """
    rankings = _by_name(comparison, FrequencyRanking, "rankings")
    ax = _axes(ax)
    least = _least_on_logarithmic_axis(np.concatenate([np.asarray(r.frequencies) for r in rankings.values()]))
    for index, (name, ranking) in enumerate(rankings.items()):
        frequencies, eigenvalues = np.asarray(ranking.frequencies, float), np.asarray(ranking.eigenvalues, float)
        ax.scatter(
            frequencies,
            eigenvalues,
            s=14,
            color=color(index),
            marker=MARKERS[index % len(MARKERS)],
            alpha=0.55,
            linewidths=0,
            label=_label(name, _law(ranking)),
            rasterized=True,
        )
        if ranking.decay is not None:
            _draw_power_law(ax, ranking, least, color(index))
    label = "radians per unit of length"
    if min(float(np.min(r.frequencies)) for r in rankings.values()) < least:
        ax.set_xscale("symlog", linthresh=least, linscale=0.4)
        ax.set_xlim(left=-0.15 * least)
        label += f"; the axis is linear below {least:.2g}"
    else:
        ax.set_xscale("log")
    ax.set(yscale="log", xlabel=f"frequency ({label})", ylabel="eigenvalue of K / n")
    ax.xaxis.set_major_formatter(_PlainLog())
    ax.xaxis.set_minor_formatter(_PlainLog(labelOnlyBase=False, minor_thresholds=(1.5, 0.7)))
    _legend(ax, title="kernel: exponent of the power law (95 % interval), Spearman's ρ")
    return ax


def energy_per_degree(ranking: FrequencyRanking, ax: Axes | None = None, num_modes: int = 40) -> Axes:
    """The share of each mode's power in the harmonics of each degree, as a heat map: modes across, degrees upwards.

    Of the first `num_modes` modes, up to the last degree with a share of 5 % of the largest one. Raises `InputError`
    for a ranking without harmonics.
    """
    if not isinstance(ranking, FrequencyRanking):
        raise InputTypeError(f"Expected a FrequencyRanking; got {type(ranking).__name__}. Use comparison.rankings[i].")
    require_positive("num_modes", num_modes)
    if ranking.energy is None:
        raise InputError(
            f"Expected a ranking with the energy per degree; got one by the {ranking.measure} measure. "
            "Rank with measure='harmonic', on a domain with harmonics."
        )
    ax = _axes(ax)
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
    if labels != [str(index) for index in range(degrees)]:  # degrees that are missing, or several to a harmonic
        shown = range(0, degrees, -(-degrees // 24))
        ax.set_yticks(shown, [labels[index] for index in shown])
    bar = ax.figure.colorbar(mesh, ax=ax, label="share of the mode's power")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
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
    ax = _axes(ax)
    found = np.asarray(measured.eigenvalues, float)
    if isinstance(measured, Spectrum):
        found = found[: measured.num_resolved]
        places, label = np.arange(1, len(found) + 1), "mode index"
        known = exact.expand(int(min(len(found), np.sum(np.asarray(exact.multiplicities)[exact.resolved]))))
        true = np.asarray(known.eigenvalues)
        ax.plot(
            np.arange(1, len(true) + 1), true, "-", drawstyle="steps-mid", color="0.25", lw=1.4, label="exact", zorder=3
        )
    else:
        places, label = np.asarray(measured.frequencies, float), "frequency (radians per unit of length)"
        kept = exact.resolved & (np.asarray(exact.frequencies) > 0)
        true = np.asarray(exact.eigenvalues)[kept]
        ax.plot(np.asarray(exact.frequencies)[kept], true, "_", color="0.25", markersize=14, label="exact", zorder=3)
    drawn = places > 0
    style: dict[str, Any] = {"s": 14, "color": color(0), "alpha": 0.55, "linewidths": 0, "rasterized": True}
    ax.scatter(places[drawn], found[drawn], label="measured", **style)
    ax.set(xscale="log", yscale="log", xlabel=label, ylabel="eigenvalue of K / n")
    ax.xaxis.set_major_formatter(_PlainLog())
    ax.xaxis.set_minor_formatter(_PlainLog(labelOnlyBase=False, minor_thresholds=(1.5, 0.7)))
    _legend(ax)
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
    ax = _axes(ax)
    for index, (name, shares) in enumerate(zip(comparison.names, power, strict=True)):
        _draw_modes(ax, shares, index, name)
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="number of modes k, fastest learned first")
    ax.set_ylabel("share of the targets' power\nin the first k modes")
    ax.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    _legend(ax)
    return ax


def eigenfunctions(
    spectrum: Spectrum,
    ranking: FrequencyRanking,
    domain: Domain,
    num_modes: int = 8,
    axes: np.ndarray | Sequence[Axes] | None = None,
    *,
    color: str = PALETTE[0],
) -> np.ndarray:
    """The first resolved eigenfunctions, a panel each, over the chart of the domain; returns the axes.

    On a chart of one coordinate they are curves of this `color`, on one of two a scatter of the inputs coloured by
    value, on one scale whose ends are the value that 1 % exceed. Of vector-valued modes the first output is drawn. The
    sign of an eigenfunction is arbitrary, and "(of 2-3)" in a title tells that modes 2 to 3 have one eigenvalue: any
    rotation of them would do as well. Panels beyond the resolved modes stay empty.
    """
    if not (isinstance(spectrum, Spectrum) and isinstance(ranking, FrequencyRanking) and isinstance(domain, Domain)):
        got = ", ".join(type(value).__name__ for value in (spectrum, ranking, domain))
        raise InputTypeError(f"Expected a Spectrum, its FrequencyRanking and their domain; got {got}.")
    require_positive("num_modes", num_modes)
    if spectrum.x is None:
        raise InputError(
            "Expected a spectrum that knows its inputs; got one of a bare matrix. Use spectrum(kernel, x)."
        )
    num_shown = min(num_modes, len(ranking.frequencies))
    grid = np.atleast_2d(panels(num_shown) if axes is None else np.asarray(axes))
    if grid.size < num_shown:
        raise InputError(f"Expected axes for {num_shown} modes; got {grid.size}. Give more, or a smaller num_modes.")
    functions = np.asarray(spectrum.eigenfunctions, float)
    kind = "eigenfunction" if functions.ndim == 2 else "eigenfunction,\nfirst output"
    functions = functions[..., :num_shown] if functions.ndim == 2 else functions[:, 0, :num_shown]
    chart = domain.chart(spectrum.x)
    scale = Normalize(*np.quantile(np.abs(functions), 0.99) * np.array([-1.0, 1.0]))
    drawn, empty = list(grid.flat)[:num_shown], list(grid.flat)[num_shown:]
    for index, ax in enumerate(drawn):
        ax.set_title(_mode_title(ranking, index), fontsize=8)
        ax.tick_params(labelsize=8)
        if chart.shape[1] == 1:
            _draw_curve(ax, chart[:, 0], functions[:, index], color, isinstance(domain, Circle))
        else:
            points = _draw_points(ax, chart, functions[:, index], scale)
        if index % grid.shape[1] == 0:
            ax.set_ylabel(kind if chart.shape[1] == 1 else "coordinate 2", fontsize=8)
        if index + grid.shape[1] < num_shown:
            ax.set(xlabel="", xticklabels=[])
    for ax in empty:
        ax.set_axis_off()
    if chart.shape[1] == 2:
        bar = grid[0, 0].figure.colorbar(points, ax=list(grid.flat), extend="both", shrink=0.8, pad=0.01)
        bar.set_label(kind.replace("\n", " "), fontsize=8)
    return grid


def panels(num_panels: int, figure: Figure | None = None) -> np.ndarray:
    """A grid of axes, four a row, for this many panels, on a figure that takes their size or on a new one."""
    require_positive("num_panels", num_panels)
    figure = plt.figure() if figure is None else figure
    columns = min(NUM_COLUMNS, num_panels)
    rows = math.ceil(num_panels / columns)
    figure.set_layout_engine("constrained")
    figure.set_size_inches(PANEL[0] * columns + 0.6, PANEL[1] * rows + 0.2)
    return figure.subplots(rows, columns, squeeze=False, sharey=True)


def svg(figure: Figure) -> str:
    """The figure as the text of an SVG file without a date: equal figures give equal text."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ntkbias"}):
        figure.savefig(buffer, format="svg", dpi=DPI_WITHIN_SVG, metadata={"Date": None})
    return buffer.getvalue().decode()


def save(figure: Figure, path: str | Path) -> None:
    """Write `path`.svg and `path`.png (150 dots per inch), each whole or not at all; the figure stays open.

    Raises `InputError` if a file cannot be written.
    """
    path = Path(path)
    results.write(path.with_name(path.name + ".svg"), lambda file: file.write(svg(figure).encode()))
    results.write(path.with_name(path.name + ".png"), lambda file: figure.savefig(file, format="png", dpi=DPI))


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        ax = plt.subplots(figsize=SIZE, layout="constrained")[1]
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _by_name(value: Any, single: type, field: str) -> dict[str, Any]:
    """This field of a comparison by kernel; one value of this type is a comparison of one."""
    if isinstance(value, single):
        return {"kernel": value}
    if not isinstance(value, Comparison):
        raise InputTypeError(f"Expected a Comparison or a {single.__name__}; got {type(value).__name__}.")
    return dict(zip(value.names, getattr(value, field), strict=True))


def _draw_modes(ax: Axes, values: np.ndarray, index: int, name: str) -> None:
    """A line through one value a mode, with a dot for each of the first ones; beyond, dots would merge."""
    numbers = np.arange(1, len(values) + 1)
    style: dict[str, Any] = {"linewidth": 1.4, "markersize": 2.4, "markevery": slice(10)}
    ax.plot(numbers, values, "-o", color=color(index), label=_label(name), **style)


def _label(name: str, *facts: str) -> str:
    """A legend's text, in which a name is no markup, and shown also where it begins with an underscore."""
    name = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    name = name.replace("$", r"\$")
    return ": ".join([f" {name}" if name.startswith("_") else name, *facts])


def _law(ranking: FrequencyRanking) -> str:
    """Exponent, its interval and Spearman's rho, for a legend."""
    law = "too few frequencies for a power law"
    if ranking.decay is not None:
        law = f"exponent {ranking.decay.exponent:.2f} ({ranking.decay.low:.2f} to {ranking.decay.high:.2f})"
    return f"{law}, ρ {ranking.spearman:.3f}".replace("-", "−")


def _legend(ax: Axes, *more: Line2D, title: str | None = None) -> None:
    """A legend below the axes, where it hides nothing."""
    handles = [*ax.get_legend_handles_labels()[0], *more]
    wide = max(len(str(handle.get_label())) for handle in handles) > 45
    legend = ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans),
        ncols=1 if wide else min(2, len(handles)),
        frameon=False,
        fontsize=9,
        title=title,
        title_fontsize=9,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set(alpha=1, sizes=[30])


def _least_on_logarithmic_axis(frequencies: Float[np.ndarray, " k"]) -> float:
    """The least frequency that is not zero, nor a thousandth of the median: a constant function by its values."""
    positive = frequencies[frequencies > 1e-3 * np.median(frequencies)]
    return float(positive.min()) if len(positive) else 1.0


def _draw_power_law(ax: Axes, ranking: FrequencyRanking, least: float, color: str) -> None:
    """The fitted line over the fitted modes: least squares on logarithms goes through their geometric mean."""
    assert ranking.decay is not None
    fitted = slice(ranking.decay.first, ranking.decay.last)
    frequencies, eigenvalues = np.asarray(ranking.frequencies, float)[fitted], np.asarray(ranking.eigenvalues)[fitted]
    positive = frequencies > 0
    middle_x, middle_y = (np.exp(np.mean(np.log(v[positive]))) for v in (frequencies, eigenvalues))
    ends = np.array([max(frequencies[positive].min(), least), frequencies.max()])
    line = middle_y * (ends / middle_x) ** ranking.decay.exponent
    ax.plot(ends, line, "--", color=color, linewidth=1.6)


def _power_of_all_targets(spectrum: Spectrum, targets: Array) -> Float[np.ndarray, " k"]:
    """The mean over targets of their cumulative power, weighted with the power that each has."""
    shares = np.asarray(spectrum.cumulative_power(targets))
    shares = shares.reshape(len(shares), -1)
    power = np.tensordot(np.asarray(spectrum.weights), np.asarray(targets) ** 2, 1).reshape(-1, shares.shape[1]).sum(0)
    if not power.any():
        raise InputError("Expected targets that are not zero everywhere; got only zeros.")
    return np.average(shares[: spectrum.num_resolved, power > 0], axis=1, weights=power[power > 0])


def _mode_title(ranking: FrequencyRanking, index: int) -> str:
    members = np.flatnonzero(np.asarray(ranking.eigenspace) == ranking.eigenspace[index]) + 1
    together = f" (of {members[0]}–{members[-1]})" if len(members) > 1 else ""
    value, frequency = float(ranking.eigenvalues[index]), float(ranking.frequencies[index])
    return f"mode {index + 1}{together}: eigenvalue {value:.2g},\nfrequency {frequency:.3g}"


def _draw_curve(ax: Axes, positions: np.ndarray, values: np.ndarray, color: str, angles: bool) -> None:
    order = np.argsort(positions)
    ax.axhline(0, color="0.8", linewidth=0.8)
    ax.plot(positions[order], values[order], color=color, linewidth=1.4)
    ax.set_xlabel("angle (radians)" if angles else "coordinate", fontsize=8)
    if angles:
        ax.set_xlim(0, 2 * np.pi)
        ax.set_xticks(np.arange(5) * np.pi / 2, ["0", "π/2", "π", "3π/2", "2π"])


def _draw_points(ax: Axes, chart: np.ndarray, values: np.ndarray, scale: Normalize) -> PathCollection:
    size = float(np.clip(3_000 / len(chart), 1.5, 14))
    points = ax.scatter(
        chart[:, 0], chart[:, 1], c=values, s=size, cmap="RdBu_r", norm=scale, linewidths=0, rasterized=True
    )
    ax.set_facecolor("0.93")  # on white, values about zero would vanish
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel("coordinate 1", fontsize=8)
    return points


class _PlainLog(LogFormatter):
    """Numbers of a logarithmic axis as 0.1 and 20, not as powers."""

    def __call__(self, x, pos=None):
        return super().__call__(x, pos) and f"{x:.3g}"
