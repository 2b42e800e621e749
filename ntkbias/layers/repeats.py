"""Equal blocks of layers in a row: one scan carries the covariance through all of them.

XLA recomputes cheap values wherever they are used, back to the network's inputs. If an infinite kernel is written out
layer by layer, its compile time and its run time therefore grow with the square of the depth. The body of a scan is
compiled once, and its carry is computed once per block.

A block is one or several layers that repeat, such as (Dense, Relu) in an MLP. Blocks are alike if they differ only in
the values of their numbers and arrays, for example in w_std. Values that differ are stacked and scanned over.

>>> from ntkbias.layers import Conv, Dense, Flatten, Relu
>>> from ntkbias.layers.repeats import repeats
>>> layers = (Conv(8, (3,)), Relu(), *3 * (Dense(8), Relu()), Dense(1))
>>> [(len(block), count) for block, count in repeats(layers)]  # Conv, (Relu, Dense) three times, Relu, Dense
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

MIN_BLOCKS = 3  # fewer are written out, which is as fast
NUM_SETTLING = 2  # first blocks that may change the form of the carry: the first adds an ntk and sets the width
NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def propagated(layers: Sequence[Layer], covariance: Covariance) -> Covariance:
    """The covariance after all of these layers. Equal blocks in a row become one scan."""
    start = 0
    for block, count in repeats(layers):
        stop = start + len(block) * count
        blocks = [tuple(layers[at : at + len(block)]) for at in range(start, stop, len(block))]
        covariance = _through_all(blocks, covariance)
        start = stop
    return covariance


def repeats(layers: Sequence[Layer]) -> list[tuple[Block, int]]:
    """The layers as blocks, each with its number of repetitions in a row. Most blocks are one layer that occurs once.

    At each place this takes the block whose repetitions reach furthest, and the shorter one if two reach equally far.
    """
    kinds = _kinds(layers)
    found = []
    start = 0
    while start < len(layers):
        period, count = _longest_run(kinds, start)
        found.append((tuple(layers[start : start + period]), count))
        start += period * count
    return found


def _kinds(layers: Sequence[Layer]) -> list[int]:
    """One number per layer, the same for layers that are alike."""
    numbers: dict[Hashable, int] = {}
    by_id: dict[int, int] = {}  # a block is often the same object many times
    for layer in layers:
        if id(layer) not in by_id:
            by_id[id(layer)] = numbers.setdefault(_kind(layer), len(numbers))
    return [by_id[id(layer)] for layer in layers]


def _kind(layer: Layer) -> Hashable:
    """A value that layers share if they are alike: everything but the values of their numbers and arrays."""
    leaves, structure = jax.tree.flatten(layer)
    kind = (structure, tuple(map(_kind_of_leaf, leaves)))
    try:
        hash(kind)
        return kind if kind == (structure, kind[1]) else id(layer)
    except (TypeError, ValueError):  # a field that cannot be compared, such as an array: no other layer is alike
        return id(layer)


def _kind_of_leaf(leaf: Any) -> Hashable:
    if type(leaf) is float:
        return float
    if _is_array(leaf):
        return jnp.shape(leaf), jnp.result_type(leaf), getattr(leaf, "weak_type", False)
    return type(leaf), leaf  # a whole number may be an exponent, so its value distinguishes layers


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _longest_run(kinds: list[int], start: int) -> tuple[int, int]:
    """The length and the number of repetitions of the block at `start` whose repetitions reach furthest."""
    best, reach = (1, 1), start + 1
    for period in range(1, (len(kinds) - start) // MIN_BLOCKS + 1):
        if best[1] > 1 and period % best[0] == 0 and start + period <= reach:
            continue  # a multiple of the best block reaches no further
        end = start + period
        while end < len(kinds) and kinds[end] == kinds[end - period]:
            end += 1
        count = (end - start) // period
        if count >= MIN_BLOCKS and period * count > best[0] * best[1]:
            best, reach = (period, count), end
    return best


def _through_all(blocks: Sequence[Block], covariance: Covariance) -> Covariance:
    """The covariance after blocks that are alike. The first ones are written out until the carry keeps its form.

    All of them are written out if a layer's `propagate` reads the values of its numbers, which a scan traces.
    """
    for _ in range(NUM_SETTLING + 1):
        if len(blocks) < MIN_BLOCKS:
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
    """Whether a block leaves the shapes, the types and the structure of the carry unchanged."""
    before, after = jax.eval_shape(lambda carried: (carried, _through(block, carried)), covariance)
    same = jax.tree.structure(before) == jax.tree.structure(after)  # type: ignore[operator]
    return same and jax.tree.leaves(before) == jax.tree.leaves(after)


def _scanned(blocks: Sequence[Block], covariance: Covariance) -> Covariance:
    """The covariance after blocks that are alike, by a scan. No block may change the form of the carry."""
    structure = jax.tree.structure(blocks[0])
    columns = list(zip(*map(jax.tree.leaves, blocks), strict=True))
    # Equal numbers stay Python numbers. The others keep their weak types, so that nothing is promoted.
    stacked = {k: jnp.stack(list(map(jnp.asarray, column))) for k, column in enumerate(columns) if not _equal(column)}

    def step(carried: Covariance, own: dict[int, Array]) -> tuple[Covariance, None]:
        leaves = [own.get(k, column[0]) for k, column in enumerate(columns)]
        return _through(jax.tree.unflatten(structure, leaves), carried), None

    return jax.lax.scan(step, covariance, stacked, length=len(blocks))[0]


def _equal(column: Sequence[Any]) -> bool:
    """Whether a leaf is the same in all blocks, as far as can be known without reading arrays."""
    first = column[0]
    return all(leaf is first or (type(leaf) is float and leaf == first) for leaf in column) or not (
        type(first) is float or _is_array(first)
    )
