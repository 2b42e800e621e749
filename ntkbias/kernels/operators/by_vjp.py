"""Programs that multiply vectors by the Jacobian of a batch, with one pass through the network per vector.

A backward pass (VJP) gives J^T v, a forward pass (JVP) gives J u. They suit single vectors.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.gradients import Gradients
>>> gradients = Gradients.of(lambda params, x: x @ params, jnp.ones((3, 1)), "all")
>>> x, v = jnp.ones((1, 5, 3)), jnp.ones((1, 5, 1, 2))                        # five examples on one device
>>> add_vjp((gradients, x, v, 0, None), [jnp.zeros((1, 2, 3, 1))])[0].shape
(1, 2, 3, 1)
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.compilation import compiled
from ntkbias.kernels.operators.layout import on_devices

__all__ = ["add_vjp", "write_jvp"]


@compiled(donate_rest=True)
def add_vjp(of: tuple, total: list[Array]) -> list[Array]:
    """Add J^T v of a batch to the sum on each device, by one backward pass per vector."""
    gradients, x, vectors, start, mesh = of
    arrays, static = eqx.partition(gradients, eqx.is_array)

    def function(arrays: Any, x: Array, vectors: Array, start: Array, total: list[Array]) -> list[Array]:
        outputs_of, chosen = eqx.combine(arrays, static).outputs_by_params(x)
        outputs, pullback = jax.vjp(outputs_of, chosen)
        v = jax.lax.dynamic_slice_in_dim(vectors, start, len(x))
        if outputs.shape[1] > v.shape[1]:  # the kernel sums over outputs: one cotangent per output
            eye = jnp.eye(outputs.shape[1], dtype=v.dtype)
            v = jnp.einsum("bk,oc->bokc", v[:, 0], eye).reshape(len(x), len(eye), -1)
        if v.shape[-1] == 1:  # without vmap, whose batching rules slow down convolutions
            found = jax.tree.map(lambda leaf: leaf[None], pullback(v[..., 0].astype(outputs.dtype))[0])
        else:
            found = jax.vmap(lambda cotangent: pullback(cotangent)[0], in_axes=-1)(v.astype(outputs.dtype))
        return jax.tree.map(jnp.add, total, found)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, False, True, True, False, True)(arrays, x, vectors, start, total)


@compiled(donate_rest=True)
def write_jvp(of: tuple, result: Array) -> Array:
    """Write J u of a batch into the result, by one forward pass per vector."""
    gradients, x, tangents, start, mesh = of
    arrays, static = eqx.partition(gradients, eqx.is_array)

    def function(arrays: Any, x: Array, tangents: list[Array], start: Array, result: Array) -> Array:
        outputs_of, chosen = eqx.combine(arrays, static).outputs_by_params(x)
        if tangents[0].shape[0] == 1:
            found = jax.jvp(outputs_of, (chosen,), (jax.tree.map(lambda leaf: leaf[0], tangents),))[1][..., None]
        else:
            found = jax.vmap(jax.linearize(outputs_of, chosen)[1], out_axes=-1)(tangents)  # (b, o, k c)
        if found.shape[1] > result.shape[1]:
            apart = found.reshape(*found.shape[:2], -1, found.shape[1])
            found = jnp.einsum("boko->bk", apart)[:, None]
        return jax.lax.dynamic_update_slice_in_dim(result, found.astype(result.dtype), start, 0)

    with jax.default_matmul_precision("highest"):
        return on_devices(function, mesh, False, True, False, False, True)(arrays, x, tangents, start, result)
