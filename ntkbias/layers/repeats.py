"""Equal blocks of layers in a row: one scanned body carries the covariance through all of them.

XLA computes what is cheap anew wherever it is used, back to the network's inputs: written out layer by layer, both the
time to compile an infinite kernel and the time to run it grow with the square of the depth. The body of a scan is
compiled once, and what it carries is computed once a block.

A block is one or several layers that come again and again, as (Dense, Relu) in an MLP. Blocks are alike if they differ
in the values of their numbers and arrays alone, w_std say; those that differ are stacked and scanned over.

>>> from ntkbias.layers import Conv, Dense, Flatten, Relu
>>> from ntkbias.layers.repeats import repeats
>>> layers = (Conv(8, (3,)), Relu(), *3 * (Dense(8), Relu()), Dense(1))
>>> [(len(block), count) for block, count in repeats(layers)]  # one layer, (Relu, Dense) three times, two more
[(1, 1), (2, 3), (1, 1), (1, 1)]
"""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.layers.covariance import Covariance
from ntkbias.layers.layer import Layer

__all__ = ["propagated", "repeats"]

Block = tuple[Layer, ...]

LEAST = 3  # blocks: fewer are written out, which is as fast
SETTLING = 2  # blocks that may change what is carried: the first gives an ntk, and the width that the others keep
NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def propagated(layers: Sequence[Layer], covariance: Covariance) -> Covariance:
    """The covariance after all of these layers, equal blocks in a row as the body of one scan."""
    start = 0
    for block, count in repeats(layers):
        stop = start + len(block) * count
        blocks = [tuple(layers[at : at + len(block)]) for at in range(start, stop, len(block))]
        covariance = _through_all(blocks, covariance)
        start = stop
    return covariance


def repeats(layers: Sequence[Layer]) -> list[tuple[Block, int]]:
    """The layers as blocks, with how many times in a row each comes; most of them one layer that comes once.

    From each place on, the block whose repetitions reach furthest is taken, and the shorter one of two.
    """
    kinds = _kinds(layers)
    found = []
    start = 0
    while start < len(layers):
        period, count = _longest(kinds, start)
        found.append((tuple(layers[start : start + period]), count))
        start += period * count
    return found


def _kinds(layers: Sequence[Layer]) -> list[int]:
    """A number for each layer; the same for those that are alike."""
    numbers: dict[Hashable, int] = {}
    of_object: dict[int, int] = {}  # a block is often one object many times
    for layer in layers:
        if id(layer) not in of_object:
            of_object[id(layer)] = numbers.setdefault(_kind(layer), len(numbers))
    return [of_object[id(layer)] for layer in layers]


def _kind(layer: Layer) -> Hashable:
    """What layers that are alike have in common: all but the values of numbers and arrays."""
    leaves, structure = jax.tree.flatten(layer)
    kind = (structure, tuple(map(_kind_of_leaf, leaves)))
    try:
        hash(kind)
        return kind if kind == (structure, kind[1]) else id(layer)
    except (TypeError, ValueError):  # a field that cannot be compared, an array say: alike to itself alone
        return id(layer)


def _kind_of_leaf(leaf: Any) -> Hashable:
    if type(leaf) is float:
        return float
    if _is_array(leaf):
        return jnp.shape(leaf), jnp.result_type(leaf), getattr(leaf, "weak_type", False)
    return type(leaf), leaf  # a whole number may be an exponent: its value is part of what the layer does


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _longest(kinds: list[int], start: int) -> tuple[int, int]:
    """Of the blocks that begin at `start`, the length of the one that reaches furthest, and how many times it comes."""
    best, reach = (1, 1), start + 1
    for period in range(1, (len(kinds) - start) // LEAST + 1):
        if best[1] > 1 and period % best[0] == 0 and start + period <= reach:
            continue  # several of the best block: they reach no further
        end = start + period
        while end < len(kinds) and kinds[end] == kinds[end - period]:
            end += 1
        count = (end - start) // period
        if count >= LEAST and period * count > best[0] * best[1]:
            best, reach = (period, count), end
    return best


def _through_all(blocks: Sequence[Block], covariance: Covariance) -> Covariance:
    """The covariance after blocks that are alike; the first ones are written out until what is carried keeps its form.

    All of them are, where a layer's `propagate` looks at the values of its numbers, which a scan traces.
    """
    for _ in range(SETTLING + 1):
        if len(blocks) < LEAST:
            break
        try:
            if _keeps_form(blocks[0], covariance):
                return _scanned(blocks, covariance)
        except NOT_TRACEABLE:
            break
        covariance = _through(blocks[0], covariance)
        blocks = blocks[1:]
    for block in blocks:
        covariance = _through(block, covariance)
    return covariance


def _through(block: Block, covariance: Covariance) -> Covariance:
    for layer in block:
        covariance = layer.propagate(covariance)
    return covariance


def _keeps_form(block: Block, covariance: Covariance) -> bool:
    """Whether a block leaves shapes, types and structure of what is carried as they are."""
    before, after = jax.eval_shape(lambda carried: (carried, _through(block, carried)), covariance)
    same = jax.tree.structure(before) == jax.tree.structure(after)  # type: ignore[operator]
    return same and jax.tree.leaves(before) == jax.tree.leaves(after)


def _scanned(blocks: Sequence[Block], covariance: Covariance) -> Covariance:
    """The covariance after blocks that are alike, none of which changes the form of what is carried."""
    structure = jax.tree.structure(blocks[0])
    columns = list(zip(*map(jax.tree.leaves, blocks), strict=True))
    # Equal numbers stay numbers of Python; the others keep their weak types, so that nothing is promoted.
    stacked = {k: jnp.stack(list(map(jnp.asarray, column))) for k, column in enumerate(columns) if not _equal(column)}

    def step(carried: Covariance, own: dict[int, Array]) -> tuple[Covariance, None]:
        leaves = [own.get(k, column[0]) for k, column in enumerate(columns)]
        return _through(jax.tree.unflatten(structure, leaves), carried), None

    return jax.lax.scan(step, covariance, stacked, length=len(blocks))[0]


def _equal(column: Sequence[Any]) -> bool:
    """Whether a number or array is the same in all blocks, as far as that is known without its values."""
    first = column[0]
    return all(leaf is first or (type(leaf) is float and leaf == first) for leaf in column) or not (
        type(first) is float or _is_array(first)
    )
