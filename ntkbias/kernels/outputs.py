"""What becomes of a network's outputs a, b in its kernel K(x, x')[a, b]: the table of "mean", "sum", "each" and "all".

    mean   (n, m)         the mean of the diagonal blocks a = b
    sum    (n, m)         the trace over outputs
    each   (o, n, m)      the diagonal, one matrix an output
    all    (n, o, m, o)   all of it

Whoever depends on the choice asks here for what it means, and does not look at the word.

>>> from ntkbias.kernels.outputs import arrangement, num_pairs
>>> arrangement("all").axes, num_pairs(3, "all"), num_pairs(3, "sum")
((0, 2), 9, 3)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.types import Outputs

__all__ = [
    "Arrangement",
    "arrangement",
    "by_positions",
    "inner_products",
    "num_entries",
    "num_pairs",
    "of_independent",
    "rows_of_each",
    "scale_of",
    "transposed",
]


class Arrangement(NamedTuple):
    """How the array of a kernel is laid out."""

    axes: tuple[int, int]  # of the first and of the second inputs
    transposed: tuple[int, ...]  # the axes of K(x2, x1), in the order that makes K(x1, x2) of it
    diagonal: str  # the rule of einsum that takes the kernel of each input with itself
    is_summed: bool  # over outputs: what differs between outputs may then be summed up before
    products: str  # the rule that multiplies the cotangents (o, b, t, j) of one example with (m, o, b, s, j) of others
    contraction: str  # and the one that sums these, times the activations' (m, t, b, s)


SUMMED = Arrangement((0, 1), (1, 0), "nn->n", True, "obtj,mobsj->mtbs", "mtbs,mtbs->m")
ARRANGEMENTS: dict[str, Arrangement] = {
    "mean": SUMMED,
    "sum": SUMMED,
    "each": Arrangement((1, 2), (0, 2, 1), "onn->on", False, "obtj,mobsj->omtbs", "mtbs,omtbs->om"),
    "all": Arrangement((0, 2), (2, 3, 0, 1), "nono->no", False, "abtj,mcbsj->amctbs", "mtbs,amctbs->amc"),
}


def arrangement(outputs: Outputs) -> Arrangement:
    """The layout of a kernel with these outputs."""
    return ARRANGEMENTS[outputs]


def transposed(block: Array, outputs: Outputs) -> Array:
    """The block of (x2, x1), given that of (x1, x2): the examples' axes change places, and the outputs' with them."""
    return jnp.transpose(block, ARRANGEMENTS[outputs].transposed)


def rows_of_each(num_outputs: int, outputs: Outputs) -> int:
    """How many rows of the one matrix an example has: its outputs for "all", else one."""
    return num_outputs if outputs == "all" else 1


def num_pairs(num_outputs: int, outputs: Outputs) -> int:
    """Pairs of outputs whose products the kernel has."""
    return num_outputs**2 if outputs == "all" else num_outputs


def num_entries(num_outputs: int, outputs: Outputs) -> int:
    """Numbers that the kernel has for a pair of examples."""
    return {"all": num_outputs**2, "each": num_outputs}.get(outputs, 1)


def scale_of(num_outputs: int, outputs: Outputs) -> float:
    """What gradients are multiplied by, so that the "mean" of their products is the sum."""
    return num_outputs**-0.5 if outputs == "mean" else 1.0


def inner_products(a: Float[Array, "n o p"], b: Float[Array, "m c p"], outputs: Outputs) -> Array:
    """Inner products over the last axis, laid out as `outputs` says; "mean" is done as "sum".

    Both sides have as many outputs, but for "all".
    """
    if outputs == "each":
        return jnp.einsum("nop,mop->onm", a, b)
    # As a product of two matrices, by rows: with more axes XLA on CPUs transposes the second.
    (n, o, _), (m, c, _) = a.shape, b.shape
    rows = (n * o, m * c) if outputs == "all" else (n, m)
    products = lax.dot_general(a.reshape(rows[0], -1), b.reshape(rows[1], -1), (((1,), (1,)), ((), ())))
    return products.reshape(n, o, m, c) if outputs == "all" else products


def by_positions(
    inner: Callable[[Array, Array], Array], side1: tuple[Array, Array], side2: tuple[Array, Array], outputs: Outputs
) -> Array:
    """The sum over pairs of positions of products of activations, by `inner`, times products of cotangents."""
    rules = ARRANGEMENTS[outputs]

    def row(example: tuple[Array, Array]) -> Array:  # one example with all others: bounds the memory
        outer = jnp.einsum(rules.products, example[1], side2[1])
        return jnp.einsum(rules.contraction, inner(example[0], side2[0]), outer)

    return jnp.moveaxis(lax.map(row, side1), 0, rules.axes[0])


def of_independent(gram: Float[Array, "n m"], num_outputs: int, outputs: Outputs) -> Array:
    """The kernel of as many independent and equal outputs, given that of one."""
    if outputs == "mean":
        return gram
    if outputs == "sum":
        return num_outputs * gram
    if outputs == "each":
        return jnp.broadcast_to(gram, (num_outputs, *gram.shape))
    return jnp.einsum("nm,ab->namb", gram, jnp.eye(num_outputs, dtype=gram.dtype))
