"""Walk back from a gradient, through equations that only relabel or scale it, to the equation that makes it.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.kernels.reading.programs import Program, flat_jaxpr
>>> gradient = lambda w, x, c: jax.vjp(lambda w: x @ (-2.0 * w), w)[1](c)[0]
>>> closed = flat_jaxpr(gradient, jnp.ones((3, 2)), jnp.ones(3), jnp.ones(2))
>>> walk = walk_back(closed.jaxpr.outvars[0], Program(closed))
>>> [equation.primitive.name for equation in walk.passed], walk.scale
(['mul', 'transpose'], -2.0)
"""

from typing import Any, NamedTuple

import jax.extend.core as jex
import numpy as np

from ntkbias.kernels.reading.programs import Program

__all__ = ["Walk", "terms_of", "walk_back"]

RELABELINGS = {"transpose", "reshape", "squeeze", "convert_element_type", "copy"}
SUMS = {"add_any", "add"}


class Walk(NamedTuple):
    """The end of a walk: the gradient is `scale` times the source, relabeled by the equations that were passed."""

    source: Any  # a variable
    scale: float
    passed: tuple[Any, ...]  # equations, the last one of the program first


def walk_back(gradient: Any, program: Program) -> Walk:
    """Walk back from a gradient as long as equations only relabel it, or multiply it by a number.

    A walk ends at complex values: the real part of a product is not the product of real parts.
    """
    variable, scale, passed = gradient, 1.0, []
    found: tuple[float, Any] | None
    while (equation := program.producer(variable)) is not None:
        name = equation.primitive.name
        if name in RELABELINGS:
            found = 1.0, equation.invars[0]
        elif name == "neg":
            found = -1.0, equation.invars[0]
        elif name == "mul":
            found = _number_times_variable(equation)
        else:
            found = None
        if found is None or program.is_complex(found[1]):
            break
        scale, variable = scale * found[0], found[1]
        passed.append(equation)
    return Walk(variable, scale, tuple(passed))


def terms_of(gradient: Any, program: Program) -> list[Walk]:
    """The walks back to the terms of a gradient that is a sum: one walk if it is none.

    A parameter that is used several times has one term for each use.
    """
    walk = walk_back(gradient, program)
    equation = program.producer(walk.source)
    if equation is None or equation.primitive.name not in SUMS or program.is_complex(walk.source):
        return [walk]
    shapes = {variable.aval.shape for variable in equation.invars}
    if shapes != {equation.outvars[0].aval.shape}:  # one of them is broadcast
        return [walk]
    inner = [term for variable in equation.invars for term in terms_of(variable, program)]
    return [Walk(term.source, walk.scale * term.scale, walk.passed + term.passed) for term in inner]


def _number_times_variable(equation: Any) -> tuple[float, Any] | None:
    """The number and the variable, if a multiplication is that of an array by a constant number; else None."""
    left, right = equation.invars
    for number, variable in ((left, right), (right, left)):
        constant = isinstance(number, jex.Literal) and np.ndim(number.val) == 0 and np.isrealobj(number.val)
        if constant and not isinstance(variable, jex.Literal):
            return float(number.val), variable
    return None
