"""Scans as equations of a program: their operands, running them with another body, and what their values depend on.

>>> import jax, jax.numpy as jnp
>>> from jax import lax
>>> both = lambda a, b: lax.scan(lambda carry, x: (carry + x[0], x[1]), 0.0, (a, b))     # a sum, and a copy
>>> jaxpr = jax.make_jaxpr(both)(jnp.ones(3), jnp.ones(3)).jaxpr
>>> [variable in dependents(jaxpr, jaxpr.invars[:1]) for variable in jaxpr.outvars]      # on a
[True, False]
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax.extend.core as jex
from jax import lax

__all__ = ["Scan", "body_of", "dependents", "is_scan"]


def body_of(equation: Any) -> jex.ClosedJaxpr | None:
    """The program that an equation calls, or runs at each step; None if it has none, or several."""
    for name in ("jaxpr", "call_jaxpr"):
        if name in equation.params:
            body = equation.params[name]
            return body if hasattr(body, "consts") else jex.ClosedJaxpr(body, ())
    return None


def is_scan(equation: Any) -> bool:
    """Whether an equation is a scan."""
    return equation.primitive.name == "scan"


class Operands(NamedTuple):
    """What a scan is given, or its body at a step: constants, what is carried, and what it goes over."""

    consts: list[Any]
    carry: list[Any]
    slices: list[Any]


class Scan:
    """What an equation scans with, and how.

    JAX's versions number operands each in its own way; but those that a scan goes over, or stacks, have an axis more
    than the body's.
    """

    def __init__(self, equation: Any) -> None:
        body = body_of(equation)
        assert body is not None
        self.body, self.length = body, equation.params["length"]
        self._options = {name: equation.params[name] for name in ("length", "reverse", "unroll")}
        slices = _longer(equation.invars, body.jaxpr.invars)
        self.num_carry = len(equation.outvars) - _longer(equation.outvars, body.jaxpr.outvars)
        self._num_consts = len(equation.invars) - slices - self.num_carry

    def operands(self, values: Sequence[Any]) -> Operands:
        """Values of the scan's operands, or of the body's, in order, by what they are to it."""
        last = self._num_consts + self.num_carry
        return Operands(list(values[: self._num_consts]), list(values[self._num_consts : last]), list(values[last:]))

    def run(self, step: Callable[[list, list], tuple[list, list]], carry: list, slices: list) -> list:
        """The results of as many steps of another kind: what is carried, then what is stacked."""
        carried, stacked = lax.scan(step, carry, slices, **self._options)
        return [*carried, *stacked]

    def depending(self, given: Sequence[bool]) -> set:
        """The variables of the body that depend, at some step, on those of the scan's operands that are `given`."""
        body = self.body.jaxpr
        while True:
            sources = [variable for variable, depends in zip(body.invars, given, strict=True) if depends]
            found = dependents(body, sources)
            consts, carry, slices = self.operands(given)
            grown = [depends or _among(found, result) for depends, result in zip(carry, body.outvars, strict=False)]
            if grown == carry:
                return found
            given = [*consts, *grown, *slices]


def dependents(jaxpr: Any, sources: Iterable[Any]) -> set:
    """The variables of a jaxpr that depend on `sources`, these included."""
    found = set(sources)
    for equation in jaxpr.eqns:
        given = [_among(found, variable) for variable in equation.invars]
        if not any(given):
            continue
        if not is_scan(equation):
            found.update(equation.outvars)
            continue
        scan = Scan(equation)
        inside, body = scan.depending(given), scan.body.jaxpr
        # What is carried depends on what it begins with, even where a step replaces it: there may be no step.
        began = scan.operands(body.invars).carry
        for place, (variable, result) in enumerate(zip(equation.outvars, body.outvars, strict=True)):
            if _among(inside, result) or (place < len(began) and began[place] in inside):
                found.add(variable)
    return found


def _longer(whole: Sequence[Any], of_a_step: Sequence[Any]) -> int:
    """How many variables of a scan have an axis more than those of its body."""
    pairs = zip(whole, of_a_step, strict=True)
    return sum(len(one.aval.shape) > len(other.aval.shape) for one, other in pairs)


def _among(found: set, variable: Any) -> bool:
    return not isinstance(variable, jex.Literal) and variable in found
