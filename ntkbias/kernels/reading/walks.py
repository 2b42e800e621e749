"""The way back from a gradient through what only relabels or scales it, to the equation that makes it.

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

__all__ = ["Walk", "walk_back"]

RELABELINGS = {"transpose", "reshape", "squeeze", "convert_element_type", "copy"}


class Walk(NamedTuple):
    """Where a walk ended, and what it passed: the gradient is `scale` times that of the source, relabeled."""

    source: Any  # a variable
    scale: float
    passed: tuple[Any, ...]  # equations, the last first


def walk_back(gradient: Any, program: Program) -> Walk:
    """Walk from a gradient as far as equations relabel it, or multiply it by a number.

    A walk ends at complex values: neither the products nor the squares of parts are the parts of those.
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


def _number_times_variable(equation: Any) -> tuple[float, Any] | None:
    """The operands of a multiplication of an array by a constant number."""
    left, right = equation.invars
    for number, variable in ((left, right), (right, left)):
        constant = isinstance(number, jex.Literal) and np.ndim(number.val) == 0 and np.isrealobj(number.val)
        if constant and not isinstance(variable, jex.Literal):
            return float(number.val), variable
    return None
