"""Reads how f uses its parameters, so that the Jacobian is never formed.

The gradient of one output of one example, a function of (params, x, cotangent), is traced. From each parameter's
gradient we walk back through what only relabels or scales it to its sink: the one equation that brings an activation,
which does not depend on the cotangent, together with a quantity that does. Their values are all that the kernel needs
(`factors`). Reading the gradient, and not the forward pass, makes this right for custom derivatives, weights used
several times, and models that are themselves vmapped: where there is no single sink of a known kind, the parameter's
whole gradient is taken.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.structure import factors
>>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
>>> params = {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
>>> {path: type(factor).__name__ for path, factor in factors(f, params, jnp.ones((4, 3))).items()}
{"['hidden']": 'Product', "['out']": 'Product'}
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ntkbias.errors import InputError
from ntkbias.kernels.factors import Factor, Whole
from ntkbias.kernels.jaxprs import Operand, Program, flat_jaxpr
from ntkbias.kernels.layer_factors import Convolution, Lookup, Product
from ntkbias.kernels.separation import is_zero, separated
from ntkbias.types import ApplyFunction, Outputs, Params

__all__ = ["factor_shapes", "factors", "signature"]

RELABELLINGS = {"transpose", "reshape", "squeeze", "convert_element_type", "copy"}


class Sink(NamedTuple):
    """Where a parameter's gradient comes from: the operands to evaluate, and how their values make a factor."""

    operands: tuple[Operand, ...]
    build: Callable[..., Factor]  # of the examples, and the operands' values


class Structure(NamedTuple):
    """How to evaluate the factors of one example and cotangent."""

    run: Callable[..., list]
    paths: list[str]  # of all parameters
    sinks: dict[str, Sink]  # by the path of the parameter, for those that matter
    output_shape: tuple[int, ...]
    dtype: Any


def factors(
    f: ApplyFunction, params: Params, x: Array, outputs: Outputs = "all", precision: str = "highest"
) -> dict[str, Factor]:
    """The factor of each parameter's block of the kernel, by its path, for the examples `x` `(n, ...)`.

    Costs one forward pass an example and one backward pass an example and output. A parameter that does not matter
    has none. For "sum" and "mean" what is returned has the right sum over outputs, of which it may have fewer; for
    "mean" it is that of the gradients divided by the square root of their number.
    """
    leaves = jax.tree.leaves(params)
    structure = _read(f, *signature(params, x), outputs in ("sum", "mean"), precision)
    num_outputs = math.prod(structure.output_shape)
    cotangents = jnp.eye(num_outputs, dtype=structure.dtype).reshape(num_outputs, *structure.output_shape)
    operands = [operand for sink in structure.sinks.values() for operand in sink.operands]

    def example(x: Array) -> list[Array]:
        axes = [0 if operand.of_cotangent else None for operand in operands]
        return jax.vmap(lambda cotangent: structure.run(*leaves, x, cotangent), out_axes=axes)(cotangents)

    values = iter(jax.vmap(example, out_axes=[0 if operand.of_example else None for operand in operands])(x))
    # In the type of the parameter, also where f computes in a narrower one: sums of squares need the digits.
    types = {path: leaf.dtype for path, leaf in zip(structure.paths, leaves, strict=True)}

    def widened(value: Array, path: str) -> Array:
        return value.astype(types[path]) if jnp.issubdtype(value.dtype, jnp.floating) else value

    scale = num_outputs**-0.5 if outputs == "mean" else 1.0
    return {
        path: sink.build(x, *(widened(next(values), path) for _ in sink.operands)).scaled(scale)
        for path, sink in structure.sinks.items()
    }


@lru_cache(maxsize=256)
def factor_shapes(f: ApplyFunction, found: tuple, outputs: Outputs, precision: str) -> dict[str, Factor]:
    """The factors of one example with shapes in place of arrays, given a `signature`; tracing takes long."""
    treedef, leaves, example, _ = found
    batch = jax.ShapeDtypeStruct((1, *example.shape), example.dtype)
    evaluate = partial(factors, f, outputs=outputs, precision=precision)
    return jax.eval_shape(evaluate, jax.tree.unflatten(treedef, leaves), batch)


def signature(params: Params, x: Array) -> tuple:
    """What the structure of f depends on: shapes and types of parameters and of one example, and the default type."""
    leaves, treedef = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return treedef, shapes, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), str(jnp.result_type(float))


@lru_cache(maxsize=256)
def _read(
    f: ApplyFunction,
    treedef: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    example: jax.ShapeDtypeStruct,
    default_dtype: str,
    traced: bool,
    precision: str,
) -> Structure:
    """Trace the gradient of one output of one example, and find the sink of each parameter.

    `traced`: the kernel is a sum over outputs, so that these may be folded where they differ by weights alone.
    """

    def outputs(leaves: list[Array], x: Array) -> Array:
        return f(jax.tree.unflatten(treedef, leaves), x[None])[0]

    def gradient(leaves: list[Array], x: Array, cotangent: Array) -> list[Array]:
        return jax.vjp(lambda leaves: outputs(leaves, x), leaves)[1](cotangent)[0]

    with jax.default_matmul_precision(precision):
        output = jax.eval_shape(outputs, list(leaves), example)
        try:
            closed = flat_jaxpr(gradient, list(leaves), example, output)
        except ValueError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"Expected f(params, x) to be differentiable in reverse mode; got: {reason}") from error
    program = Program(closed)
    if not any(program.of_cotangent(variable) for variable in closed.jaxpr.outvars):
        raise InputError(
            "Expected f(params, x) to depend on params; its outputs are the same for all. Check what f uses."
        )
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(_numbered(treedef))]
    found = {
        path: _sink(variable, program, traced)
        for path, variable, leaf in zip(paths, closed.jaxpr.outvars, leaves, strict=True)
        if program.of_cotangent(variable) and math.prod(leaf.shape)
    }
    run = program.evaluator([operand for sink in found.values() for operand in sink.operands])
    return Structure(run, paths, found, output.shape, output.dtype)


def _numbered(treedef: Any) -> Any:
    """A pytree of this structure, to name its leaves by."""
    return jax.tree.unflatten(treedef, range(treedef.num_leaves))


def _sink(gradient: Any, program: Program, traced: bool) -> Sink:
    """Walk from a parameter's gradient to the equation that makes it."""
    variable, scale = gradient, 1.0
    while (equation := program.producer(variable)) is not None:
        name = equation.primitive.name
        if name in RELABELLINGS:
            variable = equation.invars[0]
        elif name == "neg":
            variable, scale = equation.invars[0], -scale
        elif name == "mul" and (number := _number_times_variable(equation)) is not None:
            factor, variable = number
            scale *= factor
        else:
            break
    known = {"dot_general": _product, "conv_general_dilated": _convolution, "scatter-add": _lookup}
    if equation is not None and equation.primitive.name in known:
        sink = known[equation.primitive.name](equation, scale, program, traced)
        if sink is not None:
            return sink

    cotangent = _cotangent(gradient, program, traced, ())

    def whole(x: Array, *values: Array) -> Whole:
        jacobian = _for_each(cotangent.array(*values), len(x))
        return Whole(1.0, jacobian.reshape(*jacobian.shape[:2], -1))

    return Sink(cotangent.operands, whole)


class Cotangent(NamedTuple):
    """How to evaluate a cotangent: `(n, o, ...)`; 1 for n where it is the same for all examples."""

    operands: tuple[Operand, ...]
    array: Callable[..., Array]
    shared: bool  # by all examples
    constant: bool  # along the positions


def _cotangent(variable: Any, program: Program, traced: bool, positions: Sequence[int]) -> Cotangent:
    """The cotangent that a variable holds, in the fewest numbers.

    Under a sum over outputs, c[a, j] = d(x)[j] w[a, j] for outputs a is as good as the single d(x)[j] |w[:, j]|, which
    takes as many times less work as there are outputs. The weights may not vary along `positions`, which the gradient
    sums over.
    """
    parts = separated(program, variable)
    constant = parts is not None and set(positions) <= parts.constant
    shared = not program.of_example(variable)
    fold = traced and constant
    if parts is None or not (shared or fold):
        return Cotangent((program.operand(variable),), lambda array: array, False, False)
    if not fold:
        return Cotangent((parts.of_cotangent,), lambda weights: weights[None], True, constant)
    if shared:
        return Cotangent((parts.of_cotangent,), lambda weights: _norm(weights)[None, None], True, True)
    operands = (parts.of_example, parts.of_cotangent)
    return Cotangent(operands, lambda array, weights: array[:, None] * _norm(weights), False, True)


def _norm(weights: Float[Array, "o ..."]) -> Float[Array, "..."]:
    squares = jnp.sum(weights**2, 0)
    positive = squares > 0  # the root's derivative at zero is infinite, that of what becomes of it is zero
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def _for_each(cotangent: Array, num_examples: int) -> Array:
    """A cotangent with the axis of examples in full."""
    if len(cotangent) == num_examples:
        return cotangent
    # The barrier: XLA on CPUs (JAX 0.10) computes reduced products of two broadcast arrays wrongly.
    return lax.optimization_barrier(jnp.broadcast_to(cotangent, (num_examples, *cotangent.shape[1:])))


def _number_times_variable(equation: Any) -> tuple[float, Any] | None:
    """The operands of a multiplication of an array by a constant number."""
    left, right = equation.invars
    for number, variable in ((left, right), (right, left)):
        constant = isinstance(number, jex.Literal) and np.ndim(number.val) == 0 and np.isrealobj(number.val)
        if constant and not isinstance(variable, jex.Literal):
            return float(number.val), variable
    return None


def _product(equation: Any, scale: float, program: Program, traced: bool) -> Sink | None:
    """The sink of a weight matrix: a product of an activation and a cotangent, contracted over positions."""
    left, right = equation.invars
    if program.of_cotangent(left) == program.of_cotangent(right) or _is_literal(left) or _is_literal(right):
        return None
    contracted, batch = equation.params["dimension_numbers"]
    if program.of_cotangent(left):
        left, right, contracted, batch = right, left, contracted[::-1], batch[::-1]
    positions = [axis for axis in contracted[1] if right.aval.shape[axis] > 1]
    cotangent = _cotangent(right, program, traced, positions)

    def build(x: Array, activation: Array, *values: Array) -> Product:
        activations = _canonical(activation, contracted[0], batch[0], 1)
        cotangents = _canonical(cotangent.array(*values), contracted[1], batch[1], 2)
        if cotangent.shared and cotangent.constant:  # the same at all positions: activations add up
            activations, cotangents = jnp.sum(activations, 2, keepdims=True), cotangents[..., :1, :]
        elif activations.shape[2] > 1:
            cotangents = _for_each(cotangents, len(x))
        return Product(scale, activations, cotangents)

    return Sink((program.operand(left), *cotangent.operands), build)


def _canonical(array: Array, contracted: tuple[int, ...], batch: tuple[int, ...], lead: int) -> Array:
    """An operand `(*lead, ...)` of a product as `(*lead, b, t, i)`: its batch, contracted and free axes flattened."""
    free = [axis for axis in range(array.ndim - lead) if axis not in contracted and axis not in batch]
    groups = (batch, contracted, free)
    sizes = [math.prod(array.shape[lead + axis] for axis in group) for group in groups]
    order = [*range(lead), *(lead + axis for group in groups for axis in group)]
    return jnp.transpose(array, order).reshape(*array.shape[:lead], *sizes)


def _lookup(equation: Any, scale: float, program: Program, traced: bool) -> Sink | None:
    """The sink of a table of which rows are looked up, an embedding: a scatter of cotangents into its rows."""
    table, indices, updates = equation.invars
    params, numbers = equation.params, equation.params["dimension_numbers"]
    shape, window = table.aval.shape, numbers.update_window_dims
    rows = (
        tuple(numbers.inserted_window_dims) == tuple(numbers.scatter_dims_to_operand_dims) == (0,)
        and not numbers.operand_batching_dims
        and tuple(updates.aval.shape[axis] for axis in window) == shape[1:]
    )
    if not rows or not is_zero(program, table) or program.of_cotangent(indices) or not program.of_cotangent(updates):
        return None
    lead = [axis for axis in range(updates.aval.ndim) if axis not in window]
    cotangent = _cotangent(updates, program, traced, [axis for axis in lead if updates.aval.shape[axis] > 1])
    clipped = params["mode"] == lax.GatherScatterMode.CLIP

    def build(x: Array, index: Array, *values: Array) -> Lookup:
        cotangents = _for_each(cotangent.array(*values), len(x))
        cotangents = jnp.transpose(cotangents, [0, 1, *(2 + axis for axis in (*lead, *window))])
        num_outputs, flat = cotangents.shape[1], index.reshape(len(x), -1, 1)
        flat = jnp.clip(flat, 0, shape[0] - 1) if clipped else flat
        cotangents = cotangents.reshape(len(x), num_outputs, flat.shape[1], math.prod(shape[1:]))
        return Lookup(scale, flat.astype(int), cotangents, shape[0])

    return Sink((program.operand(indices), *cotangent.operands), build)


def _convolution(equation: Any, scale: float, program: Program, traced: bool) -> Sink | None:
    """The sink of a convolution's window: itself a convolution, whose batch axis is the window's axis of channels."""
    inputs, cotangent = equation.invars
    params = equation.params
    plain = params["feature_group_count"] == params["batch_group_count"] == 1 and set(params["lhs_dilation"]) <= {1}
    if program.of_cotangent(inputs) or not program.of_cotangent(cotangent) or _is_literal(inputs) or not plain:
        return None
    numbers = params["dimension_numbers"]
    left, right = numbers.lhs_spec, numbers.rhs_spec  # (batch, channel, *spatial), (out, in, *spatial)
    window = tuple(equation.outvars[0].aval.shape[axis] for axis in numbers.out_spec[2:])
    padding = [(low, high, 0) for low, high in params["padding"]]
    cotangent_of = _cotangent(cotangent, program, traced, (right[1], *right[2:]))

    def build(x: Array, activation: Array, *values: Array) -> Convolution:
        order = (left[1], *left[2:], left[0])
        arranged = jnp.transpose(activation, [0, *(1 + axis for axis in order)])
        zero = jnp.zeros((), arranged.dtype)
        padded = lax.pad(arranged, zero, [(0, 0, 0), (0, 0, 0), *padding, (0, 0, 0)])
        order = (right[1], *right[2:], right[0])
        cotangents = _for_each(cotangent_of.array(*values), len(x))
        cotangents = jnp.transpose(cotangents, [0, 1, *(2 + axis for axis in order)])
        return Convolution(scale, padded, cotangents, window, params["window_strides"], params["rhs_dilation"])

    return Sink((program.operand(inputs), *cotangent_of.operands), build)


def _is_literal(variable: Any) -> bool:
    return isinstance(variable, jex.Literal)
