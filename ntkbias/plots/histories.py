"""Figures of a History: how a kernel changes in training.

Each function takes a history and axes, draws one figure, and returns the axes. For several runs, a line is the median
and a band covers all runs. The axis of steps is linear up to the first step and logarithmic beyond it; if the snapshots
are equally spaced, it is linear throughout.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import track
>>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
>>> data = x, jnp.sign(x[:, 0] + 0.1)
>>> history = track(net.apply, net.init(jax.random.key(0), (2,)), data, optimizer=optax.sgd(0.1), num_steps=10)
>>> nb.plots.alignments(history).get_ylabel()
'alignment of kernel and labels'
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ntkbias.checks import require_positive
from ntkbias.domains import Circle, Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.plots.drawing import NUM_COLUMNS, PALETTE, PANEL, axes_of, color, legend, new_figure, plain_numbers
from ntkbias.plots.functions import draw_curve, draw_points
from ntkbias.tracking import History

__all__ = [
    "alignments",
    "eigenfunction_frames",
    "eigenvalue_trajectories",
    "evolution",
    "frequency_spectrogram",
    "num_panels",
]

DECADES = 6.0  # the range of power that a spectrogram shows


def evolution(history: History, axes: np.ndarray | Sequence[Axes] | None = None) -> np.ndarray:
    """Draw the scalar measures along training, and return the axes.

    There is one panel per title. A measure without a title is not drawn. Values of a run after it diverged are left
    out. Raises `InputError` if the history has no measure with a title.

    >>> import jax, jax.numpy as jnp, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
    >>> data = x, jnp.sign(x[:, 0] + 0.1)
    >>> params = net.init(jax.random.key(0), (2,))
    >>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=10)
    >>> axes = nb.plots.evolution(history)
    >>> axes.size >= nb.plots.num_panels(history)
    True
    """
    shown = _panels_of(history)
    grid = np.atleast_2d(_new_grid(len(shown)) if axes is None else np.asarray(axes))
    if grid.size < len(shown):
        raise InputError(f"Expected axes for {len(shown)} panels; got {grid.size}. Pass more axes.")
    for ax, (title, names, scale) in zip(grid.flat, shown, strict=False):
        axes_of(ax)
        for index, (name, label) in enumerate(names.items()):
            _draw(ax, history, history[name], color(index), label)
        ax.set_title(title, fontsize=9)
        ax.tick_params(which="both", labelsize=8)
        _step_axis(ax, history)
        positive = np.concatenate([line.get_ydata()[line.get_ydata() > 0] for line in ax.lines])
        if scale == "log" and positive.size and positive.max() > 10 * positive.min():
            ax.set_yscale("log", nonpositive="mask")
            plain_numbers(ax.yaxis)
        if len(names) > 1:
            ax.legend(fontsize=7, frameon=False)
    for ax in list(grid.flat)[len(shown) :]:
        ax.set_axis_off()
    return grid


def eigenvalue_trajectories(history: History, ax: Axes | None = None, *, num_modes: int = 10) -> Axes:
    """Draw the largest eigenvalues of K / n along training. Each mode keeps its color when eigenvalues cross.

    If the history has "matched_modes", a mode has the color of the initial mode that it came from; the first mode is
    the darkest. The dotted line is 2 / learning rate. While an eigenvalue of the kernel with outputs="all" is above it,
    each step of gradient descent on the squared error makes the error in that mode larger. Training then diverges, or
    moves to where the eigenvalue is smaller. For several runs, modes are matched by rank, and a line is the median.

    >>> import jax, jax.numpy as jnp, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
    >>> data = x, jnp.sign(x[:, 0] + 0.1)
    >>> params = net.init(jax.random.key(0), (2,))
    >>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=10)
    >>> len(nb.plots.eigenvalue_trajectories(history, num_modes=3).lines) >= 3
    True
    """
    _require_history(history, "eigenvalues")
    require_positive("num_modes", num_modes)
    ax = axes_of(ax)
    steps, values = np.asarray(history.steps, float), history["eigenvalues"]
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, num_modes))
    if history.num_runs is None and "matched_modes" in history:
        matched = np.full(values.shape, np.nan)
        np.put_along_axis(matched, history["matched_modes"], values, 1)
        values = matched
    shown = min(num_modes, values.shape[-1])
    for mode in range(shown):
        _draw(ax, history, values[..., mode], shades[mode], None)
    shading = ScalarMappable(BoundaryNorm(np.arange(shown + 1) + 0.5, shown), ListedColormap(shades[:shown]))
    name = "mode, by its rank at the start" if "matched_modes" in history and history.num_runs is None else "mode"
    ax.figure.colorbar(shading, ax=ax, label=name, ticks=np.arange(1, shown + 1))
    rates = np.asarray(history.learning_rates)
    if np.isfinite(rates).all() and np.ndim(rates) == 1 and np.all(rates > 0):
        ax.plot(steps, 2 / rates, ":", color="0.4", linewidth=1.2, label="2 / learning rate: unstable above")
    ax.set(yscale="log", ylabel="eigenvalue of K / n")
    _step_axis(ax, history)
    if ax.get_legend_handles_labels()[0]:
        legend(ax)
    return ax


def alignments(history: History, ax: Axes | None = None) -> Axes:
    """Draw the alignment of the kernel with the labels along training: uncentered, centered, and for each class.

    >>> import jax, jax.numpy as jnp, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
    >>> data = x, jnp.sign(x[:, 0] + 0.1)
    >>> params = net.init(jax.random.key(0), (2,))
    >>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=10)
    >>> nb.plots.alignments(history).get_ylabel()
    'alignment of kernel and labels'
    """
    _require_history(history)
    panels = dict(history.panels)
    shown = {name: panels[name][1] for name in ("uncentered_alignment", "alignment") if name in history}
    if not shown:
        raise InputError("Expected a history with 'alignment' or 'uncentered_alignment'; got neither. Train on labels.")
    ax = axes_of(ax)
    if "alignment_by_class" in history:
        classes = history["alignment_by_class"]
        for index in range(classes.shape[-1]):
            _draw(ax, history, classes[..., index], "0.75", "each class" if index == 0 else None, band=False)
    for index, (name, label) in enumerate(shown.items()):
        _draw(ax, history, history[name], color(index), label)
    ax.set_ylabel("alignment of kernel and labels")
    _step_axis(ax, history)
    legend(ax)
    return ax


def frequency_spectrogram(
    history: History, ax: Axes | None = None, *, measure: str = "residual_spectrum", decades: float = DECADES
) -> Axes:
    """Draw the power in each frequency along training: of the residual, or of the outputs with "output_spectrum".

    The history must be on a domain with harmonics. Steps run upwards, and each column is a frequency: the network has
    learned it where the column turns from dark to light. For several runs, the power is the geometric mean. The color
    scale covers `decades` below the largest power. The axis ends with the last frequency whose power reaches it.

    >>> import jax, jax.numpy as jnp, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
    >>> data = x, jnp.sign(x[:, 0] + 0.1)
    >>> params = net.init(jax.random.key(0), (2,))
    >>> probe = nb.tracking.Probe(domain=nb.domains.Circle())
    >>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=10, probe=probe)
    >>> nb.plots.frequency_spectrogram(history).get_xlabel()
    'frequency (radians per unit of length)'
    """
    _require_history(history, measure)
    if history.level_frequencies is None:
        raise InputError(
            "Expected a history on a domain with harmonics; got none. Use track(..., probe=Probe(domain=Circle()))."
        )
    ax = axes_of(ax)
    power = history[measure]
    floor = np.nanmax(power) * 10.0**-decades
    power = np.exp(np.nanmean(np.log(np.maximum(power, floor)), 0)) if history.num_runs is not None else power
    frequencies, group = np.unique(np.asarray(history.level_frequencies), return_inverse=True)
    summed = np.zeros((len(power), len(frequencies)))
    np.add.at(summed.T, group, np.asarray(power).T)
    reached = group[(np.asarray(power) > 1.001 * floor).any(0)]  # the mean of logarithms rounds
    last = reached.max() + 1 if len(reached) else len(frequencies)
    frequencies, summed = frequencies[:last], summed[:, :last]
    mesh = ax.pcolormesh(
        _edges(frequencies),
        _edges(np.asarray(history.steps, float)),
        np.maximum(summed, floor),
        cmap="magma_r",
        norm=LogNorm(floor, np.nanmax(summed)),
        rasterized=True,
    )
    ax.grid(False)
    ax.set_xlabel("frequency (radians per unit of length)")
    _step_axis(ax, history, vertical=True)
    title = dict(history.panels).get(measure, (measure,))[0]
    ax.figure.colorbar(mesh, ax=ax, label=f"{title} at this frequency", extend="min")
    return ax


def eigenfunction_frames(
    history: History,
    domain: Domain,
    *,
    num_modes: int = 3,
    num_frames: int = 5,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """Draw the first eigenfunctions of the kernel on the probe along training: one row per mode, one column per step.

    The history must have the measure "eigenfunctions". Frames are equally spaced among the snapshots. On charts with
    two coordinates, all frames share one color scale. For vector-valued modes, the first output is drawn.

    Raises `InputError` on a history of several runs or without that measure.

    >>> import jax, jax.numpy as jnp, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
    >>> data = x, jnp.sign(x[:, 0] + 0.1)
    >>> params = net.init(jax.random.key(0), (2,))
    >>> circle, taken = nb.domains.Circle(), nb.tracking.measures.chosen("eigenfunctions")
    >>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=10, measures=taken)
    >>> nb.plots.eigenfunction_frames(history, circle, num_modes=2, num_frames=3).shape
    (2, 3)
    """
    _require_history(history, "eigenfunctions")
    if not isinstance(domain, Domain):
        raise InputTypeError(f"Expected a domain, e.g. Circle(); got {type(domain).__name__}.")
    if history.num_runs is not None:
        raise InputError("Expected one run; got several. Use history.run(0).")
    functions = history["eigenfunctions"]
    functions = functions if functions.ndim == 3 else functions[:, :, 0]
    num_modes = min(num_modes, functions.shape[-1])
    frames = np.unique(np.linspace(0, len(history) - 1, num_frames).astype(int))
    grid = axes
    if grid is None:
        figure = new_figure(layout="constrained", figsize=(2.0 * len(frames) + 0.6, 1.9 * num_modes + 0.3))
        grid = figure.subplots(num_modes, len(frames), squeeze=False, sharex=True, sharey=True)
    chart = domain.chart(jnp.asarray(history.probe))
    scale = Normalize(*np.quantile(np.abs(functions[..., :num_modes]), 0.99) * np.array([-1.0, 1.0]))
    for column, frame in enumerate(frames):
        for mode in range(num_modes):
            ax = grid[mode, column]
            ax.tick_params(labelsize=7)
            values = functions[frame, :, mode]
            if chart.shape[1] == 1:
                draw_curve(ax, chart[:, 0], values, PALETTE[0], isinstance(domain, Circle))
            else:
                points = draw_points(ax, chart, values, scale)
            ax.set_xlabel(ax.get_xlabel() if mode == num_modes - 1 else "", fontsize=7)
            if mode == 0:
                ax.set_title(f"step {int(history.steps[frame])}", fontsize=8)
            if column == 0:
                ax.set_ylabel(f"mode {mode + 1}", fontsize=8)
    if chart.shape[1] == 2:
        grid[0, 0].figure.colorbar(
            points, ax=list(grid.flat), extend="both", shrink=0.8, label="value of the eigenfunction"
        )
    return grid


def num_panels(history: History) -> int:
    """The number of panels that `evolution` draws.

    >>> import jax, jax.numpy as jnp, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(12)
    >>> data = x, jnp.sign(x[:, 0] + 0.1)
    >>> params = net.init(jax.random.key(0), (2,))
    >>> history = nb.track(net.apply, params, data, optimizer=optax.sgd(0.1), num_steps=2)
    >>> nb.plots.num_panels(history) == nb.plots.evolution(history).size
    True
    """
    return len(_panels_of(history))


def _panels_of(history: History) -> list[tuple[str, dict[str, str], str]]:
    """The panels of `evolution` that have a measure in the history: (title, label per measure, scale) each."""
    _require_history(history)
    panels: dict[str, tuple[str, dict[str, str], str]] = {}
    for name, (title, line, scale) in history.panels:
        if np.ndim(history[name]) == np.ndim(history.times):
            panels.setdefault(title, (title, {}, scale))[1][name] = line
    if not panels:
        raise InputError(
            f"Expected a history with measures that have a panel, such as 'loss'; got {list(history)}. "
            "Add such a measure, or give yours a title: tracking.Measure(name, function, title=...)."
        )
    return list(panels.values())


def _new_grid(count: int) -> np.ndarray:
    """A grid of panels with separate scales, in four columns."""
    columns = min(NUM_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = new_figure(layout="constrained", figsize=(PANEL[0] * columns + 0.6, PANEL[1] * rows + 0.2))
    return figure.subplots(rows, columns, squeeze=False)


def _draw(ax: Axes, history: History, values: np.ndarray, color: Any, label: str | None, band: bool = True) -> None:
    """Draw one run as a line; draw several as their median with a band from the smallest to the largest."""
    steps = np.asarray(history.steps, float)
    values = np.asarray(values, float)
    if history.num_runs is not None:
        if band:
            ax.fill_between(steps, np.nanmin(values, 0), np.nanmax(values, 0), color=color, alpha=0.2, linewidth=0)
        values = np.nanmedian(values, 0)
    ax.plot(steps, values, "-", color=color, linewidth=1.4, label=label)


def _step_axis(ax: Axes, history: History, vertical: bool = False) -> None:
    """Scale the axis of steps: linear up to the first step, logarithmic beyond; all linear if equally spaced."""
    steps = np.asarray(history.steps)
    gaps = np.diff(steps)
    equal = len(gaps) == 0 or gaps.max() <= 2 * gaps.min()
    if vertical:
        ax.set_ylabel("step")
        if not equal:
            ax.set_yscale("symlog", linthresh=max(1, int(steps[steps > 0].min())))
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        ax.set_xlabel("step", fontsize=8 if ax.get_title() else None)
        if equal:
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        else:
            ax.set_xscale("symlog", linthresh=max(1, int(steps[steps > 0].min())))
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.set_xlim(steps[0], max(steps[-1], steps[0] + 1))


def _edges(middles: np.ndarray) -> np.ndarray:
    """The edges of cells around these middles."""
    inner = (middles[1:] + middles[:-1]) / 2
    first = middles[0] - (inner[0] - middles[0]) if len(inner) else middles[0] - 0.5
    last = middles[-1] + (middles[-1] - inner[-1]) if len(inner) else middles[-1] + 0.5
    return np.concatenate([[first], inner, [last]])


def _require_history(history: Any, name: str | None = None) -> None:
    if not isinstance(history, History):
        raise InputTypeError(f"Expected a History; got {type(history).__name__}. Use track(f, params, data, ...).")
    if name is not None and name not in history:
        raise InputError(
            f"Expected a history with the measure {name!r}; got {list(history)}. Add measures.chosen({name!r})."
        )
