"""The laws of every adapted model."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from cases import assert_near

import ntkbias as nb


def in_float64(tree):
    """A pytree with every floating-point array in float64; counters, keys and functions are unchanged."""
    wide = lambda leaf: isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if wide(leaf) else leaf, tree)


def assert_adapted(f, params, x, own):
    """f agrees with the library's own call. Its kernel is a product of explicit Jacobians, and can be explained."""
    tables = []

    @jax.jit  # one program, since compilation dominates the time
    def values(params, x):
        outputs, pullback = jax.vjp(lambda params: f(params, x), params)
        size = math.prod(outputs.shape)
        basis = jnp.eye(size, dtype=outputs.dtype).reshape(size, *outputs.shape)
        rows = [leaf.reshape(size, -1) for leaf in jax.tree.leaves(jax.vmap(pullback)(basis))]
        explicit = sum(row @ row.T for row in rows).reshape((len(x), size // len(x)) * 2)
        tables.append(nb.kernels.explain_ntk(f, params, x))
        return outputs, own(x), explicit, nb.empirical_ntk(f, params, outputs="all")(x)

    outputs, expected, explicit, kernel = values(params, x)
    assert kernel.dtype == jnp.float64
    rounding = 4 * float(jnp.finfo(outputs.dtype).eps)  # the same operations, which XLA may fuse in another way
    assert_near(outputs, expected, max(1e-13, rounding))
    assert_near(kernel, explicit, 1e-10)
    assert np.abs(explicit).max() > 0
    assert len(tables[0].splitlines()) >= 1 + len(jax.tree.leaves(params))


def same(tree1, tree2):
    """Whether two pytrees hold the same array objects and are equal otherwise."""
    leaves1, structure1 = jax.tree.flatten(tree1)
    leaves2, structure2 = jax.tree.flatten(tree2)
    return structure1 == structure2 and all(a is b for a, b in zip(leaves1, leaves2, strict=True))
