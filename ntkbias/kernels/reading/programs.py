"""Programs as values: the few things that differ between JAX versions, behind one function and one class.

A jaxpr is JAX's record of a traced function, a list of equations. `flat_jaxpr` traces a function and inlines what it
calls, also in the bodies of scans, so that its equations can be read in order; on CPUs it takes the zeros out of what
strided convolutions pull back. `Program` knows what each variable depends on, and runs one for outputs of our choice.
Public names of `jax.extend` only.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.reading.programs import flat_jaxpr
>>> closed = flat_jaxpr(jax.jit(lambda x: jnp.sin(x) * 2), jnp.ones(3))
>>> [equation.primitive.name for equation in closed.jaxpr.eqns]
['sin', 'mul']
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ntkbias.equations import CALLS, body_of
from ntkbias.kernels.reading.callbacks import one_by_one
from ntkbias.kernels.reading.scans import Scan, dependents, is_scan

__all__ = ["Operand", "Program", "flat_jaxpr", "results_of"]


def flat_jaxpr(f: Callable, *args: Any) -> jex.ClosedJaxpr:
    """The jaxpr of `f` at arrays `args`, with calls inlined, and scans of one step.

    Longer scans stay what they are: unrolled they would be no easier to read, and take long to compile.
    """
    closed = jax.make_jaxpr(f)(*args)
    return jax.make_jaxpr(lambda *flat: _run(closed.jaxpr, closed.consts, flat))(*jax.tree.leaves(args))


class Operand(NamedTuple):
    """A quantity to evaluate: from the values of some variables of a program."""

    needs: tuple[Any, ...]
    value: Callable[[Mapping[Any, Array]], Array]
    of_cotangent: bool  # whether it differs from cotangent to cotangent
    of_example: bool = True
    of_places: bool = False  # whether it holds places in a table, and no numbers to multiply by


class Program:
    """A flat jaxpr: what its variables come from, and depend on.

    Its arguments are (..., example, cotangent), or `example` and `cotangent` are those of them that hold each.
    """

    def __init__(
        self, closed: jex.ClosedJaxpr, example: Sequence[Any] | None = None, cotangent: Sequence[Any] | None = None
    ) -> None:
        self._closed = closed
        arguments = closed.jaxpr.invars
        self._of_example = dependents(closed.jaxpr, arguments[-2:-1] if example is None else example)
        self._of_cotangent = dependents(closed.jaxpr, arguments[-1:] if cotangent is None else cotangent)
        self._producers = {variable: equation for equation in closed.jaxpr.eqns for variable in equation.outvars}

    def of_example(self, variable: Any) -> bool:
        """Whether a variable depends on the example."""
        return not isinstance(variable, jex.Literal) and variable in self._of_example

    def of_cotangent(self, variable: Any) -> bool:
        """Whether a variable depends on the cotangent."""
        return not isinstance(variable, jex.Literal) and variable in self._of_cotangent

    def is_complex(self, variable: Any) -> bool:
        """Whether a variable's values are complex: their products, and parts of them, follow other rules."""
        dtype = getattr(variable.aval, "dtype", None)
        return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)

    def producer(self, variable: Any) -> Any | None:
        """The equation that a variable comes from; None for arguments, constants and literals."""
        return None if isinstance(variable, jex.Literal) else self._producers.get(variable)

    def operand(self, variable: Any) -> Operand:
        """A variable itself as an operand."""
        return Operand((variable,), lambda values: values[variable], self.of_cotangent(variable))

    def replay(self, equation: Any, inputs: Sequence[Any]) -> Array:
        """The first result of one equation, given other inputs than its own."""
        return results_of(equation, inputs, self._closed.jaxpr)[0]

    def part(self, variables: Sequence[Any]) -> Callable[..., list]:
        """A function of the program's arguments that returns the values of some variables, and computes no others."""
        jaxpr = self._closed.jaxpr
        needed = {variable for variable in variables if not isinstance(variable, jex.Literal)}
        equations = []
        for equation in reversed(jaxpr.eqns):
            if equation.effects or any(variable in needed for variable in equation.outvars):
                equations.append(equation)
                needed.update(variable for variable in equation.invars if not isinstance(variable, jex.Literal))
        equations.reverse()
        chosen = jaxpr.replace(eqns=equations, outvars=list(variables), debug_info=_nameless(jaxpr.debug_info))
        return jex.jaxpr_as_fun(jex.ClosedJaxpr(chosen, self._closed.consts))

    def evaluator(self, operands: Sequence[Operand]) -> Callable[..., list]:
        """A function of the program's arguments that returns the values of `operands`."""
        variables = list(dict.fromkeys(variable for operand in operands for variable in operand.needs))
        run = self.part(variables)

        def evaluate(*args: Any) -> list:
            values = dict(zip(variables, run(*args), strict=True))
            return [jnp.asarray(operand.value(values)) for operand in operands]  # a constant is a NumPy array

        return evaluate


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list:
    """Evaluate a jaxpr equation by equation, going into calls and the bodies of scans."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, jex.Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        name, body = equation.primitive.name, body_of(equation)
        if name in CALLS and body is not None:
            results = _run(body.jaxpr, body.consts, inputs)
        elif is_scan(equation):
            results = _scanned(Scan(equation), inputs)
        elif name == "conv_general_dilated" and _is_spread(equation):
            results = [_by_phases(equation, *inputs)]
        else:
            results = results_of(one_by_one(equation), inputs, jaxpr)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _scanned(scan: Scan, inputs: list) -> list:
    """The results of a scan with a flat body; those of its body, where it has one step."""
    consts, carry, sequences = scan.operands(inputs)

    def step(carry: list, slices: list) -> tuple[list, list]:
        results = _run(scan.body.jaxpr, scan.body.consts, [*consts, *carry, *slices])
        return results[: len(carry)], results[len(carry) :]

    if scan.length != 1:
        return scan.run(step, carry, sequences)
    carried, found = step(carry, [lax.squeeze(sequence, (0,)) for sequence in sequences])
    return [*carried, *(lax.reshape(value, (1, *jnp.shape(value))) for value in found)]


def _is_spread(equation: Any) -> bool:
    """Whether a convolution is of inputs with zeros between them, as the derivative of one with strides, on a CPU."""
    params = equation.params
    plain = {1} == {*params["window_strides"], *params["rhs_dilation"], params["feature_group_count"]}
    once = params["batch_group_count"] == 1
    return jax.default_backend() == "cpu" and plain and once and max(params["lhs_dilation"], default=1) > 1


def _by_phases(equation: Any, x: Array, window: Array) -> Array:
    """A convolution of inputs with s - 1 zeros after each, without the multiplications by these zeros.

    Output s q + r is the sum over j of input q + (r + t - low) / s + j times the window at t + s j, where t is low - r
    modulo s: each remainder r is a convolution with a part of the window. On GPUs cuDNN does as much.
    """
    params, shape = equation.params, equation.outvars[0].aval.shape
    numbers, spread = params["dimension_numbers"], params["lhs_dilation"]
    counts = [-(-shape[axis] // s) for axis, s in zip(numbers.out_spec[2:], spread, strict=True)]
    size = list(shape)
    for axis, count in zip(numbers.out_spec[2:], counts, strict=True):
        size[axis] = count
    options = {name: params[name] for name in ("precision", "preferred_element_type")}
    parts = []
    for remainder in np.ndindex(*spread):
        part, padding, inputs = window, [(0, 0)] * len(spread), x
        for k, (r, s) in enumerate(zip(remainder, spread, strict=True)):
            low, across, along = params["padding"][k][0], numbers.rhs_spec[2 + k], numbers.lhs_spec[2 + k]
            first = (low - r) % s
            part = lax.slice_in_dim(part, min(first, part.shape[across]), None, s, across)
            before = -((r + first - low) // s)
            after = counts[k] + part.shape[across] - 1 - before - x.shape[along]
            # Cut here: XLA's fast convolutions on CPUs do not take padding below zero.
            cut = [(0, 0, 0)] * x.ndim
            cut[along] = min(before, 0), min(after, 0), 0
            inputs = lax.pad(inputs, jnp.zeros((), x.dtype), cut)
            padding[k] = max(before, 0), max(after, 0)
        if 0 in part.shape:  # no place of the window meets an input
            parts.append(jnp.zeros(size, equation.outvars[0].aval.dtype))
            continue
        strides = (1,) * len(spread)
        parts.append(lax.conv_general_dilated(inputs, part, strides, padding, dimension_numbers=numbers, **options))
    # Remainders next to their positions, last axis first.
    whole = jnp.stack(parts).reshape(*spread, *parts[0].shape)
    for k in reversed(range(len(spread))):
        axis = numbers.out_spec[2 + k] + k + 1
        whole = jnp.moveaxis(whole, k, axis)
        whole = whole.reshape(*whole.shape[: axis - 1], -1, *whole.shape[axis + 1 :])
    return lax.slice(whole, (0,) * whole.ndim, shape)


def results_of(equation: Any, inputs: Sequence[Any], jaxpr: Any) -> list:
    """The results of one equation of a jaxpr, given inputs in the place of its own."""
    variables: dict[Any, Any] = {}
    for variable, value in zip(equation.invars, inputs, strict=True):
        if not isinstance(variable, jex.Literal):
            variables[variable] = value
    parts = ((), list(variables), list(equation.outvars), [equation], equation.effects)
    single = jex.Jaxpr(*parts, debug_info=_nameless(jaxpr.debug_info))
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(single, ()))(*variables.values())


def _nameless(info: Any) -> Any:
    """Debugging information without the names of arguments and results, which another program does not share."""
    return info.with_unknown_names() if hasattr(info, "with_unknown_names") else info
