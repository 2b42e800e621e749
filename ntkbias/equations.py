"""What equations of JAX's programs call, and how scans number their operands: the same for all versions of JAX.

>>> import jax, jax.numpy as jnp
>>> f = lambda x: jax.lax.scan(lambda carry, row: (carry + row, None), jnp.zeros(2), x)[0]
>>> counts_of_scan(jax.make_jaxpr(f)(jnp.ones((3, 2))).jaxpr.eqns[-1])  # no constants, one value carried
(0, 1)
"""

from collections.abc import Sequence
from typing import Any

import jax.extend.core as jex

__all__ = ["CALLS", "body_of", "counts_of_scan"]

# Calls that stand for their body. Custom derivative rules are not among them: they keep their meaning.
CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2", "custom_lin"}


def body_of(equation: Any) -> jex.ClosedJaxpr | None:
    """The program that an equation calls, or runs at each step; None if it has none, or several."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in equation.params:
            body = equation.params[name]
            return body if hasattr(body, "consts") else jex.ClosedJaxpr(body, ())
    return None


def counts_of_scan(equation: Any) -> tuple[int, int]:
    """How many constants a scan has, and how many values it carries; what it goes over comes after them.

    JAX's versions number operands each in its own way; but those that a scan goes over, or stacks, have an axis more
    than the body's.
    """
    body = body_of(equation)
    assert body is not None
    num_carry = len(equation.outvars) - _longer(equation.outvars, body.jaxpr.outvars)
    return len(equation.invars) - _longer(equation.invars, body.jaxpr.invars) - num_carry, num_carry


def _longer(whole: Sequence[Any], of_a_step: Sequence[Any]) -> int:
    """How many variables of a scan have an axis more than those of its body."""
    pairs = zip(whole, of_a_step, strict=True)
    return sum(len(one.aval.shape) > len(other.aval.shape) for one, other in pairs)
