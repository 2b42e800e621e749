"""Programs that multiply vectors by the Jacobian of a batch, given the factors of its gradients.

They serve blocks of vectors: the passes through the network, one backward for each output, are the same for one vector
and for a hundred; then come matrix products.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.gradients import Gradients
>>> gradients = Gradients.of(lambda params, x: x @ params, jnp.ones((3, 1)))
>>> found = factors(gradients, None, jnp.ones((1, 5, 3)))                     # of one device's five examples
>>> pulled((found, jnp.ones((1, 5, 1, 2)), 0, None), {"": jnp.zeros((1, 3, 2))})[""].shape
(1, 3, 2)
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from ntkbias.compilation import compiled
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.operators.layout import on_devices

__all__ = ["Coordinates", "factors", "pulled", "pulled_and_pushed", "pushed", "squared"]

Coordinates = dict[str, Float[Array, "... k"]]  # vectors `(q, k)` over each parameter, by path; perhaps a device's own


@compiled
def factors(gradients: Gradients, mesh: Mesh | None, x: Array) -> dict[str, Factor]:
    """The factors of a batch on each device."""
    arrays, static = eqx.partition(gradients, eqx.is_array)

    def function(arrays: Any, x: Array) -> Any:
        return eqx.combine(arrays, static).features(x)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, False, True)(arrays, x)


@compiled(donate_rest=True)
def pulled(of: tuple, total: Coordinates) -> Coordinates:
    """Each device's sum, and J^T v of a batch."""
    found, vectors, start, mesh = of

    def function(found: dict[str, Factor], vectors: Array, start: Array, total: Coordinates) -> Coordinates:
        v = _batch(vectors, start, _length(found))
        return {path: total[path] + factor.pull(v) for path, factor in found.items()}

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, True, False, True)(found, vectors, start, total)


@compiled(donate_rest=True)
def pushed(of: tuple, result: Array) -> Array:
    """The result with J u of a batch put into it."""
    found, tangents, start, mesh = of

    def function(found: dict[str, Factor], tangents: Coordinates, start: Array, result: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(result, _times(found, tangents, result.shape[1]), start, 0)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, False, False, True)(found, tangents, start, result)


@compiled(donate_rest=True)
def pulled_and_pushed(of: tuple, total: Coordinates) -> Coordinates:
    """Each device's sum, and J^T D J u of a batch, for the squares D of its rows' scales."""
    found, tangents, squares, start, mesh = of

    def function(
        found: dict[str, Factor], tangents: Coordinates, squares: Array, start: Array, total: Coordinates
    ) -> Coordinates:
        rows = _batch(squares, start, _length(found))
        v = rows * _times(found, tangents, rows.shape[1])
        return {path: total[path] + factor.pull(v) for path, factor in found.items()}

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, False, True, False, True)(found, tangents, squares, start, total)


@compiled(donate_rest=True)
def squared(of: tuple, result: Array) -> Array:
    """The result with the squared norms of a batch's rows put into it."""
    found, start, mesh = of

    def function(found: dict[str, Factor], start: Array, result: Array) -> Array:
        squares: Any = sum(
            jnp.sum(factor.squares(), -1, keepdims=True) if result.shape[1] == 1 else factor.squares()
            for factor in found.values()
        )
        return jax.lax.dynamic_update_slice_in_dim(result, squares[..., None].astype(result.dtype), start, 0)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, True, False, True)(found, start, result)


def _times(found: dict[str, Factor], tangents: Coordinates, rows: int) -> Float[Array, "n r k"]:
    """J u of the examples whose factors these are."""
    parts = [factor.push(tangents[path], rows) for path, factor in found.items()]
    return sum(parts[1:], parts[0])


def _length(found: dict[str, Factor]) -> int:
    return next(iter(found.values())).num_examples


def _batch(array: Array, start: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size)
