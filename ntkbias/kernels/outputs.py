"""The options "mean", "sum", "each" and "all" for the outputs a, b of a network in its kernel K(x, x')[a, b].

    mean   (n, m)         the mean over the diagonal, a = b
    sum    (n, m)         the trace over outputs
    each   (o, n, m)      the diagonal, one matrix per output
    all    (n, o, m, o)   all pairs of outputs

Other modules ask here what an option means, and never compare its name.

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
    "for_independent_outputs",
    "gradient_scale",
    "inner_products",
    "num_entries",
    "num_pairs",
    "rows_per_example",
    "sum_over_positions",
    "transposed",
]


class Arrangement(NamedTuple):
    """The layout of a kernel's array."""

    axes: tuple[int, int]  # the axes of the first and of the second inputs
    transposed: tuple[int, ...]  # the permutation of axes that turns K(x2, x1) into K(x1, x2)
    diagonal: str  # the einsum rule that takes the kernel of each input with itself
    is_summed: bool  # whether the kernel sums over outputs, so that factors may be summed over outputs first
    products: str  # einsum rule: cotangents (o, b, t, j) of one example times those (m, o, b, s, j) of others
    contraction: str  # einsum rule: activation products (m, t, b, s) times these cotangent products, summed


SUMMED = Arrangement((0, 1), (1, 0), "nn->n", True, "obtj,mobsj->mtbs", "mtbs,mtbs->m")
ARRANGEMENTS: dict[str, Arrangement] = {
    "mean": SUMMED,
    "sum": SUMMED,
    "each": Arrangement((1, 2), (0, 2, 1), "onn->on", False, "obtj,mobsj->omtbs", "mtbs,omtbs->om"),
    "all": Arrangement((0, 2), (2, 3, 0, 1), "nono->no", False, "abtj,mcbsj->amctbs", "mtbs,amctbs->amc"),
}


def arrangement(outputs: Outputs) -> Arrangement:
    """The layout of a kernel with this option for outputs."""
    return ARRANGEMENTS[outputs]


def transposed(block: Array, outputs: Outputs) -> Array:
    """The block of (x2, x1), given that of (x1, x2): swap the axes of examples, and of outputs with them."""
    return jnp.transpose(block, ARRANGEMENTS[outputs].transposed)


def rows_per_example(num_outputs: int, outputs: Outputs) -> int:
    """How many rows of the matrix belong to each example: one per output for "all", otherwise one."""
    return num_outputs if outputs == "all" else 1


def num_pairs(num_outputs: int, outputs: Outputs) -> int:
    """The number of pairs of outputs whose products the kernel needs."""
    return num_outputs**2 if outputs == "all" else num_outputs


def num_entries(num_outputs: int, outputs: Outputs) -> int:
    """The number of entries that the kernel has per pair of examples."""
    return {"all": num_outputs**2, "each": num_outputs}.get(outputs, 1)


def gradient_scale(num_outputs: int, outputs: Outputs) -> float:
    """The factor of gradients after which "mean" can be computed as "sum": 1 / sqrt(o) for "mean", otherwise 1."""
    return num_outputs**-0.5 if outputs == "mean" else 1.0


def inner_products(a: Float[Array, "n o p"], b: Float[Array, "m c p"], outputs: Outputs) -> Array:
    """Inner products over the last axis, in the layout of `outputs`; "mean" is computed as "sum".

    Except for "all", both sides have the same number of outputs.
    """
    if outputs == "each":
        return jnp.einsum("nop,mop->onm", a, b)
    # As a product of two matrices: with more axes XLA on CPUs would transpose the second operand.
    (n, o, _), (m, c, _) = a.shape, b.shape
    rows = (n * o, m * c) if outputs == "all" else (n, m)
    products = lax.dot_general(a.reshape(rows[0], -1), b.reshape(rows[1], -1), (((1,), (1,)), ((), ())))
    return products.reshape(n, o, m, c) if outputs == "all" else products


def sum_over_positions(
    inner: Callable[[Array, Array], Array], side1: tuple[Array, Array], side2: tuple[Array, Array], outputs: Outputs
) -> Array:
    """The sum over pairs of positions of products of activations, computed by `inner`, times products of cotangents."""
    rules = ARRANGEMENTS[outputs]

    def row(example: tuple[Array, Array]) -> Array:  # one example with all others, to bound the memory
        outer = jnp.einsum(rules.products, example[1], side2[1])
        return jnp.einsum(rules.contraction, inner(example[0], side2[0]), outer)

    return jnp.moveaxis(lax.map(row, side1), 0, rules.axes[0])


def for_independent_outputs(gram: Float[Array, "n m"], num_outputs: int, outputs: Outputs) -> Array:
    """The kernel of `num_outputs` independent outputs that all have the kernel `gram`."""
    if outputs == "mean":
        return gram
    if outputs == "sum":
        return num_outputs * gram
    if outputs == "each":
        return jnp.broadcast_to(gram, (num_outputs, *gram.shape))
    return jnp.einsum("nm,ab->namb", gram, jnp.eye(num_outputs, dtype=gram.dtype))
