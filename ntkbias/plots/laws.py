"""Figures of error against size: scaling laws, and predicted and measured learning curves.

>>> import numpy as np, ntkbias as nb
>>> sizes = 2 ** np.arange(4, 10)
>>> law = nb.scaling_law(sizes, 3 * sizes**-0.5 * np.random.default_rng(0).uniform(0.9, 1.1, (5, 6)), num_resamples=50)
>>> nb.plots.scaling_laws(law).get_xlabel()
'size n'
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ntkbias.errors import InputError, InputTypeError
from ntkbias.learning import LearningCurve, MeasuredLearningCurve
from ntkbias.plots.drawing import MARKERS, axes_of, color, label_of, legend, plain_numbers
from ntkbias.scaling import ScalingLaw

__all__ = ["learning_curve", "scaling_laws"]


def scaling_laws(laws: Mapping[str, ScalingLaw] | ScalingLaw, ax: Axes | None = None, *, reach: float = 4.0) -> Axes:
    """Draw errors against sizes with their fitted laws, on logarithmic axes, up to `reach` times the largest size.

    Points are means over replicates. Bands are the 95 % intervals of `ScalingLaw.extrapolate`; beyond the measured
    sizes, they assume the same form of law. The legend gives each law and the interval of its exponent.

    Raises `InputTypeError` on other values and on an empty dictionary.

    >>> import numpy as np, ntkbias as nb
    >>> sizes = 2 ** np.arange(4, 10)
    >>> errors = 3 * sizes**-0.5 * np.random.default_rng(0).uniform(0.9, 1.1, (5, 6))
    >>> nb.plots.scaling_laws({"a network": nb.scaling_law(sizes, errors, num_resamples=50)}).get_ylabel()
    'error'
    """
    named = {"": laws} if isinstance(laws, ScalingLaw) else laws
    if not isinstance(named, Mapping) or not named or not all(isinstance(law, ScalingLaw) for law in named.values()):
        got = "an empty dict" if isinstance(named, Mapping) and not named else type(laws).__name__
        raise InputTypeError(
            f"Expected a ScalingLaw, or a dict of them by name; got {got}. Use scaling_law(sizes, errors)."
        )
    ax = axes_of(ax)
    for index, (name, law) in enumerate(named.items()):
        sizes = np.asarray(law.sizes, float)
        band = law.extrapolate(np.geomspace(sizes.min(), reach * sizes.max(), 200))
        fitted = f"{law.formula}, exponent {law.exponent}"
        label = label_of(name, fitted) if name else fitted
        ax.plot(sizes, law.errors, MARKERS[index % len(MARKERS)], color=color(index), markersize=5, label=label)
        seen = np.asarray(band.sizes) <= sizes.max()
        for part, style in ((seen, "-"), (~seen, "--")):
            ax.plot(band.sizes[part], band.errors[part], style, color=color(index), linewidth=1.4)
        ax.fill_between(band.sizes, band.low, band.high, color=color(index), alpha=0.2, linewidth=0)
    ax.set(xscale="log", yscale="log", xlabel="size n", ylabel="error")
    plain_numbers(ax.xaxis, ax.yaxis)
    legend(ax)
    return ax


def learning_curve(
    predicted: LearningCurve, measured: MeasuredLearningCurve | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the predicted test error against the number of examples, and the measured error with its 95 % interval.

    Both axes are logarithmic. Each target has its own color. Raises `InputTypeError` on other values, and `InputError`
    if the two curves have different numbers of targets.

    >>> import jax, ntkbias as nb
    >>> x = nb.domains.Sphere(3).sample(64, key=jax.random.key(0))
    >>> predicted = nb.learning_curve(nb.infinite_ntk(nb.nets.mlp(depth=1)), x, x[:, 0], [4, 8, 16])
    >>> nb.plots.learning_curve(predicted).get_xlabel()
    'number of examples'
    """
    if not isinstance(predicted, LearningCurve) or not isinstance(measured, MeasuredLearningCurve | None):
        got = f"{type(predicted).__name__} and {type(measured).__name__}"
        raise InputTypeError(f"Expected a LearningCurve, and a MeasuredLearningCurve or none; got {got}.")
    curves = np.asarray(predicted.errors, float).reshape(len(predicted.sizes), -1)
    points = None if measured is None else np.asarray(measured.errors, float).reshape(len(measured.sizes), -1)
    if points is not None and points.shape[1] != curves.shape[1]:
        raise InputError(f"Expected as many targets in both; got {curves.shape[1]} and {points.shape[1]}.")
    ax = axes_of(ax)
    for index, curve in enumerate(curves.T):
        name = "predicted" if curves.shape[1] == 1 else f"target {index + 1}"
        ax.plot(np.asarray(predicted.sizes), curve, "-", color=color(index), linewidth=1.4, label=name)
    entries: list[Line2D] = []
    if measured is not None and points is not None:
        spans = measured.half_widths().reshape(points.shape)
        for index, (values, span) in enumerate(zip(points.T, spans.T, strict=True)):
            sides = np.stack([np.minimum(span, 0.99 * values), span])  # a bar to zero has no end on a logarithmic axis
            style: dict[str, Any] = {"fmt": "o", "color": color(index), "markersize": 4, "capsize": 2}
            ax.errorbar(np.asarray(measured.sizes), values, sides, **style)
        shade = color(0) if curves.shape[1] == 1 else "0.4"  # gray if the entry stands for several targets
        label = f"mean of {measured.num_draws} draws, 95 %"
        entries = [Line2D([], [], linestyle="none", marker="o", markersize=4, color=shade, label=label)]
    ax.set(xscale="log", yscale="log", xlabel="number of examples", ylabel="test error")
    plain_numbers(ax.xaxis, ax.yaxis)
    legend(ax, *entries)
    return ax
