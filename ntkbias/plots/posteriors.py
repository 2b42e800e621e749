"""A posterior, or an ensemble of networks, along one coordinate.

>>> import jax.numpy as jnp, ntkbias as nb
>>> x = jnp.linspace(-1, 1, 5)[:, None]
>>> found = nb.kernel_posterior(nb.infinite_nngp(nb.nets.mlp(b_std=0.5)), x, x[:, 0] ** 2, x, noise=0.01)
>>> nb.plots.posterior(found, x).get_ylabel()
'output'
"""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from ntkbias.errors import InputError, InputTypeError
from ntkbias.inference import Ensemble, Posterior
from ntkbias.plots.drawing import axes_of, color

__all__ = ["posterior"]

ROWS = 4  # times of an ensemble that are drawn at most


def posterior(
    found: Posterior | Ensemble, x_new: ArrayLike, ax: Axes | None = None, *, data: Any = None, level: float = 0.95
) -> Axes:
    """The mean and the central interval of a posterior, or of an ensemble at up to four times, along `x_new` `(m, 1)`.

    `x_new` are the new inputs of `found`, with one coordinate. `data` is a pair (x, y) that is drawn as points. Several
    outputs have one line each. Raises `InputError` on inputs of another number or with several coordinates.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = jnp.linspace(-1, 1, 5)[:, None]
    >>> found = nb.inference.ensemble_flow(nb.nets.mlp(b_std=0.5), x, x[:, 0] ** 2, x, times=[0.0, 9.0])
    >>> len(nb.plots.posterior(found, x, data=(x, x[:, 0] ** 2)).lines)
    3
    """
    if not isinstance(found, Posterior | Ensemble):
        raise InputTypeError(f"Expected a Posterior or an Ensemble; got {type(found).__name__}.")
    points = np.asarray(x_new, float)
    count = np.shape(found.mean)[0 if isinstance(found, Posterior) else 1]
    if points.reshape(len(points), -1).shape != (count, 1):
        raise InputError(f"Expected the {count} new inputs with one coordinate each; got shape {points.shape}.")
    ax = axes_of(ax)
    order = np.argsort(points.ravel())
    means, ends = np.asarray(found.mean, float), np.asarray(found.interval(level), float)
    if isinstance(found, Posterior):
        rows, labels = [(means, ends)], ["posterior"]
    else:
        shown = np.unique(np.linspace(0, len(found.times) - 1, ROWS).round().astype(int))
        rows = [(means[row], ends[row]) for row in shown]
        labels = [f"time {float(found.times[row]):.3g}" for row in shown]
    for index, ((mean, interval), label) in enumerate(zip(rows, labels, strict=True)):
        for column, (line, end) in enumerate(
            zip(mean.reshape(count, -1).T, np.moveaxis(interval.reshape(count, -1, 2), 1, 0), strict=True)
        ):
            own = color(index if len(rows) > 1 else column)
            ax.plot(points.ravel()[order], line[order], color=own, label=label if column == 0 else None)
            ax.fill_between(points.ravel()[order], *end[order].T, color=own, alpha=0.15, linewidth=0)
    if data is not None:
        x, y = (np.asarray(each, float) for each in data)
        ax.plot(np.repeat(x.reshape(-1, 1), y.size // len(y), 1).ravel(), y.ravel(), "k.", label="data", zorder=3)
    ax.set(xlabel="input", ylabel="output")
    ax.legend(fontsize="small")
    return ax
