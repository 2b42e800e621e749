"""States: what is known about how a value depends on the examples of a batch.

>>> combined([Rows(0), Same(frozenset({0}))], [(31, 2), (31, 2)])
Rows(axis=0, block=1)
>>> combined([Rows(0), Rows(1)], [(31, 31), (31, 31)]) is None
True
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ntkbias.checks import are_known

__all__ = [
    "Body",
    "Rows",
    "Same",
    "State",
    "after_removing",
    "combined",
    "shapes",
    "state_of_constant",
    "unless_touched",
    "with_axes_moved",
]


class Same(NamedTuple):
    """A value that does not depend on the inputs."""

    uniform: frozenset[int]  # axes along which all entries are known to be equal


class Rows(NamedTuple):
    """A value whose axis `axis` lists the examples in order, each with `block` consecutive entries."""

    axis: int
    block: int = 1


State = Same | Rows | None
Body = Callable[[Any, Sequence[State]], list[State]]  # the states of a called jaxpr's results, given its arguments'
MOST_COMPARED = 2**20  # entries: constants larger than this are not examined


def state_of_constant(value: Any) -> State:
    """The state of a constant: `Same`, with the axes along which its entries are equal."""
    shape = np.shape(value)
    if not 0 < math.prod(shape) <= MOST_COMPARED or not shape or not are_known(value):
        return Same(frozenset())
    try:
        array = np.asarray(value)
    except TypeError:  # keys of jax.random
        return Same(frozenset())
    return Same(frozenset(axis for axis in range(array.ndim) if bool(np.all(array == array.take([0], axis)))))


def combined(states: Sequence[State], shapes: Sequence[tuple[int, ...]]) -> State:
    """The state of a value computed entry by entry from values of one shape, or scalars."""
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


def unless_touched(states: list[State], axes: set[int]) -> list[State]:
    """The states of arrays after an equation that acts within these axes of each: unknown if examples lie along one."""
    return [
        (None if state.axis in axes else state)
        if isinstance(state, Rows)
        else None
        if state is None
        else Same(state.uniform - axes)
        for state in states
    ]


def with_axes_moved(state: State, to: Callable[[int], int | None]) -> State:
    """The state after the axes move as `to` says; `to` gives None for an axis that is removed."""
    if isinstance(state, Rows):
        axis = to(state.axis)
        return None if axis is None else state._replace(axis=axis)
    assert state is not None
    return Same(frozenset(after for axis in state.uniform if (after := to(axis)) is not None))


def after_removing(axes: Any) -> Callable[[int], int | None]:
    """A map from each axis to its place once `axes` are removed, for `with_axes_moved`; None for these."""
    return lambda axis: None if axis in axes else axis - sum(other < axis for other in axes)
