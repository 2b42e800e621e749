"""Programs as values: the few things that differ between JAX versions, behind two functions.

A jaxpr is JAX's record of a traced function, a list of equations. `flat_jaxpr` traces a function and inlines what it
calls, so that its equations can be read in order; `evaluator` runs one for outputs of our choice. Public names of
`jax.extend` only.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.jaxprs import flat_jaxpr
>>> closed = flat_jaxpr(jax.jit(lambda x: jnp.sin(x) * 2), jnp.ones(3))
>>> [equation.primitive.name for equation in closed.jaxpr.eqns]
['sin', 'mul']
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

__all__ = ["dependents", "evaluator", "flat_jaxpr"]

# Calls that stand for their body. Custom derivative rules are not among them: they keep their meaning.
CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2", "custom_lin"}
LONGEST_UNROLLED = 64  # steps of a scan: each becomes equations of its own


def flat_jaxpr(f: Callable, *args: Any) -> jex.ClosedJaxpr:
    """The jaxpr of `f` at arrays `args`, with calls inlined and scans of up to 64 steps unrolled."""
    closed = jax.make_jaxpr(f)(*args)
    return jax.make_jaxpr(lambda *flat: _run(closed.jaxpr, closed.consts, flat))(*jax.tree.leaves(args))


def evaluator(closed: jex.ClosedJaxpr, outputs: Sequence[Any]) -> Callable[..., list]:
    """A function of the arguments of `closed` that returns the variables `outputs` instead of its own."""
    jaxpr = closed.jaxpr
    chosen = jaxpr.replace(outvars=list(outputs), debug_info=_nameless(jaxpr.debug_info))
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(chosen, closed.consts))


def dependents(jaxpr: Any, sources: Sequence[Any]) -> set:
    """The variables of a flat jaxpr that depend on `sources`, these included."""
    found = set(sources)
    for equation in jaxpr.eqns:
        if any(not isinstance(variable, jex.Literal) and variable in found for variable in equation.invars):
            found.update(equation.outvars)
    return found


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list:
    """Evaluate a jaxpr equation by equation, going into calls and short scans."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, jex.Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        name, body = equation.primitive.name, _body(equation)
        if name in CALLS and body is not None:
            results = _run(body.jaxpr, body.consts, inputs)
        elif name == "scan" and "num_consts" in equation.params and 0 < equation.params["length"] <= LONGEST_UNROLLED:
            results = _unrolled(equation, body, inputs)
        else:
            results = _one(equation, inputs, jaxpr.debug_info)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _body(equation: Any) -> jex.ClosedJaxpr | None:
    for name in ("jaxpr", "call_jaxpr"):
        if name in equation.params:
            body = equation.params[name]
            return body if hasattr(body, "consts") else jex.ClosedJaxpr(body, ())
    return None


def _unrolled(equation: Any, body: Any, inputs: list) -> list:
    """The results of a scan, one step after the other."""
    num_consts, num_carry = equation.params["num_consts"], equation.params["num_carry"]
    consts, carry, sequences = inputs[:num_consts], inputs[num_consts:][:num_carry], inputs[num_consts + num_carry :]
    steps = range(equation.params["length"])
    collected = []
    for step in reversed(steps) if equation.params["reverse"] else steps:
        results = _run(body.jaxpr, body.consts, [*consts, *carry, *(sequence[step] for sequence in sequences)])
        carry = results[:num_carry]
        collected.append(results[num_carry:])
    if equation.params["reverse"]:
        collected.reverse()
    return [*carry, *(jnp.stack(column) for column in zip(*collected, strict=True))]


def _one(equation: Any, inputs: list, info: Any) -> list:
    """The results of one equation, as a jaxpr of its own."""
    variables: dict[Any, Any] = {}
    for variable, value in zip(equation.invars, inputs, strict=True):
        if not isinstance(variable, jex.Literal):
            variables[variable] = value
    parts = ((), list(variables), list(equation.outvars), [equation], equation.effects)
    single = jex.Jaxpr(*parts, debug_info=_nameless(info))
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(single, ()))(*variables.values())


def _nameless(info: Any) -> Any:
    """Debugging information without the names of arguments and results, which another program does not share."""
    return info.with_unknown_names() if hasattr(info, "with_unknown_names") else info
