"""What is known of how a value depends on the examples of a batch.

>>> joined([Rows(0), Same(frozenset({0}))], [(31, 2), (31, 2)])
Rows(axis=0, block=1)
>>> joined([Rows(0), Rows(1)], [(31, 31), (31, 31)]) is None
True
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ntkbias.checks import are_known

__all__ = ["Body", "Rows", "Same", "State", "joined", "kept_off", "moved", "of_constant", "shapes", "without"]


class Same(NamedTuple):
    """A value that does not depend on the inputs, and the axes along which all its entries are known to be equal."""

    uniform: frozenset[int]


class Rows(NamedTuple):
    """A value whose axis `axis` has `block` entries of each example, one example after the other."""

    axis: int
    block: int = 1


State = Same | Rows | None
Body = Callable[[Any, Sequence[State]], list[State]]  # the states of what a called program returns
MOST_COMPARED = 2**20  # entries of a constant that are looked at


def of_constant(value: Any) -> State:
    """The state of a constant: along which axes its entries are equal."""
    shape = np.shape(value)
    if not 0 < math.prod(shape) <= MOST_COMPARED or not shape or not are_known(value):
        return Same(frozenset())
    try:
        array = np.asarray(value)
    except TypeError:  # keys of jax.random
        return Same(frozenset())
    return Same(frozenset(axis for axis in range(array.ndim) if bool(np.all(array == array.take([0], axis)))))


def joined(states: Sequence[State], shapes: Sequence[tuple[int, ...]]) -> State:
    """The state of a value made entry by entry of some of one shape, or scalars."""
    rows = {state for state in states if isinstance(state, Rows)}
    if None in states or len(rows) > 1:
        return None
    arrays = [state for state, shape in zip(states, shapes, strict=True) if isinstance(state, Same) and shape]
    if not rows:
        return Same(frozenset.intersection(*(state.uniform for state in arrays)) if arrays else frozenset())
    (row,) = rows
    return row if all(row.axis in state.uniform for state in arrays) else None


def shapes(equation: Any) -> list[tuple[int, ...]]:
    """The shapes of an equation's operands."""
    return [variable.aval.shape for variable in equation.invars]


def kept_off(states: list[State], axes: set[int]) -> list[State]:
    """The states of arrays of which an equation touches these axes alone, each array by itself."""
    return [
        (None if state.axis in axes else state)
        if isinstance(state, Rows)
        else None
        if state is None
        else Same(state.uniform - axes)
        for state in states
    ]


def moved(state: State, to: Callable[[int], int | None]) -> State:
    """The state after axes moved; to None where an axis is gone."""
    if isinstance(state, Rows):
        axis = to(state.axis)
        return None if axis is None else state._replace(axis=axis)
    assert state is not None
    return Same(frozenset(after for axis in state.uniform if (after := to(axis)) is not None))


def without(axes: Any) -> Callable[[int], int | None]:
    """Where axes are once some of them are gone."""
    return lambda axis: None if axis in axes else axis - sum(other < axis for other in axes)
