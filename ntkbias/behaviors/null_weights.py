"""Weights that a behavior's ease is compared with: the same network without what it has learned.

    random_weights     each array drawn anew, Gaussian, with the mean and the standard deviation of its own entries
    permuted_weights   the entries of each array in a random order: the same numbers, without their arrangement

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> shuffled = nb.behaviors.permuted_weights({"w": jnp.arange(6.0).reshape(2, 3)}, key=jax.random.key(0))
>>> shuffled["w"].shape, sorted(shuffled["w"].ravel().tolist())
((2, 3), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.checks import require_array, require_key, require_known, widened
from ntkbias.errors import InputError
from ntkbias.parameters import Which, chosen_paths, paths_of
from ntkbias.types import Params

__all__ = ["permuted_weights", "random_weights"]


def random_weights(params: Params, *, key: PRNGKeyArray, only: Which | None = None) -> Params:
    """Parameters like `params`, each array Gaussian with the mean and the standard deviation of its entries.

    It is a null for networks that come without a function that initializes them. `only` selects arrays as `wrt` does in
    `empirical_ntk`; the others stay as they are. Whole numbers stay too. Costs one draw per parameter.

    Raises `InputError` if `params` has no arrays, and on a `key` that is not one of jax.random.

    >>> import jax, jax.numpy as jnp
    >>> random_weights(jnp.full((2, 2), 3.0), key=jax.random.key(0)).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """

    def drawn(key: PRNGKeyArray, leaf: Array) -> Array:
        wide = widened(leaf)  # the deviation of small or large numbers is none in float16
        found = jnp.mean(wide) + jnp.std(wide) * jax.random.normal(key, leaf.shape, wide.dtype)
        return found.astype(leaf.dtype)

    return _changed(params, key, only, drawn)


def permuted_weights(params: Params, *, key: PRNGKeyArray, only: Which | None = None) -> Params:
    """Parameters like `params`, with the entries of each array in a random order. Arguments as in `random_weights`.

    If layers are stacked along an axis of one array, as for `lax.scan`, entries move between layers as well.

    >>> import jax, jax.numpy as jnp
    >>> sorted(permuted_weights(jnp.array([1.0, 2.0]), key=jax.random.key(0)).tolist())
    [1.0, 2.0]
    """
    require_known((params, key), "permuted_weights", "it draws orders on the host")

    def shuffled(key: PRNGKeyArray, leaf: Array) -> Array:
        # By NumPy: JAX sorts random numbers, several times over, which takes minutes for a table of a vocabulary.
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
        return jnp.asarray(rng.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape))

    return _changed(params, key, only, shuffled)


def _changed(
    params: Params, key: PRNGKeyArray, only: Which | None, change: Callable[[PRNGKeyArray, Array], Array]
) -> Params:
    paths = paths_of(params)
    if not paths:
        raise InputError("Expected params with one array or more; got none.")
    chosen = chosen_paths(params, only)
    leaves, treedef = jax.tree.flatten(params)
    found = []
    for path, leaf, own in zip(paths, leaves, jax.random.split(require_key(key), len(paths)), strict=True):
        array = require_array(leaf, f"params{path}")
        moves = jnp.issubdtype(array.dtype, jnp.floating) and (chosen is None or path in chosen)
        found.append(change(own, array) if moves else leaf)
    return jax.tree.unflatten(treedef, found)
