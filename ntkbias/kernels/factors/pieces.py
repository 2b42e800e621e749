"""Contractions as sums over pieces, whose temporaries fit a CPU's caches or an accelerator's memory.

>>> import jax.numpy as jnp
>>> split(jnp.arange(5), 0, 2).tolist(), divisor(12, 5)
([[0, 1, 2], [3, 4, 0]], 6)
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.kernels.outputs import arrangement, inner_products
from ntkbias.types import Outputs

__all__ = ["UNCACHED", "Parts", "blocks_of_products", "divisor", "split", "summed"]

UNCACHED = 2**28  # bytes of gradients that are formed at once on an accelerator
WIDEST = 2**21  # bytes of one side of a piece of a matrix product on a CPU
LEAST_WIDTH = 512  # the least length of the contracted axis in a piece: shorter ones are slower

Parts = Sequence[tuple[slice, slice]]  # the rows and columns of each block to compute


def split(array: Array, axis: int, most: int) -> Array:
    """Split an axis into at most `most` equal parts, along a new first axis. The last part is padded with zeros."""
    axis %= array.ndim
    width = -(-array.shape[axis] // most)
    count = -(-array.shape[axis] // width)
    missing = count * width - array.shape[axis]
    if missing:
        array = jnp.pad(array, [(0, missing if place == axis else 0) for place in range(array.ndim)])
    shape = (*array.shape[:axis], count, width, *array.shape[axis + 1 :])
    return jnp.moveaxis(array.reshape(shape), axis, 0)


def divisor(number: int, least: int) -> int:
    """The smallest divisor of `number` that is at least `least`; `number` itself if there is none."""
    return next((count for count in range(min(least, number), number) if number % count == 0), number)


def summed(function: Callable[[list[Array]], list[Array]], pieces: list[Array]) -> list[Array]:
    """The sum of a function over the first axis of `pieces`, computed one piece at a time."""
    first = function([piece[0] for piece in pieces])
    if len(pieces[0]) == 1:
        return first

    def add(total: list[Array], piece: list[Array]) -> tuple[list[Array], None]:
        return jax.tree.map(jnp.add, total, function(piece)), None

    return lax.scan(add, first, [piece[1:] for piece in pieces])[0]


def blocks_of_products(
    left: Float[Array, "n o p"], right: Float[Array, "m c p"], parts: Parts, outputs: Outputs
) -> list[Array]:
    """The `inner_products` of some rows with some columns, summed over pieces of p that fit a CPU's caches.

    A product copies its rows and columns. Copies of all of p would take more memory than a process keeps between calls,
    and mapping that memory again takes a good part of the time of the products.
    """

    def of(left: Array, right: Array) -> list[Array]:
        return [inner_products(left[rows], right[columns], outputs) for rows, columns in parts]

    if arrangement(outputs).is_summed:
        left, right = (side.reshape(len(side), 1, -1) for side in (left, right))
    (_, o, p), rows = left.shape, max(len(left), len(right))
    count = p // max(LEAST_WIDTH, WIDEST // (rows * o * left.dtype.itemsize))
    if jax.default_backend() != "cpu" or count < 2:
        return of(left, right)
    width = p // count

    def add(total: list[Array], start: Array) -> tuple[list[Array], None]:
        pieces = [lax.dynamic_slice_in_dim(side, start, width, 2) for side in (left, right)]
        return [t + block for t, block in zip(total, of(*pieces), strict=True)], None

    rest = p % width + width
    return lax.scan(add, of(left[..., :rest], right[..., :rest]), jnp.arange(rest, p, width))[0]
