"""Gradient flow in the parameters: training in the limit of small steps, integrated in time.

    d params / dt = -grad E(params)

Gradient descent with learning rate h is Euler's method with time step h for this equation. Where the two differ, the
size of the steps matters: gradient descent follows the flow of E + (h / 4) ||grad E||^2 more closely than that of E
(Barrett and Dherin 2020, arXiv 2009.11162). `gradient_flow` solves the equation in closed form for linear models.

>>> import jax.numpy as jnp
>>> from ntkbias.training import parameter_flow
>>> w = parameter_flow(lambda w: jnp.sum(w**2) / 2, jnp.array([1.0]), [1.0, 2.0])  # exp(-t)
>>> w.round(4).tolist()
[[0.3679], [0.1353]]
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite, require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import Params

__all__ = ["parameter_flow"]

LEAST_TOLERANCE = 1e-13  # below, SciPy's method only adds up rounding errors of float64


def parameter_flow(
    objective: Callable[[Params], Array],
    params: Params,
    times: ArrayLike | Sequence[float],
    *,
    tolerance: float = 1e-6,
) -> Params:
    """The parameters at each of the ascending `times` `(t,)` under gradient flow; each leaf gets a first axis `(t,)`.

    `objective(params)` returns one number, such as the training loss. One unit of time is one step of gradient descent
    with learning rate one. The method is Dormand and Prince's of order 8 with adaptive steps (SciPy's DOP853). It keeps
    the error of each step below `tolerance` times the size of the parameters; the errors of steps add up. In float32,
    gradients have a relative error of 1e-7, so smaller tolerances than 1e-6 gain little. For a ReLU network the steps
    become short wherever a unit switches. Costs 12 gradients per step, and at least one step per 6 / sharpness units of
    time.

    Raises `InputError` if `times` do not ascend from zero or more, if `objective` does not return one number, and if
    the gradient becomes infinite or NaN.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, x, y = lambda w, x: x @ w, jnp.eye(2), jnp.array([1.0, 2.0])
    >>> w = nb.training.parameter_flow(lambda w: nb.losses.mse(f(w, x), y), jnp.zeros(2), [2.0])
    >>> (w / y).round(4).tolist()  # 1 - exp(-t / 2)
    [[0.6321, 0.6321]]
    """
    import scipy.integrate  # it takes long to load

    moments = np.asarray(require_wide(times, "times"), float)
    if moments.ndim != 1 or not moments.size or moments[0] < 0 or np.any(np.diff(moments) <= 0):
        raise InputError(f"Expected times (t,) that ascend from zero or more; got {moments.tolist()}.")
    require_finite(moments, "times")
    if not LEAST_TOLERANCE <= tolerance < 1:
        raise InputError(f"Expected a tolerance from {LEAST_TOLERANCE:g} to below 1; got {tolerance!r}.")
    start, unravel = _raveled(params)
    _require_one_number(objective, params)

    @jax.jit
    def slope(flat: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return -jax.grad(lambda flat: objective(unravel(flat)))(flat)

    def derivative(_: float, flat: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # what overflows float32 is infinite, and ends the integration
            return np.asarray(slope(jnp.asarray(flat, start.dtype)), float)

    state, time, kept = np.asarray(start, float), 0.0, []
    if not np.isfinite(derivative(time, state)).all():  # SciPy would look for a first step without end
        raise InputError("Expected a finite gradient of objective at params; got NaN or infinity.")
    size = float(np.sqrt(np.mean(state**2))) or 1.0
    options = {"method": "DOP853", "rtol": tolerance, "atol": tolerance * size}
    for moment in moments:
        if moment > time:
            found = scipy.integrate.solve_ivp(derivative, (time, moment), state, **options)
            state = found.y[:, -1]
            if not found.success or not np.isfinite(state).all():
                raise InputError(
                    f"Expected a gradient flow up to time {moment:g}; it stopped at time {found.t[-1]:.3g}, where the "
                    "gradient grows beyond bounds or is NaN. Choose earlier times."
                )
            time = moment
        kept.append(unravel(jnp.asarray(state, start.dtype)))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def _raveled(params: Params) -> tuple[Array, Callable[[Array], Params]]:
    """All parameters as one vector in float32 or wider, and the way back."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("Expected params to hold at least one array; got an empty pytree.")
    for path, leaf in leaves:
        name = f"params{jax.tree_util.keystr(path)}"
        array = require_array(leaf, name)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputTypeError(f"Expected floating-point numbers in {name}; got {array.dtype}.")
        require_finite(array, name)
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: require_wide(leaf, "params"), params))
    return flat, unravel


def _require_one_number(objective: Callable[[Params], Array], params: Params) -> None:
    if not callable(objective):
        raise InputTypeError(f"Expected objective to be a function of params; got {type(objective).__name__}.")
    found = jax.eval_shape(objective, params)
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        got = getattr(found, "shape", type(found).__name__)
        raise InputError(f"Expected objective(params) to return one real number, such as a loss; got {got}.")
