"""Gradients that are sums: how each term orders the numbers of the parameter, and the factor of all terms.

A table that is looked up and multiplied by has two terms. Each is a sum of outer products of a vector over the table's
rows and one over its columns (`factors.tied`), if its axes can be followed through the relabelings to the parameter.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.kernels.reading.programs import Program, flat_jaxpr
>>> from ntkbias.kernels.reading.walks import terms_of
>>> scores = lambda table, ids, c: jnp.vdot(table[ids].sum(0) @ table.T, c)
>>> program = flat_jaxpr(jax.grad(scores), jnp.ones((9, 2)), jnp.array([1, 3]), jnp.ones(9))
>>> [layout_of(term, Program(program), (9, 2)) for term in terms_of(program.jaxpr.outvars[0], Program(program))]
[Layout(num_rows=9, turned=True), Layout(num_rows=9, turned=False)]
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from ntkbias.kernels.factors import Factor, Lookup, Tied
from ntkbias.kernels.reading.programs import Program
from ntkbias.kernels.reading.walks import Walk

__all__ = ["Layout", "combined", "layout_of"]


class Layout(NamedTuple):
    """How a term orders the numbers of a parameter.

    The parameter is a matrix of `num_rows` rows. `turned` says that the rows are on the side of the cotangent.
    """

    num_rows: int
    turned: bool


def layout_of(term: Walk, program: Program, shape: tuple[int, ...]) -> Layout | None:
    """The layout of a term of the gradient by a parameter of this shape; None if it is not a matrix of this kind."""
    equation = program.producer(term.source)
    if equation is None:
        return None
    if equation.primitive.name == "scatter-add":
        if tuple(equation.outvars[0].aval.shape) != shape or len(shape) < 2 or shape[0] == 1:
            return None
        straight = _relabeled([*range(len(shape))], shape, term) == [a for a, size in enumerate(shape) if size > 1]
        return Layout(shape[0], False) if straight else None
    if equation.primitive.name != "dot_general":
        return None
    (contracted, batch), sides = equation.params["dimension_numbers"], equation.invars
    if any(sides[0].aval.shape[axis] > 1 for axis in batch[0]):
        return None
    count = len(batch[0])
    free = [side.aval.ndim - len(contracted[place]) - count for place, side in enumerate(sides)]
    # The result has the batch axes, the free axes of the left operand, and those of the right one.
    of_cotangent = [program.of_cotangent(side) for side in sides]
    labels: list[Any] = [None] * count + [(0, axis) for axis in range(free[0])] + [(1, axis) for axis in range(free[1])]
    found = _relabeled(labels, equation.outvars[0].aval.shape, term)
    if found is None or of_cotangent[0] == of_cotangent[1]:
        return None
    first = found[0][0] if found else 0
    rows = [label for label in found if label[0] == first]
    if found != sorted(rows) + sorted(label for label in found if label[0] != first):
        return None
    num_rows = math.prod([size for size in shape if size > 1][: len(rows)])
    return Layout(num_rows, of_cotangent[first])


def _relabeled(labels: list[Any], shape: tuple[int, ...], term: Walk) -> list[Any] | None:
    """The labels of the axes longer than one, after the relabelings of a term; None if a reshape mixes axes."""
    shape = tuple(shape)
    for equation in reversed(term.passed):
        name, after = equation.primitive.name, tuple(equation.outvars[0].aval.shape)
        if name == "transpose":
            labels = [labels[axis] for axis in equation.params["permutation"]]
        elif shape != after:
            kept = [label for label, size in zip(labels, shape, strict=True) if size > 1]
            if [size for size in shape if size > 1] != [size for size in after if size > 1]:
                return None
            left = iter(kept)
            labels = [next(left) if size > 1 else None for size in after]
        shape = after
    return [label for label, size in zip(labels, shape, strict=True) if size > 1]


def combined(parts: list[Any], turned: list[bool], num_examples: int) -> Factor:
    """The factor of the sum of these look-ups and products; those of one kind are joined along their positions."""
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for part, flag in zip(parts, turned, strict=True):
        groups.setdefault((not isinstance(part, Lookup), flag), []).append(part)
    kinds = sorted(groups)  # look-ups first
    joined = [_joined(groups[kind], num_examples) for kind in kinds]
    if len(joined) == 1:
        return joined[0]
    return Tied(1.0, tuple(joined), tuple(flag for _, flag in kinds))


def _joined(parts: list[Any], num_examples: int) -> Any:
    """One factor of several of a kind: the gradient is the sum over the positions of all."""
    first = parts[0]
    if len(parts) == 1:
        return first
    cotangents = [
        part.scale * jnp.broadcast_to(part.cotangent, (num_examples, *part.cotangent.shape[1:])) for part in parts
    ]
    promises = {"assumes_in_bounds": any(part.assumes_in_bounds for part in parts)} if isinstance(first, Lookup) else {}
    return dataclasses.replace(
        first,
        **promises,
        scale=1.0,
        activation=jnp.concatenate([part.activation for part in parts], -2),
        cotangent=jnp.concatenate(cotangents, -2),
    )
