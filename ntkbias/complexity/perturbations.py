"""How flat a minimum is: the rise of the error under random relative changes of all parameters.

The local energy of parameters w at size s is (Baldassi et al. 2021, arXiv 2110.00683)

    mean over z of E(w (1 + s z)) - E(w),    z standard normal, one number per parameter

with the classification error E on the training set. It is small in a wide, flat region. Relative changes make it
independent of the scale of each layer.

>>> import jax.numpy as jnp
>>> from ntkbias.complexity import local_energy
>>> f, w, x = lambda w, x: x @ w, jnp.array([[1.0], [1.0]]), jnp.eye(2)
>>> [round(float(rise), 1) for rise in local_energy(f, w, x, jnp.array([1.0, 1.0]), [0.0, 100.0], num_draws=200)]
[0.0, 0.5]
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_positive, require_wide
from ntkbias.compilation import Function, compiled
from ntkbias.complexity.problem import Network, Problem
from ntkbias.errors import InputError
from ntkbias.losses import LossFunction
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["local_energy"]


def local_energy(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    sizes: ArrayLike | Sequence[float],
    *,
    loss: str | LossFunction = "error",
    num_draws: int = 32,
    batch_size: int = 1_024,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " sizes"]:
    """The mean rise of the classification error if each parameter w becomes w (1 + size z), for each of the `sizes`.

    y has labels: -1 and 1 for a network with one output, whose sign is the class, and otherwise 0, 1, ... for the
    largest output. With another `loss`, by its name or as a function, the result is the rise of that loss. All sizes
    use the same `num_draws` draws of z, from `key` (default: a fixed one), and cost as many forward passes each.

    Raises `InputError` if a size is negative, and on labels or targets that the loss does not accept.

    >>> import jax, ntkbias as nb
    >>> net, (x, y) = nb.nets.mlp(width=16, depth=1, num_outputs=10), nb.datasets.digits(50)
    >>> params = net.init(jax.random.key(0), x.shape[1:])
    >>> nb.complexity.local_energy(net.apply, params, x, y, [0.0, 0.5], num_draws=4).shape
    (2,)
    """
    require_positive("num_draws", num_draws)
    spreads = require_wide(sizes, "sizes")
    if spreads.ndim != 1 or not spreads.size or not bool(jnp.all((spreads >= 0) & (spreads < jnp.inf))):
        raise InputError(f"Expected sizes (s,) of zero or more; got {sizes!r}.")
    if isinstance(loss, str) and loss == "error":
        outputs = Network(f, params, x, batch_size).outputs.shape[1:]
        several = bool(outputs) and outputs[-1] > 1
        problem = Problem(f, params, x, y, "cross_entropy" if several else "logistic", batch_size)  # checks the labels
        problem.loss = Function.of(_errors if several else _sign_errors)
    else:
        problem = Problem(f, params, x, y, loss, batch_size)
    start = problem.value(problem.params)
    rises = []
    for size in spreads:
        draws = jax.random.split(key_or_default(key), num_draws)
        values = jnp.stack([problem.value(_moved(problem.params, size, draw)) for draw in draws])
        rises.append(jnp.mean(values) - start)
    return jnp.stack(rises).astype(jnp.result_type(float))


@compiled
def _moved(params: Params, size: Array, key: PRNGKeyArray) -> Params:
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf * (1 + size.astype(leaf.dtype) * jax.random.normal(own, leaf.shape, leaf.dtype))
        for leaf, own in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def _errors(outputs: Array, y: Array) -> Array:
    """The share of inputs whose largest output is not that of their label; `y` may be one-hot."""
    right = y if y.ndim < outputs.ndim else y.argmax(-1)
    return jnp.mean((outputs.argmax(-1) != right).astype(outputs.dtype))


def _sign_errors(outputs: Array, y: Array) -> Array:
    return jnp.mean((jnp.sign(outputs.ravel()) != y.ravel()).astype(outputs.dtype))
