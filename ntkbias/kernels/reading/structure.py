"""Read how f uses its parameters, so that no Jacobian has to be formed.

The gradient of one output of one example is traced, as a function of (params, x, cotangent). From each parameter's
gradient we walk back, through equations that only relabel or scale it, to its sink. The sink is the one equation that
multiplies an activation, which does not depend on the cotangent, by a value that does. The kernel needs only the values
of these two operands (`factors`). Because the gradient is read, and not the forward pass, this is right for custom
derivatives, for weights that are used several times, and for models that use vmap. If there is no single sink of a
known kind, the parameter's full gradient is taken.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.reading import factors
>>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
>>> params = {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}
>>> {path: type(factor).__name__ for path, factor in factors(f, params, jnp.ones((4, 3))).items()}
{"['hidden']": 'Product', "['out']": 'Product'}
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.compilation import remembered
from ntkbias.errors import InputError
from ntkbias.function import is_differentiated, signature, split_params
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.outputs import arrangement, gradient_scale
from ntkbias.kernels.reading.hoisting import with_products_hoisted
from ntkbias.kernels.reading.programs import Operand, Program, flat_jaxpr
from ntkbias.kernels.reading.sinks import Sink, sink_of
from ntkbias.parameters import paths_of
from ntkbias.types import ApplyFunction, Outputs, Params

__all__ = ["OutputRange", "factor_bytes", "factor_shapes", "factors"]


class Structure(NamedTuple):
    """How to evaluate the factors of one example and cotangent."""

    run: Callable[..., list]
    paths: list[str]  # of all parameters
    sinks: dict[str, Sink]  # by path, for the parameters that f depends on
    output_shape: tuple[int, ...]
    dtype: Any


class OutputRange(NamedTuple):
    """A range of outputs, whose axes are flattened. Outputs after the last one count as zero."""

    first: int | Array
    number: int


def factors(
    f: ApplyFunction,
    params: Params,
    x: Array,
    outputs: Outputs = "all",
    precision: str = "highest",
    output_range: OutputRange | None = None,
) -> dict[str, Factor]:
    """The factor of each parameter's block of the kernel, by path, for the examples `x` `(n, ...)`.

    Parameters that f does not depend on have no factor. For "sum" and "mean" several outputs may be folded into one
    that gives the same sum; for "mean" the gradients are divided by the square root of the number of outputs. With an
    `output_range`, only these outputs contribute. Costs one forward pass per example, and one backward pass per example
    and output.
    """
    leaves = jax.tree.leaves(params)
    structure = _read(f, *signature(params, x), arrangement(outputs).is_summed, precision)
    num_outputs = math.prod(structure.output_shape)
    first, count = output_range or (0, num_outputs)
    cotangents = jax.nn.one_hot(first + jnp.arange(count), num_outputs, dtype=structure.dtype)
    cotangents = cotangents.reshape(count, *structure.output_shape)
    operands = [operand for sink in structure.sinks.values() for operand in sink.operands]

    def example(x: Array) -> list[Array]:
        axes = [0 if operand.of_cotangent else None for operand in operands]
        return jax.vmap(lambda cotangent: structure.run(*leaves, x, cotangent), out_axes=axes)(cotangents)

    values = iter(jax.vmap(example, out_axes=[0 if operand.of_example else None for operand in operands])(x))
    # Factors are converted to the type of the parameter, to float32 at least, even if f computes in a narrower one:
    # sums of squares need the digits. Whole numbers are converted too, since their products could overflow.
    kinds = zip(structure.paths, leaves, strict=True)
    types = {path: jnp.promote_types(leaf.dtype, jnp.float32) for path, leaf in kinds}

    def widened(value: Array, path: str, operand: Operand) -> Array:
        return value if operand.of_places else value.astype(types[path])

    scale = gradient_scale(num_outputs, outputs)
    return {
        path: sink.build(x, *(widened(next(values), path, operand) for operand in sink.operands)).scaled(scale)
        for path, sink in structure.sinks.items()
    }


@remembered
def factor_shapes(
    f: ApplyFunction, found: tuple, outputs: Outputs, precision: str, output_range: OutputRange | None = None
) -> dict[str, Factor]:
    """The factors of one example, with shapes in place of arrays, given a `signature`. Cached: tracing is slow."""
    treedef, leaves, example, _ = found
    batch = jax.ShapeDtypeStruct((1, *example.shape), example.dtype)
    evaluate = partial(factors, f, outputs=outputs, precision=precision, output_range=output_range)
    try:
        return jax.eval_shape(evaluate, jax.tree.unflatten(treedef, leaves), batch)
    except NotImplementedError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Expected f(params, x) to consist of operations that jax.vmap can map over examples; got: {reason}"
        ) from error


@remembered
def factor_bytes(
    f: ApplyFunction,
    found: tuple,
    outputs: Outputs,
    precision: str,
    only: tuple[str, ...] | None,
    output_range: OutputRange | None = None,
) -> tuple[int, int]:
    """Bytes per example of the factors at the paths `only` (None: all): as they are read, and as they are kept."""
    shapes = factor_shapes(f, found, outputs, precision, output_range)
    raw = [factor for path, factor in shapes.items() if only is None or path in only]
    kept = [jax.eval_shape(lambda factor: factor.kept(), factor) for factor in raw]
    return sum(factor.row_bytes() for factor in raw), sum(factor.row_bytes() for factor in kept)


@remembered
def _read(
    f: ApplyFunction,
    treedef: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    example: jax.ShapeDtypeStruct,
    default_dtype: str,
    summed: bool,
    precision: str,
) -> Structure:
    """Trace the gradient of one output of one example, and find the sink of each parameter.

    `summed` says that the kernel is a sum over outputs. Outputs whose cotangents differ only by weights are then folded
    into one.
    """

    def outputs(leaves: list[Array], x: Array) -> Array:
        return f(jax.tree.unflatten(treedef, leaves), x[None])[0]

    def gradient(leaves: list[Array], x: Array, cotangent: Array) -> list[Array]:
        chosen, rebuild = split_params(leaves)
        return jax.vjp(lambda chosen: outputs(rebuild(chosen), x), chosen)[1](cotangent)[0]

    with jax.default_matmul_precision(precision):
        output = jax.eval_shape(outputs, list(leaves), example)
        try:
            closed = flat_jaxpr(gradient, list(leaves), example, output)
        except ValueError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"Expected f(params, x) to be differentiable in reverse mode; got: {reason}") from error
    closed = with_products_hoisted(closed)
    program = Program(closed)
    if not any(program.of_cotangent(variable) for variable in closed.jaxpr.outvars):
        raise InputError(
            "Expected f(params, x) to depend on params; its outputs are the same for all values. Check what f uses."
        )
    paths = list(paths_of(_numbered(treedef)))
    differentiated = [path for path, leaf in zip(paths, leaves, strict=True) if is_differentiated(leaf)]
    found = {
        path: sink_of(variable, program, summed)
        for path, variable in zip(differentiated, closed.jaxpr.outvars, strict=True)
        if program.of_cotangent(variable)
    }
    run = program.evaluator([operand for sink in found.values() for operand in sink.operands])
    return Structure(run, paths, found, output.shape, output.dtype)


def _numbered(treedef: Any) -> Any:
    """A pytree of this structure, to get the paths of its leaves from."""
    return jax.tree.unflatten(treedef, range(treedef.num_leaves))
