"""Scans in jaxprs: find their operands, run them with another body, and find what their results depend on.

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

from ntkbias.equations import body_of, counts_of_scan

__all__ = ["Scan", "dependents", "is_scan"]


def is_scan(equation: Any) -> bool:
    """Whether an equation is a scan."""
    return equation.primitive.name == "scan"


class Operands(NamedTuple):
    """The operands of a scan, or of its body at one step: constants, the carry, and the arrays scanned over."""

    consts: list[Any]
    carry: list[Any]
    slices: list[Any]


class Scan:
    """A scan equation: its body, length and options."""

    def __init__(self, equation: Any) -> None:
        body = body_of(equation)
        assert body is not None
        self.body, self.length = body, equation.params["length"]
        self._options = {name: equation.params[name] for name in ("length", "reverse", "unroll")}
        self._num_consts, self.num_carry = counts_of_scan(equation)

    def operands(self, values: Sequence[Any]) -> Operands:
        """Sort the values of the scan's operands, or of its body's, into constants, carry and slices."""
        last = self._num_consts + self.num_carry
        return Operands(list(values[: self._num_consts]), list(values[self._num_consts : last]), list(values[last:]))

    def run(self, step: Callable[[list, list], tuple[list, list]], carry: list, slices: list) -> list:
        """Run the scan with another body, `step`. Returns the final carry, then the stacked results."""
        carried, stacked = lax.scan(step, carry, slices, **self._options)
        return [*carried, *stacked]

    def depending(self, given: Sequence[bool]) -> set:
        """The variables of the body that depend, at any step, on the operands of the scan that `given` marks."""
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
    """The variables of a jaxpr that depend on `sources`, including `sources`."""
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
        # The final carry depends on the initial one, even if every step overwrites it: there may be no step.
        began = scan.operands(body.invars).carry
        for place, (variable, result) in enumerate(zip(equation.outvars, body.outvars, strict=True)):
            if _among(inside, result) or (place < len(began) and began[place] in inside):
                found.add(variable)
    return found


def _among(found: set, variable: Any) -> bool:
    return not isinstance(variable, jex.Literal) and variable in found
