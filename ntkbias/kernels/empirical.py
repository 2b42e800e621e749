"""The kernels of one network with given parameters, for any function f(params, x).

    NTK   K(x, x')[a, b] = <d f_a(x) / d params, d f_b(x') / d params>      (Jacot et al. 2018, arXiv 1806.07572)
    NNGP  K(x, x')[a, b] = f_a(x) f_b(x')                                   (one sample of the Gaussian process)

`outputs` says what becomes of the outputs a, b, whose axes are flattened to `o`: "mean" (the mean of the diagonal a =
b, as neural-tangents' trace_axes), "sum" (the trace over outputs, as torch.func's 'trace'), "each" (the diagonal),
"all".

>>> import jax, ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=2, num_outputs=3)
>>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)), outputs="all")
>>> kernel(jax.numpy.ones((4, 2))).shape
(4, 3, 4, 3)
"""

import math
from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.checks import are_finite, require_array, require_choice, require_finite, require_positive
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.factors import Factor, inner_products
from ntkbias.kernels.jacobian import JacobianOperator
from ntkbias.kernels.kernel import EXAMPLE_AXES, Kernel
from ntkbias.kernels.operator import KernelOperator
from ntkbias.kernels.structure import factor_shapes, factors, signature
from ntkbias.kernels.tiles import mirrored, strips
from ntkbias.memory import default_memory_budget
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

MOST_REMEMBERED = 1024  # functions
CACHED = 2**25  # bytes: larger passes leave a CPU's caches, and are slower
PASS_SHARE = 4  # the part of the memory budget, one in so many, that passes through the network may take

__all__ = ["EmpiricalNNGP", "EmpiricalNTK", "empirical_nngp", "empirical_ntk", "empirical_ntk_by_layer"]


def empirical_ntk(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> "EmpiricalNTK":
    """The empirical neural tangent kernel of `f` at `params`.

    `f(params, x)` maps `(n, ...)` to `(n, ...)` and does not mix examples. Where it computes in a narrower type than
    its parameters', gradients are contracted in the parameters' type. `params` is a pytree of floating-point arrays.
    `memory_budget` bounds the bytes of one block's Jacobians (default: a quarter of the device's memory); it does not
    hold the result. With P parameters, n^2 o P / 2 multiplications for "mean", "sum" and "each", o times that for
    "all", and (n / rows of a block) times n o backward passes.

    `precision` is that of matrix products and convolutions, also inside `f`, where f does not ask for another: on
    accelerators "high" takes TensorFloat-32 or three bfloat16 passes, and "default" what is fastest there, of as few
    as 8 bits. Sums are accumulated in float32. On a CPU all of them are float32.

    `f` has to be pure: it is traced once, and what it read then from elsewhere is kept. A kernel built with a fresh
    lambda compiles again; pass one function to keep its program. Under `jit` and `vmap`
    each block becomes part of the surrounding program.

    Raises `InputError` if `params` hold NaN, nothing, or other than floating-point numbers.
    """
    return EmpiricalNTK(outputs, *_checked(f, params, outputs, memory_budget, precision))


def empirical_ntk_by_layer(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> "dict[str, EmpiricalNTK]":
    """The part of the empirical NTK that each parameter contributes, by its path in `params`; their sum is the kernel.

    A kernel of one parameter is the NTK of training that parameter alone. Arguments and errors are those of
    `empirical_ntk`; a parameter that `f` does not use is named when its kernel is called.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
    >>> params = {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 1))}
    >>> sorted(empirical_ntk_by_layer(f, params))
    ["['hidden']", "['out']"]
    """
    checked = _checked(f, params, outputs, memory_budget, precision)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return {path: EmpiricalNTK(outputs, *checked, only=(path,)) for path in paths}


def empirical_nngp(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> "EmpiricalNNGP":
    """The products of the outputs of `f` at `params`, averaged over outputs by default.

    Over random parameters its expectation is the NNGP kernel (Lee et al. 2018); one network with few outputs is a
    noisy sample, of relative error about sqrt(2 / o). The last layer's hidden features give a better one. Same
    arguments and errors as `empirical_ntk`; costs one forward pass and n^2 o multiplications.
    """
    return EmpiricalNNGP(outputs, *_checked(f, params, outputs, memory_budget, precision))


class _Empirical(Kernel):
    f: ApplyFunction = eqx.field(static=True)
    params: Params
    memory_budget: int = eqx.field(static=True)
    precision: Precision = eqx.field(static=True)

    def check(self, x: Array, name: str) -> None:
        """Find out, without computing, whether `f` accepts the inputs and gives one array with a batch axis."""
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        output_shape(self.f, *signature(self.params, x), shape, name)
        _require_independent_examples(self.f, self.params, x)

    def num_outputs(self, x: Array) -> int:
        """The number of outputs of `f` for one input, its axes multiplied."""
        return _num_outputs(self.f, signature(self.params, x))


@lru_cache(maxsize=256)
def output_shape(
    f: ApplyFunction,
    treedef: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    _: Any,
    default_dtype: str,
    x: jax.ShapeDtypeStruct,
    name: str,
) -> tuple[int, ...]:
    """The shape of what `f` returns for inputs of a shape; an `InputError` if that is not one array, batch first."""
    try:
        result = jax.eval_shape(f, jax.tree.unflatten(treedef, leaves), x)
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Expected f(params, x) to accept {name} of shape {x.shape} and type {x.dtype}; got: {reason}"
        ) from error
    shape = getattr(result, "shape", None)
    if shape is not None and not jnp.issubdtype(result.dtype, jnp.floating):
        raise InputTypeError(
            f"Expected f(params, x) to return real floating-point numbers; got {result.dtype}. "
            "Return scores, not decisions, and stack real and imaginary parts."
        )
    if shape is not None and 0 in shape:
        raise InputError(f"Expected f(params, x) to return at least one output an input; got shape {shape}.")
    if shape is None or shape[:1] != (len(x),):
        raise InputError(
            f"Expected f(params, x) to return one array with {len(x)} rows for {len(x)} inputs; got "
            f"{type(result).__name__ if shape is None else f'shape {shape}'}. Return the outputs alone, batch "
            "axis first."
        )
    return shape


def _num_outputs(f: ApplyFunction, found: tuple) -> int:
    """The number of outputs for one input, given a `signature`."""
    *_, example, _ = found
    one = jax.ShapeDtypeStruct((1, *example.shape), example.dtype)
    return math.prod(output_shape(f, *found, one, "x")[1:])


class EmpiricalNTK(_Empirical):
    """The empirical NTK as a kernel; made by `empirical_ntk`."""

    only: tuple[str, ...] | None = eqx.field(static=True, default=None)  # paths of the parameters that count

    def check(self, x: Array, name: str) -> None:
        super().check(x, name)
        for path in self.only or ():
            if path not in factor_shapes(self.f, signature(self.params, x), self.outputs, self.precision):
                raise InputError(
                    f"Expected f(params, x) to depend on the parameter {path}; its outputs are the same for all its "
                    "values. Leave its kernel out of the sum: it is zero."
                )

    def block_rows(self, x: Array) -> int:
        return _block_and_pass_rows(self, x)[0]

    def pass_rows(self, x: Array) -> int:
        return _block_and_pass_rows(self, x)[1]

    def features(self, x: Array) -> dict[str, Factor]:
        """What each parameter's part of the kernel is made of, by its path."""
        with jax.default_matmul_precision(self.precision):
            found = self._chosen(factors(self.f, self.params, x, self.outputs, self.precision))
            return {path: factor.kept() for path, factor in found.items()}

    def contract(self, features1: dict[str, Factor], features2: dict[str, Factor] | None) -> Array:
        one = next(iter(features1.values()))
        if features2 is None:
            parts = strips(one.num_examples, one.num_outputs if self.outputs == "all" else 1)
        else:
            parts = [(slice(one.num_examples), slice(next(iter(features2.values())).num_examples))]
        total: list[Any] = [0.0] * len(parts)
        with jax.default_matmul_precision(self.precision):
            for path, factor in features1.items():
                other = None if features2 is None else features2[path]
                found = factor.blocks(other, parts, self.outputs)
                total = [block + part for block, part in zip(total, found, strict=True)]
        return mirrored(total, EXAMPLE_AXES[self.outputs])

    def _chosen(self, found: dict[str, Factor]) -> dict[str, Factor]:
        return found if self.only is None else {path: found[path] for path in self.only}

    def _operator(self, x: np.ndarray) -> KernelOperator:
        return JacobianOperator(self, x)

    def split_params(self) -> tuple[list[Array], Callable[[list[Array]], Params]]:
        """The parameters that count, and the function that puts others in their place."""
        found, treedef = jax.tree_util.tree_flatten_with_path(self.params)
        leaves = [leaf for _, leaf in found]
        places = [
            index
            for index, (path, leaf) in enumerate(found)
            if leaf.size and (self.only is None or jax.tree_util.keystr(path) in self.only)
        ]

        def whole(chosen: list[Array]) -> Params:
            replaced = dict(zip(places, chosen, strict=True))
            return jax.tree.unflatten(treedef, [replaced.get(index, leaf) for index, leaf in enumerate(leaves)])

        return [leaves[index] for index in places], whole


def _block_and_pass_rows(kernel: EmpiricalNTK, x: Array) -> tuple[int, int]:
    """How many examples a block of the kernel and a pass may have."""
    found = signature(kernel.params, x)
    block, one_pass = _rows(kernel.f, found, kernel.outputs, kernel.precision, kernel.only, kernel.memory_budget)
    square = _square_rows(kernel.memory_budget, _num_outputs(kernel.f, found), kernel.outputs)
    return min(block, square), one_pass


@lru_cache(maxsize=256)
def _rows(
    f: ApplyFunction,
    found: tuple,
    outputs: Outputs,
    precision: Precision,
    only: tuple[str, ...] | None,
    memory_budget: int,
) -> tuple[int, int]:
    """How many examples' factors fit a block, and a pass."""
    shapes = factor_shapes(f, found, outputs, precision)
    raw = [factor for path, factor in shapes.items() if only is None or path in only]
    kept = [jax.eval_shape(lambda factor: factor.kept(), factor) for factor in raw]
    held = sum(factor.row_bytes() for factor in kept)
    # Of seven shares two are the sides, one is what passes are about to add; copies and the blocks have the others.
    block = memory_budget // (7 * held)
    # A pass holds, beside what is read off it, what it came from.
    pass_bytes = memory_budget // PASS_SHARE
    if jax.default_backend() == "cpu":
        pass_bytes = min(pass_bytes, CACHED)
    one_pass = pass_bytes // (2 * sum(factor.row_bytes() for factor in raw))
    return max(1, block), max(1, one_pass)


class EmpiricalNNGP(_Empirical):
    """The products of a network's outputs as a kernel; made by `empirical_nngp`."""

    def block_rows(self, x: Array) -> int:
        return _square_rows(self.memory_budget, self.num_outputs(x), self.outputs)

    def features(self, x: Array) -> Array:
        with jax.default_matmul_precision(self.precision):
            return self.f(self.params, x).reshape(len(x), -1, 1)

    def contract(self, features1: Array, features2: Array | None) -> Array:
        with jax.default_matmul_precision(self.precision):
            products = inner_products(features1, features1 if features2 is None else features2, self.outputs)
        return products / features1.shape[1] if self.outputs == "mean" else products


_independent: set[tuple] = set()  # functions, with shapes of parameters and inputs, known not to mix examples


@compiled
def _mixing(f: ApplyFunction, params: Params, x: Array) -> Array:
    """How much outputs change when other examples join the batch, relative to the largest."""
    together = f(params, x)
    alone = jax.vmap(lambda example: f(params, example[None])[0])(x)
    largest = jnp.maximum(jnp.max(jnp.abs(together)), jnp.max(jnp.abs(alone)))
    return jnp.max(jnp.abs(together - alone)) / jnp.where(largest == 0, 1.0, largest)


def _require_independent_examples(f: ApplyFunction, params: Params, x: Array) -> None:
    """Raise an `InputError` if the outputs of the first examples depend on their neighbours in the batch.

    That is how f is written, not a matter of numbers: once found independent it is not looked at again.
    """
    key = (f, *signature(params, x))
    if len(x) < 2 or key in _independent:
        return
    mixing = _mixing(f, params, x[:3])
    try:
        change = float(mixing)
    except jax.errors.ConcretizationTypeError:
        return
    if not np.isfinite(change):
        raise InputError(
            "Expected f(params, x) to return finite numbers; got NaN or infinity for the first inputs. "
            "Check the scale of inputs and parameters."
        )
    # Two orders of summation differ by many eps; statistics of a batch of three change outputs by much more than this.
    if change > 10 * float(jnp.finfo(mixing.dtype).eps) ** 0.5:
        raise InputError(
            f"Expected f(params, x) to treat each example alone; got outputs that change by {change:.2g} of the "
            "largest when others join the batch. Use a model's inference mode (BatchNorm with fixed statistics)."
        )
    if len(_independent) >= MOST_REMEMBERED:
        _independent.clear()
    _independent.add(key)


def _square_rows(memory_budget: int, num_outputs: int, outputs: Outputs) -> int:
    """Rows of a square block of which four copies, in eight bytes, fit the budget."""
    entries = {"all": num_outputs**2, "each": num_outputs}.get(outputs, 1)
    return max(1, math.isqrt(memory_budget // (4 * 8 * entries)))


class Function:
    """A function that is compared by identity: comparing methods of large values takes long at each call."""

    def __init__(self, f: ApplyFunction) -> None:
        self.f = f
        update_wrapper(self, f, updated=())  # its name alone

    def __call__(self, params: Params, x: Array) -> Array:
        return self.f(params, x)


@lru_cache(maxsize=256)
def _named(f: ApplyFunction) -> Function:
    """One `Function` for all that are equal to `f`, so that they share their compiled programs."""
    return Function(f)


def _checked(
    f: ApplyFunction, params: Params, outputs: Outputs, memory_budget: int | None, precision: Precision
) -> tuple[ApplyFunction, Params, int, Precision]:
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    require_choice("outputs", outputs, Outputs)
    require_choice("precision", precision, Precision)
    if memory_budget is not None:
        require_positive("memory_budget (bytes)", memory_budget)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("Expected params to hold at least one array; got an empty pytree.")
    named = {f"params{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    arrays = {name: require_array(leaf, name) for name, leaf in named.items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputTypeError(
                f"Expected floating-point numbers in {name}; got {array.dtype}. "
                "Close over what is not differentiated: lambda params, x: model(params, state, x)."
            )
    if not are_finite(list(arrays.values())):
        for name, array in arrays.items():
            require_finite(array, name)
    params = jax.tree.map(jnp.asarray, params)
    try:
        f = _named(f)
    except TypeError:  # unhashable, as a method of a value that holds arrays: identity tells it apart instead
        f = Function(f)
    return f, params, default_memory_budget() if memory_budget is None else memory_budget, precision
