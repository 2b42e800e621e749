"""Cotangents of different outputs that differ by weights alone, found in the gradient's program.

The cotangent of output a at the last hidden layer of a network is c[a, j] = d(x)[j] w[a, j]: the derivative of the
activation, which knows the example, times the read-out weights, which do not. A sum over outputs of products of such
cotangents needs sum_a w[a, j]^2 alone: one cotangent d(x)[j] |w[:, j]| in place of o.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.kernels.reading.programs import Program, flat_jaxpr
>>> backward = lambda w, x, cotangent: jnp.cos(x) * (w @ cotangent)
>>> closed = flat_jaxpr(backward, jnp.ones((3, 2)), jnp.ones(3), jnp.ones(2))
>>> separated(Program(closed), closed.jaxpr.outvars[0]).of_example.of_cotangent
False
"""

import math
from typing import Any, NamedTuple

import jax.extend.core as jex
import jax.numpy as jnp

from ntkbias.kernels.reading.programs import Operand, Program

__all__ = ["Separated", "is_zero", "separated"]

RELABELINGS = {"transpose", "reshape", "squeeze", "broadcast_in_dim", "convert_element_type", "copy"}
ENTRYWISE = {"mul", "div", "add", "sub", "add_any", "neg", "convert_element_type", "copy", "integer_pow", "square"}


class Separated(NamedTuple):
    """A variable as the entrywise product of two of its shape, and the axes along which the second is constant."""

    of_example: Operand
    of_cotangent: Operand
    constant: frozenset[int]


def separated(program: Program, variable: Any) -> Separated | None:
    """The factors of `variable`, if its dependence on the example and on the cotangent can be told apart.

    Not through complex values: the real part of a product is not the product of real parts.
    """
    if not program.of_cotangent(variable) or program.is_complex(variable):
        return None
    if not program.of_example(variable):
        shape, dtype = variable.aval.shape, variable.aval.dtype
        ones = Operand((), lambda values: jnp.ones(shape, dtype), of_cotangent=False)
        own = Operand((variable,), lambda values: values[variable], of_cotangent=True, of_example=False)
        return Separated(ones, own, _constant_axes(program, variable))
    equation = program.producer(variable)
    if equation is None:
        return None
    dependent = [index for index, operand in enumerate(equation.invars) if program.of_cotangent(operand)]
    if len(dependent) != 1:
        return None
    index = dependent[0]
    inner = separated(program, equation.invars[index])
    if inner is None:
        return None
    name = equation.primitive.name
    if name in RELABELINGS or name == "neg":
        return _relabeled(program, equation, inner)
    if name == "mul" or (name == "div" and index == 0):
        return _multiplied(program, equation, index, inner)
    if name == "select_n" and all(
        is_zero(program, case) for position, case in enumerate(equation.invars[1:], 1) if position != index
    ):
        return _multiplied(program, equation, index, inner)
    return None


def _relabeled(program: Program, equation: Any, inner: Separated) -> Separated:
    """Both factors go through the equation; a sign stays with the first."""
    weights = inner.of_cotangent
    if equation.primitive.name != "neg":
        weights = _through(program, equation, 0, weights)
    return Separated(
        _through(program, equation, 0, inner.of_example), weights, _constant_after(equation, inner.constant)
    )


def _multiplied(program: Program, equation: Any, index: int, inner: Separated) -> Separated:
    """The first factor takes what the equation multiplies by, or selects."""
    product = _through(program, equation, index, inner.of_example)
    before, after = equation.invars[index].aval.shape, equation.outvars[0].aval.shape
    if before == after:
        return Separated(product, inner.of_cotangent, inner.constant)

    def spread(values: Any) -> Any:  # a number, or one entry along an axis of more
        return jnp.broadcast_to(inner.of_cotangent.value(values), after)

    constant = inner.constant if before else frozenset(range(len(after)))
    return Separated(product, inner.of_cotangent._replace(value=spread), constant)


def _through(program: Program, equation: Any, index: int, inner: Operand) -> Operand:
    """The equation's result with `inner` in the place of its operand `index`."""
    others = [v for i, v in enumerate(equation.invars) if i != index and not isinstance(v, jex.Literal)]

    def value(values: Any) -> Any:
        inputs = [v.val if isinstance(v, jex.Literal) else values.get(v) for v in equation.invars]
        inputs[index] = inner.value(values)
        return program.replay(equation, inputs)

    return inner._replace(needs=(*inner.needs, *others), value=value)


def is_zero(program: Program, variable: Any) -> bool:
    """Whether a variable is zero everywhere, as its equations say."""
    if isinstance(variable, jex.Literal):
        return bool((variable.val == 0) if not hasattr(variable.val, "all") else (variable.val == 0).all())
    equation = program.producer(variable)
    return equation is not None and equation.primitive.name in RELABELINGS and is_zero(program, equation.invars[0])


def _constant_axes(program: Program, variable: Any) -> frozenset[int]:
    """Axes along which a variable's equations say that it is constant."""
    shape = variable.aval.shape
    if isinstance(variable, jex.Literal):
        return frozenset(range(len(shape)))
    single = frozenset(axis for axis, size in enumerate(shape) if size == 1)
    equation = program.producer(variable)
    if equation is None:
        return single
    name = equation.primitive.name
    if name in ENTRYWISE and shape:
        # An operand may be a number, or have one entry along an axis of more: it is constant there.
        operands = [operand for operand in equation.invars if operand.aval.shape]
        return single | frozenset.intersection(*(_constant_axes(program, operand) for operand in operands))
    if name in RELABELINGS:
        return single | _constant_after(equation, _constant_axes(program, equation.invars[0]))
    return single


def _constant_after(equation: Any, constant: frozenset[int]) -> frozenset[int]:
    """The constant axes of the result of a relabeling, given those of its operand."""
    name, params = equation.primitive.name, equation.params
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if name == "transpose":
        return frozenset(axis for axis, source in enumerate(params["permutation"]) if source in constant)
    if name == "broadcast_in_dim":
        varying = {
            axis
            for source, axis in enumerate(params["broadcast_dimensions"])
            if source not in constant and before[source] > 1
        }
        return frozenset(range(len(after))) - varying
    if name in ("reshape", "squeeze"):
        return _constant_after_reshape(before, after, constant)
    return constant


def _constant_after_reshape(
    before: tuple[int, ...], after: tuple[int, ...], constant: frozenset[int]
) -> frozenset[int]:
    """Axes regroup: where sizes multiply to the same, those before make those after, constant if all of them are."""
    found: set[int] = set()
    left = right = 0
    while left < len(before) or right < len(after):
        start, begin = left, right
        left, right = min(left + 1, len(before)), min(right + 1, len(after))
        while (sizes := (math.prod(before[start:left]), math.prod(after[begin:right])))[0] != sizes[1]:
            left, right = (left + 1, right) if sizes[0] < sizes[1] else (left, right + 1)
        if all(axis in constant or before[axis] == 1 for axis in range(start, left)):
            found.update(range(begin, right))
    return frozenset(found)
