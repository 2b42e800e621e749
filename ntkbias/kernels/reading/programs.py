"""Read and run jaxprs. The differences between versions of JAX stay behind one function and one class.

A jaxpr is JAX's record of a traced function, a list of equations. `flat_jaxpr` traces a function and inlines its calls,
also in the bodies of scans, so that its equations can be read in order. On CPUs it also rewrites the derivatives of
strided convolutions, to skip multiplications by zeros. `Program` says what each variable depends on, and evaluates any
of them. This module uses only public names of `jax.extend`.

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
    """The jaxpr of `f` at arrays `args`, with calls and scans of one step inlined.

    Longer scans remain scans: unrolled, they would be no easier to read, and slow to compile.
    """
    closed = jax.make_jaxpr(f)(*args)
    return jax.make_jaxpr(lambda *flat: _inlined(closed.jaxpr, closed.consts, flat))(*jax.tree.leaves(args))


class Operand(NamedTuple):
    """A quantity to evaluate from the values of some variables of a program."""

    needs: tuple[Any, ...]
    value: Callable[[Mapping[Any, Array]], Array]
    of_cotangent: bool  # whether it depends on the cotangent
    of_example: bool = True  # whether it depends on the example
    of_places: bool = False  # whether it holds indices into a table, which are not multiplied


class Program:
    """A flat jaxpr that knows which equation makes each variable, and what each variable depends on.

    By default its arguments are (..., example, cotangent); otherwise `example` and `cotangent` list the arguments that
    hold each.
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
        """Whether a variable is complex. Factors are not made from complex variables: their products differ."""
        dtype = getattr(variable.aval, "dtype", None)
        return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)

    def producer(self, variable: Any) -> Any | None:
        """The equation that makes a variable; None for arguments, constants and literals."""
        return None if isinstance(variable, jex.Literal) else self._producers.get(variable)

    def operand(self, variable: Any) -> Operand:
        """The operand that is a variable itself."""
        return Operand((variable,), lambda values: values[variable], self.of_cotangent(variable))

    def replay(self, equation: Any, inputs: Sequence[Any]) -> Array:
        """The first result of one equation, evaluated at other inputs than its own."""
        return results_of(equation, inputs, self._closed.jaxpr)[0]

    def part(self, variables: Sequence[Any]) -> Callable[..., list]:
        """A function of the program's arguments that returns some variables, and computes only what these need."""
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
            return [jnp.asarray(operand.value(values)) for operand in operands]  # constants are NumPy arrays

        return evaluate


def _inlined(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list:
    """Evaluate a jaxpr equation by equation, inlining calls, also in the bodies of scans."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, args, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, jex.Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        name, body = equation.primitive.name, body_of(equation)
        if name in CALLS and body is not None:
            results = _inlined(body.jaxpr, body.consts, inputs)
        elif is_scan(equation):
            results = _scanned(Scan(equation), inputs)
        elif name == "conv_general_dilated" and _is_input_dilated(equation):
            results = [_input_dilated_convolution(equation, *inputs)]
        else:
            results = results_of(one_by_one(equation), inputs, jaxpr)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _scanned(scan: Scan, inputs: list) -> list:
    """The results of a scan, with a flat body; a scan of one step is replaced by its body."""
    consts, carry, sequences = scan.operands(inputs)

    def step(carry: list, slices: list) -> tuple[list, list]:
        results = _inlined(scan.body.jaxpr, scan.body.consts, [*consts, *carry, *slices])
        return results[: len(carry)], results[len(carry) :]

    if scan.length != 1:
        return scan.run(step, carry, sequences)
    carried, found = step(carry, [lax.squeeze(sequence, (0,)) for sequence in sequences])
    return [*carried, *(lax.reshape(value, (1, *jnp.shape(value))) for value in found)]


def _is_input_dilated(equation: Any) -> bool:
    """Whether this is a convolution with dilated inputs, as in the derivative of a strided one, on a CPU."""
    params = equation.params
    plain = {1} == {*params["window_strides"], *params["rhs_dilation"], params["feature_group_count"]}
    once = params["batch_group_count"] == 1
    return jax.default_backend() == "cpu" and plain and once and max(params["lhs_dilation"], default=1) > 1


def _input_dilated_convolution(equation: Any, x: Array, window: Array) -> Array:
    """A convolution of inputs with s - 1 zeros after each, without the multiplications by these zeros.

    Output s q + r is the sum over j of input q + (r + t - low) / s + j times the window at t + s j, where t is low - r
    modulo s. So the outputs of each remainder r are a convolution with a part of the window. On GPUs cuDNN does the
    same.
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
            # Cut the inputs here: XLA's fast convolutions on CPUs do not support negative padding.
            cut = [(0, 0, 0)] * x.ndim
            cut[along] = min(before, 0), min(after, 0), 0
            inputs = lax.pad(inputs, jnp.zeros((), x.dtype), cut)
            padding[k] = max(before, 0), max(after, 0)
        if 0 in part.shape:  # no entry of the window meets an input
            parts.append(jnp.zeros(size, equation.outvars[0].aval.dtype))
            continue
        strides = (1,) * len(spread)
        parts.append(lax.conv_general_dilated(inputs, part, strides, padding, dimension_numbers=numbers, **options))
    # Interleave the remainders with their positions, axis by axis from the last.
    result = jnp.stack(parts).reshape(*spread, *parts[0].shape)
    for k in reversed(range(len(spread))):
        axis = numbers.out_spec[2 + k] + k + 1
        result = jnp.moveaxis(result, k, axis)
        result = result.reshape(*result.shape[: axis - 1], -1, *result.shape[axis + 1 :])
    return lax.slice(result, (0,) * result.ndim, shape)


def results_of(equation: Any, inputs: Sequence[Any], jaxpr: Any) -> list:
    """The results of one equation of a jaxpr, evaluated at the given inputs."""
    variables: dict[Any, Any] = {}
    for variable, value in zip(equation.invars, inputs, strict=True):
        if not isinstance(variable, jex.Literal):
            variables[variable] = value
    parts = ((), list(variables), list(equation.outvars), [equation], equation.effects)
    single = jex.Jaxpr(*parts, debug_info=_nameless(jaxpr.debug_info))
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(single, ()))(*variables.values())


def _nameless(info: Any) -> Any:
    """Debugging information without the names of arguments and results, which do not apply to a part of a jaxpr."""
    return info.with_unknown_names() if hasattr(info, "with_unknown_names") else info
