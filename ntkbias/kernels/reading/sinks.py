"""Find a gradient's sink: the one equation that multiplies an activation by a cotangent to make the gradient.

A sink says which values of the gradient's jaxpr make a factor, and how. Each known kind of equation has a function that
returns its sink, or None. If no kind applies, the full gradient is taken, which is always right.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.kernels.reading.programs import Program, flat_jaxpr
>>> loss = lambda w, x, cotangent: jnp.vdot(x @ w, cotangent)
>>> closed = flat_jaxpr(jax.grad(loss), jnp.ones((3, 2)), jnp.ones(3), jnp.ones(2))
>>> sink = sink_of(closed.jaxpr.outvars[0], Program(closed), summed=False)
>>> len(sink.operands)                                        # the activation x, and the cotangent
2
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.kernels.factors import Convolution, Factor, FullJacobian, Lookup, Product
from ntkbias.kernels.reading.programs import Operand, Program
from ntkbias.kernels.reading.separation import is_zero, separated
from ntkbias.kernels.reading.sums import combined, layout_of
from ntkbias.kernels.reading.walks import Walk, terms_of

__all__ = ["Sink", "sink_of"]


class Sink(NamedTuple):
    """The operands to evaluate for a parameter's gradient, and a function that builds a factor from their values."""

    operands: tuple[Operand, ...]
    build: Callable[..., Factor]  # takes the examples, then the operands' values


def sink_of(gradient: Any, program: Program, summed: bool) -> Sink:
    """The sink of a parameter's gradient, found by walking to the equation that makes it.

    `summed` says that the kernel is a sum over outputs. Outputs whose cotangents differ only by weights are then folded
    into one.
    """
    terms = [term for term in terms_of(gradient, program) if not is_zero(program, term.source)]
    sink = _sink_of_term(terms[0], program, summed) if len(terms) == 1 else _sink_of_sum(gradient, terms, program)
    if sink is not None:
        return sink

    cotangent = _cotangent(gradient, program, summed, ())

    def full(x: Array, *values: Array) -> FullJacobian:
        jacobian = _for_every_example(cotangent.array(*values), len(x))
        return FullJacobian(1.0, jacobian.reshape(*jacobian.shape[:2], -1))

    return Sink(cotangent.operands, full)


def _sink_of_term(walk: Walk, program: Program, summed: bool) -> Sink | None:
    """The sink of a gradient, or of a term of it, if the equation that makes it is of a known kind."""
    equation = program.producer(walk.source)
    known = {"dot_general": _product, "conv_general_dilated": _convolution, "scatter-add": _lookup}
    if equation is None or equation.primitive.name not in known or any(map(program.is_complex, equation.invars)):
        return None
    return known[equation.primitive.name](equation, walk.scale, program, summed)


class Cotangent(NamedTuple):
    """How to evaluate a cotangent `(n, o, ...)`, or `(1, o, ...)` if all examples share it."""

    operands: tuple[Operand, ...]
    array: Callable[..., Array]
    shared: bool  # whether all examples share it
    constant: bool  # whether it is constant along the positions


def _cotangent(variable: Any, program: Program, summed: bool, positions: Sequence[int]) -> Cotangent:
    """The cotangent that a variable holds, in as few numbers as possible.

    If the kernel sums over outputs, the o cotangents c[a, j] = d(x)[j] w[a, j] can be replaced by the single one
    d(x)[j] |w[:, j]|, which takes o times less work. This requires weights that do not vary along `positions`, the axes
    over which the gradient sums.
    """
    parts = separated(program, variable)
    constant = parts is not None and set(positions) <= parts.constant
    shared = not program.of_example(variable)
    fold = summed and constant
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
    positive = squares > 0  # the root has an infinite derivative at zero, but the kernel's derivative there is zero
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def _for_every_example(cotangent: Array, num_examples: int) -> Array:
    """A cotangent, broadcast over the examples if they share it."""
    if len(cotangent) == num_examples:
        return cotangent
    # The barrier avoids a bug: XLA on CPUs (JAX 0.10) computes reduced products of two broadcast arrays wrongly.
    return lax.optimization_barrier(jnp.broadcast_to(cotangent, (num_examples, *cotangent.shape[1:])))


def _sink_of_sum(gradient: Any, terms: list[Walk], program: Program) -> Sink | None:
    """The sink of a gradient that is a sum: of a table that is looked up and multiplied by, or used several times.

    None if a term is of another kind, or if terms order the parameter's numbers in ways that do not agree. Outputs are
    not folded, since products between terms would not be those of the sum.
    """
    shape = gradient.aval.shape
    layouts = [layout_of(term, program, shape) for term in terms]
    if None in layouts or len({layout.num_rows for layout in layouts if layout is not None}) > 1:
        return None
    sinks = [_sink_of_term(term, program, False) for term in terms]
    known = [sink for sink in sinks if sink is not None]
    if len(known) < len(sinks):
        return None
    ends = list(accumulate(len(sink.operands) for sink in known))
    turned = [layout.turned for layout in layouts if layout is not None]

    def build(x: Array, *values: Array) -> Factor:
        starts = [0, *ends[:-1]]
        parts = [sink.build(x, *values[start:end]) for sink, start, end in zip(known, starts, ends, strict=True)]
        return combined(parts, turned, len(x))

    return Sink(tuple(operand for sink in known for operand in sink.operands), build)


def _product(equation: Any, scale: float, program: Program, summed: bool) -> Sink | None:
    """The sink of a weight matrix: a product of an activation and a cotangent, contracted over positions."""
    left, right = equation.invars
    if program.of_cotangent(left) == program.of_cotangent(right) or _is_literal(left) or _is_literal(right):
        return None
    contracted, batch = equation.params["dimension_numbers"]
    if program.of_cotangent(left):
        left, right, contracted, batch = right, left, contracted[::-1], batch[::-1]
    positions = [axis for axis in contracted[1] if right.aval.shape[axis] > 1]
    cotangent = _cotangent(right, program, summed, positions)

    def build(x: Array, activation: Array, *values: Array) -> Product:
        activations = _canonical(activation, contracted[0], batch[0], 1)
        cotangents = _canonical(cotangent.array(*values), contracted[1], batch[1], 2)
        if cotangent.shared and cotangent.constant:  # all positions share the cotangent: sum the activations
            activations, cotangents = jnp.sum(activations, 2, keepdims=True), cotangents[..., :1, :]
        elif activations.shape[2] > 1:
            cotangents = _for_every_example(cotangents, len(x))
        return Product(scale, activations, cotangents)

    return Sink((program.operand(left), *cotangent.operands), build)


def _canonical(array: Array, contracted: tuple[int, ...], batch: tuple[int, ...], lead: int) -> Array:
    """An operand of a product as `(*lead, b, t, i)`: its batch, contracted and free axes, each group flattened."""
    free = [axis for axis in range(array.ndim - lead) if axis not in contracted and axis not in batch]
    groups = (batch, contracted, free)
    sizes = [math.prod(array.shape[lead + axis] for axis in group) for group in groups]
    order = [*range(lead), *(lead + axis for group in groups for axis in group)]
    return jnp.transpose(array, order).reshape(*array.shape[:lead], *sizes)


def _lookup(equation: Any, scale: float, program: Program, summed: bool) -> Sink | None:
    """The sink of a table whose rows are looked up (an embedding): a scatter of cotangents into its rows."""
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
    cotangent = _cotangent(updates, program, summed, [axis for axis in lead if updates.aval.shape[axis] > 1])
    clipped = params["mode"] == lax.GatherScatterMode.CLIP
    assumes_in_bounds = params["mode"] == lax.GatherScatterMode.PROMISE_IN_BOUNDS

    def build(x: Array, index: Array, *values: Array) -> Lookup:
        cotangents = _for_every_example(cotangent.array(*values), len(x))
        cotangents = jnp.transpose(cotangents, [0, 1, *(2 + axis for axis in (*lead, *window))])
        num_outputs, flat = cotangents.shape[1], index.reshape(len(x), -1, 1).astype(int)
        flat = jnp.clip(flat, 0, shape[0] - 1) if clipped else flat
        cotangents = cotangents.reshape(len(x), num_outputs, flat.shape[1], math.prod(shape[1:]))
        found = Lookup(scale, flat, cotangents, shape[0], assumes_in_bounds)
        if not assumes_in_bounds:
            return found
        # For indices out of bounds, JAX's forward and reverse derivatives differ, so no number would be right.
        undefined = jnp.where(found.out_of_bounds()[:, None], jnp.nan, cotangents)
        return Lookup(scale, flat, undefined, shape[0], assumes_in_bounds)

    places = program.operand(indices)._replace(of_places=True)
    return Sink((places, *cotangent.operands), build)


def _convolution(equation: Any, scale: float, program: Program, summed: bool) -> Sink | None:
    """The sink of a convolution's window: its gradient is a convolution too, batched over the window's channels."""
    inputs, cotangent = equation.invars
    params = equation.params
    plain = params["feature_group_count"] == params["batch_group_count"] == 1 and set(params["lhs_dilation"]) <= {1}
    if program.of_cotangent(inputs) or not program.of_cotangent(cotangent) or _is_literal(inputs) or not plain:
        return None
    numbers = params["dimension_numbers"]
    left, right = numbers.lhs_spec, numbers.rhs_spec  # (batch, channel, *spatial), (out, in, *spatial)
    window = tuple(equation.outvars[0].aval.shape[axis] for axis in numbers.out_spec[2:])
    padding = [(low, high, 0) for low, high in params["padding"]]
    cotangent_of = _cotangent(cotangent, program, summed, (right[1], *right[2:]))

    def build(x: Array, activation: Array, *values: Array) -> Convolution:
        order = (left[1], *left[2:], left[0])
        arranged = jnp.transpose(activation, [0, *(1 + axis for axis in order)])
        zero = jnp.zeros((), arranged.dtype)
        padded = lax.pad(arranged, zero, [(0, 0, 0), (0, 0, 0), *padding, (0, 0, 0)])
        order = (right[1], *right[2:], right[0])
        cotangents = _for_every_example(cotangent_of.array(*values), len(x))
        cotangents = jnp.transpose(cotangents, [0, 1, *(2 + axis for axis in order)])
        return Convolution(scale, padded, cotangents, window, params["window_strides"], params["rhs_dilation"])

    return Sink((program.operand(inputs), *cotangent_of.operands), build)


def _is_literal(variable: Any) -> bool:
    return isinstance(variable, jex.Literal)
