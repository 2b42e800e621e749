"""The ensemble of infinitely wide networks in training: their mean and covariance over random initializations.

Under gradient flow on the mean squared error, every network of the ensemble stays linear in its parameters, with the
tangent kernel T. Its outputs start as a Gaussian process with covariance K, the NNGP kernel. With
G = T(x', x) T^-1 (1 - exp(-T t / n)) (Lee et al. 2019, arXiv 1902.06720, equations 14 to 16):

    mean          G y
    covariance    K(x', x') - G K(x, x') - K(x', x) G^T + G K(x, x) G^T

>>> import jax.numpy as jnp, ntkbias as nb
>>> x, x_new = jnp.linspace(-1, 1, 6)[:, None], jnp.array([[0.1], [3.0]])
>>> net = nb.nets.mlp(activation="erf", b_std=0.5)
>>> ensemble = nb.inference.ensemble_flow(net, x, jnp.sin(2 * x[:, 0]), x_new, times=[0.0, jnp.inf])
>>> ensemble.mean.shape, ensemble.variance.shape
((2, 2), (2, 2))
>>> bool(ensemble.variance[1, 0] < 0.01 * ensemble.variance[0, 0])   # trained networks agree between the data
True
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_known, require_scale, require_wide
from ntkbias.eigen.dense import require_positive_definite
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import infinite_nngp, infinite_ntk
from ntkbias.kernels.on_inputs import symmetric_matrix
from ntkbias.layers import Layer
from ntkbias.layers.wrappers import linear_layers
from ntkbias.learning.modes import require_squares, values_on
from ntkbias.mistaken import require_no_labels
from ntkbias.tables import Axes, Printed, Table, counted, number, spaced
from ntkbias.types import Inputs

__all__ = ["Ensemble", "ensemble_flow"]


class Ensemble(Printed):
    """The outputs of infinitely wide networks at m new inputs and t times: mean and covariance over initializations.

    The outputs of one network are a draw from this Gaussian process. Several outputs are independent and share the
    covariance.

    >>> import ntkbias as nb
    >>> x = nb.domains.Circle().grid(8)
    >>> ensemble = nb.inference.ensemble_flow(nb.nets.mlp(b_std=0.1), x, x[:, 0], x[:3], times=[0.0, 1.0])
    >>> ensemble.covariance.shape
    (2, 3, 3)
    """

    named_axes = Axes(
        "time", "new_example", index={"time": "times"}, t="time", m="new_example", q="other_new_example", o="output"
    )

    times: Float[Array, " t"]
    mean: Float[Array, "t m *o"]
    covariance: Float[Array, "t m q"]  # q = m

    @property
    def variance(self) -> Float[Array, "t m"]:
        """The variance of each output over initializations."""
        return jnp.maximum(jnp.diagonal(self.covariance, axis1=1, axis2=2), 0.0)

    def interval(self, level: float = 0.95) -> Float[Array, "t m *o 2"]:
        """The ends of the central interval that holds one network's output with this probability."""
        if not 0 < level < 1:
            raise InputError(f"Expected a level above 0 and below 1; got {level!r}.")
        spread = jnp.sqrt(self.variance) * scipy.special.ndtri((1 + level) / 2)
        spread = spread.reshape(*spread.shape, *(1,) * (self.mean.ndim - 2))
        return jnp.stack([self.mean - spread, self.mean + spread], -1)

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.times), num_rows)
        spread = np.sqrt(np.asarray(self.variance, float))
        columns = {
            "time": [number(self.times[row]) for row in shown],
            "mean output": [number(np.mean(np.asarray(self.mean, float)[row])) for row in shown],
            "standard deviation": [number(np.sqrt(np.mean(spread[row] ** 2))) for row in shown],
        }
        notes = ["Time is steps times learning rate. Numbers are means over new inputs and outputs."]
        return Table(f"Ensemble: {counted(len(self.times), 'time')}", columns, notes)


def ensemble_flow(
    net: Layer,
    x: Inputs,
    y: ArrayLike,
    x_new: Inputs,
    times: ArrayLike | Sequence[float],
    *,
    ridge: float = 0.0,
) -> Ensemble:
    """The ensemble of infinitely wide networks after gradient flow for `times` `(t,)`; `inf` is the end of training.

    `net` is a network of layers, whose NTK and NNGP kernel are used together. `y` are `(n,)` or `(n, o)`, one column
    per output. The loss is 1/2 the mean over examples of the squared error summed over outputs, as in `gradient_flow`;
    time is steps times learning rate. `ridge` is added to the NTK on the diagonal, which stands for a penalty of
    ridge / (2 n) on the distance of the parameters to their start.

    Costs two kernels between all inputs, one eigendecomposition, 10 n^3 operations in float64, and n^2 m per time.

    Raises `InputError` on shapes that do not fit, on labels, on negative times, and at time infinity on an NTK that is
    singular to rounding.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = nb.domains.Circle().grid(8)
    >>> net = nb.nets.mlp(activation="erf", b_std=0.5)
    >>> ends = ensemble_flow(net, x, x[:, 0], x, times=[0.0, jnp.inf])
    >>> bool(abs(ends.mean[1] - x[:, 0]).max() < 1e-2), bool(abs(ends.mean[0]).max() == 0)
    (True, True)
    """
    if not isinstance(net, Layer):
        raise InputTypeError(
            f"Expected a network of layers, which has an NTK and an NNGP kernel; got {type(net).__name__}."
        )
    if any(layer.parameterization == "mup" for layer in linear_layers(net)):
        raise InputError(
            'Expected a network whose kernel stays constant as it trains; got parameterization="mup", under which '
            'features move at every width. Use "ntk", or train finite networks.'
        )
    require_known((x, y, x_new, times, ridge), "ensemble_flow")
    require_scale("ridge", ridge)
    moments = np.asarray(require_wide(times, "times"), float)
    if moments.ndim != 1 or not moments.size or not np.all(moments >= 0):
        raise InputError(f"Expected times (t,) of zero or more; got {times!r}.")
    x, x_new = require_array(x, "x"), require_array(x_new, "x_new")
    values = values_on(y, "y", (len(x),))
    require_no_labels(y)
    require_squares(values, "y")
    if values.ndim > 2:
        raise InputError(f"Expected y of shape ({len(x)},) or ({len(x)}, o); got {values.shape}.")
    tangent, prior = infinite_ntk(net), infinite_nngp(net)
    operator = tangent.operator(x)
    rates, vectors = np.linalg.eigh(symmetric_matrix(operator))
    require_positive_definite(jnp.asarray(rates[::-1]), operator.epsilon)
    rates = np.maximum(rates, 0.0) + ridge
    floor = operator.epsilon * rates[-1]
    if np.isinf(moments).any() and rates[0] <= floor:
        raise InputError(
            "Expected an NTK without eigenvalues at rounding for time infinity; got a singular one. Equal inputs make "
            "it singular. Give a ridge, or finite times."
        )
    across = np.asarray(tangent(x_new, x), float) @ vectors
    columns = vectors.T @ values.reshape(len(x), -1).astype(float)
    own, between, far = (np.asarray(part, float) for part in (prior(x), prior(x_new, x), prior(x_new)))
    own, between = vectors.T @ own @ vectors, between @ vectors
    means, covariances = [], []
    for moment in moments:
        with np.errstate(invalid="ignore"):
            exponent = np.where(rates > 0, rates * moment / len(x), 0.0)
        learned = -np.expm1(-exponent)
        gain = across * np.where(rates > floor, learned / np.maximum(rates, floor), moment / len(x))
        mixed = gain @ between.T
        means.append(gain @ columns)
        covariances.append(far - mixed - mixed.T + gain @ own @ gain.T)
    dtype = jnp.result_type(float)
    return Ensemble(
        times=jnp.asarray(moments, dtype),
        mean=jnp.asarray(np.stack(means).reshape(len(moments), -1, *values.shape[1:]), dtype),
        covariance=jnp.asarray(np.stack(covariances), dtype),
    )
