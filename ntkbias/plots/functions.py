"""Figures of eigenfunctions over the chart of a domain.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(32)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
>>> nb.plots.eigenfunctions(spectrum, nb.rank_by_frequency(spectrum, circle), circle, num_modes=4).shape
(1, 4)
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize

from ntkbias.checks import require_positive
from ntkbias.domains import Circle, Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyRanking
from ntkbias.plots.drawing import PALETTE, panels
from ntkbias.spectra import Spectrum

__all__ = ["draw_curve", "draw_points", "eigenfunctions", "mode_title"]


def eigenfunctions(
    spectrum: Spectrum,
    ranking: FrequencyRanking,
    domain: Domain,
    num_modes: int = 8,
    axes: np.ndarray | Sequence[Axes] | None = None,
    *,
    color: str = PALETTE[0],
) -> np.ndarray:
    """Draw the first eigenfunctions above the noise floor over the chart of the domain, one per panel; return the axes.

    On a chart with one coordinate they are curves in `color`. On a chart with two, they are scatter plots of the inputs
    colored by value. All panels share one color scale, which ends at the magnitude that 1 % of the values exceed. For
    vector-valued modes, the first output is drawn. The sign of an eigenfunction is arbitrary. "(of 2-3)" in a title
    means that modes 2 to 3 share an eigenvalue: any rotation among them is as good. Panels without a mode stay empty.

    See also `image_modes`, which shows the modes on images as images.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(32)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    >>> axes = nb.plots.eigenfunctions(spectrum, nb.rank_by_frequency(spectrum, circle), circle, num_modes=4)
    >>> axes.shape
    (1, 4)
    """
    if not (isinstance(spectrum, Spectrum) and isinstance(ranking, FrequencyRanking) and isinstance(domain, Domain)):
        got = ", ".join(type(value).__name__ for value in (spectrum, ranking, domain))
        raise InputTypeError(f"Expected a Spectrum, its FrequencyRanking and their domain; got {got}.")
    require_positive("num_modes", num_modes)
    if spectrum.x is None:
        raise InputError(
            "Expected a spectrum that knows its inputs; got one of a bare matrix. Use spectrum(kernel, x)."
        )
    functions = np.asarray(spectrum.eigenfunctions, float)
    num_shown = min(num_modes, len(ranking.frequencies), functions.shape[-1])
    grid = np.atleast_2d(panels(num_shown) if axes is None else np.asarray(axes))
    if grid.size < num_shown:
        raise InputError(f"Expected axes for {num_shown} modes; got {grid.size}. Pass more axes or fewer num_modes.")
    kind = "eigenfunction" if functions.ndim == 2 else "eigenfunction,\nfirst output"
    functions = functions[..., :num_shown] if functions.ndim == 2 else functions[:, 0, :num_shown]
    chart = domain.chart(jnp.asarray(spectrum.x))
    scale = Normalize(*np.quantile(np.abs(functions), 0.99) * np.array([-1.0, 1.0]))
    drawn, empty = list(grid.flat)[:num_shown], list(grid.flat)[num_shown:]
    for index, ax in enumerate(drawn):
        ax.set_title(mode_title(ranking, index), fontsize=8)
        ax.tick_params(labelsize=8)
        if chart.shape[1] == 1:
            draw_curve(ax, chart[:, 0], functions[:, index], color, isinstance(domain, Circle))
        else:
            points = draw_points(ax, chart, functions[:, index], scale)
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


def mode_title(ranking: FrequencyRanking, index: int) -> str:
    """The number of a mode, its eigenspace, its eigenvalue and its frequency, in two lines."""
    members = np.flatnonzero(np.asarray(ranking.eigenspace) == ranking.eigenspace[index]) + 1
    together = f" (of {members[0]}–{members[-1]})" if len(members) > 1 else ""
    value, frequency = float(ranking.eigenvalues[index]), float(ranking.frequencies[index])
    bound = "" if ranking.resolved[index] else "above "
    return f"mode {index + 1}{together}: eigenvalue {value:.2g},\nfrequency {bound}{frequency:.3g}"


def draw_curve(ax: Axes, positions: np.ndarray, values: np.ndarray, color: str, angles: bool) -> None:
    """Draw values along a chart with one coordinate, as a curve."""
    order = np.argsort(positions)
    ax.axhline(0, color="0.8", linewidth=0.8)
    ax.plot(positions[order], values[order], color=color, linewidth=1.4)
    ax.set_xlabel("angle (radians)" if angles else "coordinate", fontsize=8)
    if angles:
        ax.set_xlim(0, 2 * np.pi)
        ax.set_xticks(np.arange(5) * np.pi / 2, ["0", "π/2", "π", "3π/2", "2π"])


def draw_points(ax: Axes, chart: np.ndarray, values: np.ndarray, scale: Normalize) -> PathCollection:
    """Draw values at the points of a chart with two coordinates, as colors."""
    size = float(np.clip(3_000 / len(chart), 1.5, 14))
    points = ax.scatter(
        chart[:, 0], chart[:, 1], c=values, s=size, cmap="RdBu_r", norm=scale, linewidths=0, rasterized=True
    )
    ax.set_facecolor("0.93")  # on white, values near zero would be invisible
    ax.set_aspect("equal", adjustable="box")  # with shared axes, "datalim" would cut points off
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel("coordinate 1", fontsize=8)
    return points
