"""Measures of the path that parameters take in training: its displacement, its straightness and its complexity.

    displacement exponent   c of ||theta_t - theta_s||^2 ~ (t - s)^c      (Kunin et al. 2021, arXiv 2107.09133)
    path complexity         sum_t ||theta_{t + 1} - theta_t|| sqrt(tr K_t)      (Baratin et al. 2020, arXiv 2008.00938)

The exponent is 2 on a straight path, 1 in Brownian motion, and 0 once the path is confined to a basin. The global
exponent measures displacements from the start of the path. A local exponent measures displacements over a given lag,
averaged over all starting points. A path is an array `(steps, p)` or a list of parameters, which may be any pytrees.

>>> import numpy as np
>>> from ntkbias.complexity import displacement_exponent
>>> walk = np.cumsum(np.random.default_rng(0).normal(size=(2_000, 500)), 0)
>>> line = np.arange(100.0)[:, None] * np.ones(3)
>>> round(displacement_exponent(walk), 1), round(displacement_exponent(line), 6)
(1.0, 2.0)
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_positive, require_wide
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import empirical_ntk
from ntkbias.progress import progress
from ntkbias.scaling import power_law
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = [
    "displacement_exponent",
    "local_displacement_exponents",
    "mean_squared_displacement",
    "path_complexity",
    "weight_norm",
    "weight_norms",
]

POINTS = 64  # in a logarithmic grid of times, so that late times do not outweigh early ones


def displacement_exponent(path: Any, *, first: int = 1, last: int | None = None) -> float:
    """The global exponent c of ||theta_t - theta_0||^2 ~ t^c, by least squares on a logarithmic grid of times.

    `path` is an array `(steps, ...)` or a list of parameters, equally spaced in time. Times `first` to `last` (default:
    all) are fitted. The exponent of one path is random: for a diffusion in p dimensions, its standard error is about
    sqrt(2 / p). Average over runs.

    Raises `InputError` on fewer than four states, that is three times after the start, and if the path does not move.

    >>> import ntkbias as nb, numpy as np
    >>> round(nb.complexity.displacement_exponent(np.arange(16.0)[:, None]), 3)  # a straight line
    2.0
    """
    positions = _positions(path)
    last = len(positions) - 1 if last is None else last
    if len(positions) < 4:
        raise InputError(
            f"Expected a path of four states or more, the start and three times to fit; got {len(positions)}."
        )
    if not 1 <= first < last - 1 <= len(positions) - 2:
        raise InputError(
            f"Expected three times or more to fit, from 1 to {len(positions) - 1}; got first {first} and last {last}."
        )
    times = np.unique(np.round(np.geomspace(first, last, POINTS)).astype(int))
    squares = np.sum((positions[times] - positions[0]) ** 2, 1)
    _require_moved(squares)
    return power_law(times, squares).exponent


def mean_squared_displacement(path: Any, lags: ArrayLike) -> Float[Array, " lags"]:
    """The mean over starts t of ||theta_{t + lag} - theta_t||^2, for each of `lags` `(lags,)` in steps.

    `path` is that of `displacement_exponent`. A lag near the length of the path has few starts, and their displacements
    overlap: the mean is noisy. Costs (number of steps) p multiplications per lag. Raises `InputError` on lags outside
    1 .. steps - 1.

    >>> import ntkbias as nb, numpy as np
    >>> nb.complexity.mean_squared_displacement(np.arange(16.0)[:, None], [1, 2, 4]).tolist()
    [1.0, 4.0, 16.0]
    """
    positions = _positions(path)
    chosen = _checked_lags(lags, len(positions))
    return jnp.asarray([np.mean(np.sum((positions[lag:] - positions[:-lag]) ** 2, 1)) for lag in chosen])


def local_displacement_exponents(path: Any, lags: ArrayLike) -> Float[Array, " pairs"]:
    """The local exponents d log MSD / d log lag, one between each two neighbors of the ascending `lags` `(lags,)`.

    MSD is `mean_squared_displacement`, which gives the cost and the errors. The exponent is about 1 where the path
    diffuses, between 1 and 2 where it drifts, and about 0 at lags beyond which it is confined.

    >>> import ntkbias as nb, numpy as np
    >>> nb.complexity.local_displacement_exponents(np.arange(16.0)[:, None], [1, 2, 4]).round(2).tolist()
    [2.0, 2.0]
    """
    chosen = _checked_lags(lags, len(_positions(path)))
    if len(chosen) < 2 or np.any(np.diff(chosen) <= 0):
        raise InputError(f"Expected two lags or more, ascending; got {chosen.tolist()}.")
    squares = np.asarray(mean_squared_displacement(path, lags), float)
    _require_moved(squares)
    return jnp.asarray(np.diff(np.log(squares)) / np.diff(np.log(chosen)))


def path_complexity(
    f: ApplyFunction, path: Sequence[Params], x: Inputs, *, memory_budget: int | None = None
) -> Float[Array, " steps"]:
    """The running sum of ||step|| sqrt(tr K / n) along a path of parameters, after each step. The last is the total.

    K is the NTK on x `(n, ...)`, summed over outputs, before the step: sqrt(tr K / n) is the root mean square of
    ||d f(x) / d theta||_F. The paper has sqrt(tr K), which grows as sqrt(n); here it is divided by sqrt(n). For a
    linear model, the result is the length of the path times a constant. Steps between stored parameters count as
    straight, so store the parameters often. Costs the diagonal of the kernel at each step, which takes one backward
    pass per output; a bar counts the steps.

    Raises `InputError` on whatever `empirical_ntk` refuses, and `InputTypeError` if `path` is not a list of two
    parameters or more.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> path = [jnp.zeros(2), jnp.array([3.0, 4.0])]
    >>> nb.complexity.path_complexity(lambda p, x: x @ p, path, jnp.eye(2)).tolist()  # ||step|| sqrt(tr K / n)
    [5.0]
    """
    _require_path(path)
    steps = np.linalg.norm(np.diff(_positions(path), axis=0), axis=1)
    traces = [
        empirical_ntk(f, params, outputs="sum", memory_budget=memory_budget).operator(x).trace()
        for params in progress(path[:-1], "kernel traces")
    ]
    return jnp.asarray(np.cumsum(steps * np.sqrt(np.array(traces) / len(np.asarray(x)))))


def weight_norm(params: Params) -> Float[Array, ""]:
    """The Euclidean norm of all parameters in a pytree.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> float(nb.complexity.weight_norm([jnp.array([3.0]), jnp.array([4.0])]))
    5.0
    """
    return _norm(jnp.stack(list(weight_norms(params).values())))


def weight_norms(params: Params) -> dict[str, Float[Array, ""]]:
    """The Euclidean (Frobenius) norm of each parameter, by its path in `params`, as in `empirical_ntk_by_layer`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> {path: float(norm) for path, norm in nb.complexity.weight_norms({"w": jnp.array([3.0, 4.0])}).items()}
    {"['w']": 5.0}
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("Expected params to hold at least one array; got an empty pytree.")
    norms = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path)
        array = require_wide(leaf, f"params{name}")
        require_finite(array, f"params{name}")
        norms[name] = _norm(array.astype(jnp.result_type(array.dtype, float)))
    return norms


def _norm(array: Array) -> Float[Array, ""]:
    """The root of the sum of squares, safe for numbers whose squares would overflow or underflow."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(array), initial=0.0))
    scale = jnp.ldexp(jnp.ones((), array.dtype), exponent - 1)  # a power of two: dividing by it rounds nothing
    return scale * jnp.sqrt(jnp.sum((array / scale) ** 2))


def _positions(path: Any) -> Float[np.ndarray, "steps p"]:
    """The path as one array in float64, since displacements are small compared with the parameters."""
    if isinstance(path, np.ndarray | jax.Array):
        array = require_wide(path, "the path")
        if array.ndim < 1 or len(array) < 2:
            raise InputError(f"Expected a path of two positions or more, (steps, ...); got shape {array.shape}.")
        require_finite(array, "the path")
        return np.asarray(path, float).reshape(len(array), -1)
    _require_path(path)
    structures = {str(jax.tree.map(np.shape, params)) for params in path}
    if len(structures) > 1:
        raise InputError("Expected parameters of one structure along the path; got several. Store the same pytree.")
    leaves = [[np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(params)] for params in path]
    positions = np.stack([np.concatenate(parts) for parts in leaves])
    if not np.isfinite(positions).all():
        raise InputError("Expected finite parameters along the path; got NaN or infinity. Cut it before it diverges.")
    return positions


def _require_path(path: Any) -> None:
    if not isinstance(path, list | tuple) or len(path) < 2:
        got = f"{len(path)} of them" if isinstance(path, list | tuple) else type(path).__name__
        raise InputTypeError(f"Expected a path: a list of parameters at two steps or more; got {got}.")


def _checked_lags(lags: ArrayLike, num_steps: int) -> Int[np.ndarray, " lags"]:
    array = np.asarray(require_wide(lags, "lags"))
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise InputError(f"Expected lags (lags,) as whole numbers of steps; got {array.dtype} of shape {array.shape}.")
    for lag in array:
        require_positive("lags", int(lag))
    if array.max() >= num_steps:
        raise InputError(f"Expected lags of at most {num_steps - 1} steps; got {array.max()}.")
    return array


def _require_moved(squares: Float[np.ndarray, " times"]) -> None:
    if not np.all(squares > 0):
        raise InputError("Expected a path that moves; got a displacement of zero at some times. Leave those times out.")
