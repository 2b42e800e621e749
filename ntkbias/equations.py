"""Read equations of jaxprs alike in all versions of JAX: which jaxpr one calls, and how a scan orders its operands.

>>> import jax, jax.numpy as jnp
>>> f = lambda x: jax.lax.scan(lambda carry, row: (carry + row, None), jnp.zeros(2), x)[0]
>>> counts_of_scan(jax.make_jaxpr(f)(jnp.ones((3, 2))).jaxpr.eqns[-1])  # no constants, one value carried
(0, 1)
"""

from collections.abc import Sequence
from typing import Any

import jax.extend.core as jex

__all__ = ["CALLS", "body_of", "counts_of_scan"]

# Calls that can be replaced by their body. Custom derivative rules are not among them: inlining would lose the rule.
CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2", "custom_lin"}


def body_of(equation: Any) -> jex.ClosedJaxpr | None:
    """The jaxpr that an equation calls, or runs at each step; None if it has none, or several."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in equation.params:
            body = equation.params[name]
            return body if hasattr(body, "consts") else jex.ClosedJaxpr(body, ())
    return None


def counts_of_scan(equation: Any) -> tuple[int, int]:
    """The numbers of constants and of carried values of a scan. The arrays that it scans over come after them.

    Versions of JAX store these numbers differently. In all of them an array that is scanned over, or stacked, has one
    axis more than its variable in the body.
    """
    body = body_of(equation)
    assert body is not None
    num_carry = len(equation.outvars) - _longer(equation.outvars, body.jaxpr.outvars)
    return len(equation.invars) - _longer(equation.invars, body.jaxpr.invars) - num_carry, num_carry


def _longer(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many variables of a scan have one axis more than those of its body."""
    pairs = zip(outside, inside, strict=True)
    return sum(len(one.aval.shape) > len(other.aval.shape) for one, other in pairs)
