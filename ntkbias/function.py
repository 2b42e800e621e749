"""A user's function f(params, x) and its parameters: identified, checked, and queried for the shape of its outputs.

Facts that do not depend on the values of parameters are found once per function and cached: whether two functions are
the same, the shape of the outputs, whether f treats each example alone, whether f has a forward derivative.

>>> import jax.numpy as jnp
>>> from ntkbias.function import checked_function, num_outputs
>>> f, params, _ = checked_function(lambda params, x: jnp.tanh(x @ params["w"]), {"w": jnp.ones((3, 2))})
>>> num_outputs(f, params, jnp.ones((5, 3)))
2
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import are_finite, are_known, require_array, require_finite
from ntkbias.compilation import Function, compiled, remembered
from ntkbias.errors import InputError, InputTypeError
from ntkbias.mixing import require_independent_examples
from ntkbias.packing import Unpacking
from ntkbias.parameters import Which, chosen_paths, with_real_params
from ntkbias.types import ApplyFunction, Params
from ntkbias.wrappers import Wrapper

__all__ = [
    "RealOutputs",
    "checked_function",
    "has_forward_derivative",
    "is_differentiated",
    "num_outputs",
    "output_shape",
    "real_outputs",
    "require_inputs",
    "signature",
    "split_params",
]

FEW = 3  # examples whose outputs are checked
Shaped = Array | jax.ShapeDtypeStruct  # inputs whose shape and type alone are used


@jax.tree_util.register_pytree_node_class
class RealOutputs(Function):
    """A user's function that returns real numbers: complex outputs get a new second axis, (real, imaginary)."""

    @classmethod
    def of(cls, f: Any) -> "RealOutputs":
        """Wrap f. The result has compiled programs of its own, apart from those of f."""
        if isinstance(f, RealOutputs):
            return f
        own = Function.of(f)
        return cls(own.f, own.programs.joined(own.programs))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Return the outputs of f, or their real and imaginary parts if they are complex."""
        return real_outputs(super().__call__(*args, **options))


def real_outputs(found: Any) -> Any:
    """Outputs `(n, ...)` as they are if they are real; complex ones as `(n, 2, ...)`, (real, imaginary)."""
    if not jnp.issubdtype(getattr(found, "dtype", bool), jnp.complexfloating) or not found.ndim:
        return found
    return jnp.stack([jnp.real(found), jnp.imag(found)], 1)


def checked_function(
    f: ApplyFunction, params: Params, wrt: Which | None = None
) -> tuple[Function, Params, tuple[str, ...] | None]:
    """Return f as a `Function`, its parameters as arrays, and the paths of the parameters that `wrt` selects.

    From here on complex parameters and complex outputs are represented by their real and imaginary parts. Raises
    `InputError` if `params` is empty or holds NaN, if a selected parameter is not of a floating-point type, and if `f`
    is not callable.
    """
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    if wrt is None and isinstance(params, Mapping) and {"params", "batch_stats"} <= set(params):
        raise InputError(
            "Expected only the trained params; got the flax collections params and batch_stats. Use "
            "adapters.flax_linen(model, variables), or pass wrt=\"['params']\"."
        )
    if not isinstance(f, Function):  # a Function has real parameters already
        f, params = with_real_params(f, params)
    only = chosen_paths(params, wrt)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("Expected params to hold at least one array; got an empty pytree.")
    named = {f"params{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    arrays = {name: require_array(leaf, name) for name, leaf in named.items()}
    for name, array in arrays.items():
        counts = only is None or name.removeprefix("params") in only
        if counts and not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputTypeError(
                f"Expected floating-point numbers in {name}; got {array.dtype}. Select the parameters to differentiate "
                "with wrt=, or close over the others: lambda params, x: model(params, state, x)."
            )
    if not are_finite(list(arrays.values())):
        for name, array in arrays.items():
            require_finite(array, name)
    params = jax.tree.unflatten(jax.tree.structure(params), list(arrays.values()))
    return RealOutputs.of(f), params, only


def signature(params: Params, x: Shaped) -> tuple:
    """The cache key for facts about f: shapes and types of parameters and one example, and JAX's default float type."""
    leaves, treedef = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return treedef, shapes, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), str(jnp.result_type(float))


def require_inputs(f: ApplyFunction, params: Params, x: Array, name: str) -> None:
    """Raise an `InputError` unless `f` accepts `x`, returns one array with a batch axis, and treats each example alone.

    Most of this is read from the jaxpr of `f`. The outputs of three examples are computed once per input shape.
    """
    output_shape(f, params, x, name)
    _require_any_batch_size(f, params, x, name)
    inner: Any = Function.of(f).f
    inner, inputs = (inner.f, inner.layout.unpack(x)) if isinstance(inner, Unpacking) else (f, x)
    wrapped = Function.of(inner).f
    if isinstance(wrapped, Wrapper):
        if are_known((params, inputs)):
            wrapped.check_inputs(params, inputs)
        inner = inner if wrapped.on_batches is wrapped else wrapped.on_batches
    require_independent_examples(inner, params, inputs)
    _require_finite_outputs(f, params, x)


def _require_finite_outputs(f: ApplyFunction, params: Params, x: Array) -> None:
    """Raise an `InputError` if outputs of the first examples are not finite. Their gradients may still be finite."""
    function = Function.of(f)
    known, key = function.programs.memory, (_require_finite_outputs, *signature(params, x))
    if key in known or not are_known((params, x)):
        return
    finite = _are_outputs_finite(function, params, x[:FEW])
    if not are_known(finite):  # traced, under jit, vmap or grad
        return
    if not bool(finite):
        raise InputError(
            "Expected f(params, x) to return finite numbers; got NaN or infinity for the first inputs. "
            "Check the scale of inputs and parameters."
        )
    known[key] = True


@compiled
def _are_outputs_finite(f: ApplyFunction, params: Params, x: Array) -> Array:
    return jnp.all(jnp.isfinite(f(params, x)))


def _require_any_batch_size(f: ApplyFunction, params: Params, x: Shaped, name: str) -> None:
    """Raise an `InputError` unless `f` also takes one example alone: kernels are evaluated in batches of any size."""
    try:
        num_outputs(f, params, x)
    except InputError as error:
        reason = str(error).partition("; got")[2].strip(": ").rstrip(".") or str(error)
        raise InputError(
            f"Expected f(params, x) to accept any number of examples; it takes the {len(x)} in {name}, and for one "
            f"alone got: {reason}. Use len(x) instead of a fixed number. If the rows of x are the nodes of one graph, "
            "they depend on each other: pass node indices (n, 1) and close over the graph, or make each graph one "
            "example, with its adjacency and features in a dictionary."
        ) from error


def output_shape(f: ApplyFunction, params: Params, x: Shaped, name: str = "x") -> tuple[int, ...]:
    """The shape of the outputs of `f` for `x`. Raises `InputError` unless f returns one array, batch axis first."""
    return _output_shape(f, *signature(params, x), jax.ShapeDtypeStruct(x.shape, x.dtype), name)


def num_outputs(f: ApplyFunction, params: Params, x: Shaped) -> int:
    """The number of outputs of `f` per example: the product of all output axes after the batch axis."""
    _, *sizes = output_shape(f, params, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    return math.prod(sizes)


@remembered
def _output_shape(
    f: Function,
    treedef: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    _: Any,
    default_dtype: str,
    x: jax.ShapeDtypeStruct,
    name: str,
) -> tuple[int, ...]:
    try:
        result = jax.eval_shape(f, jax.tree.unflatten(treedef, leaves), x)
    except InputError:
        raise
    except Exception as error:  # f is the user's function, and may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not isinstance(error, TypeError | ValueError):
            reason = f"{type(error).__name__}: {reason}"
        if isinstance(f.f, Unpacking):
            raise InputError(
                f"Expected f(params, x) to accept {name} of several arrays, {f.f.layout}, {len(x)} examples; got: "
                f"{reason}"
            ) from error
        raise InputError(
            f"Expected f(params, x) to accept {name} of shape {x.shape} and type {x.dtype}; got: {reason}"
        ) from error
    shape = getattr(result, "shape", None)
    if shape is not None and not jnp.issubdtype(result.dtype, jnp.floating):
        raise InputTypeError(
            f"Expected f(params, x) to return real floating-point numbers; got {result.dtype}. "
            "Return scores, not class labels."
        )
    if shape is not None and 0 in shape:
        raise InputError(f"Expected f(params, x) to return at least one output per input; got shape {shape}.")
    if shape is None or shape[:1] != (len(x),):
        raise InputError(
            f"Expected f(params, x) to return one array with {len(x)} rows for {len(x)} inputs; got "
            f"{type(result).__name__ if shape is None else f'shape {shape}'}. Return only the outputs, batch axis "
            "first."
        )
    return shape


def has_forward_derivative(f: ApplyFunction, params: Params, x: Shaped) -> bool:
    """Whether f has a JVP for inputs like `x`. A function with a custom_vjp has none."""
    return _has_forward_derivative(f, signature(params, x))


@remembered
def _has_forward_derivative(f: ApplyFunction, found: tuple) -> bool:
    treedef, leaves, example, _ = found

    def forward(leaves: list[Array], x: Array) -> Array:
        chosen, rebuild = split_params(jax.tree.unflatten(treedef, leaves))
        return jax.jvp(lambda chosen: f(rebuild(chosen), x), (chosen,), (chosen,))[1]

    try:  # JAX raises only when it lowers the program
        jax.jit(forward).lower(list(leaves), jax.ShapeDtypeStruct((1, *example.shape), example.dtype))
    except TypeError:
        return False
    return True


def is_differentiated(leaf: Array | jax.ShapeDtypeStruct) -> bool:
    """Whether a parameter has a gradient: it is not empty, and its type is floating-point."""
    return bool(leaf.size) and jnp.issubdtype(leaf.dtype, jnp.floating)


def split_params(
    params: Params, only: tuple[str, ...] | None = None
) -> tuple[list[Array], Callable[[list[Array]], Params]]:
    """Return the differentiated parameters at the paths `only` (None: all), and a function that rebuilds `params`.

    `rebuild(values)` is `params` with `values` in the place of the parameters returned.
    """
    found, treedef = jax.tree_util.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in found]
    places = [
        index
        for index, (path, leaf) in enumerate(found)
        if is_differentiated(leaf) and (only is None or jax.tree_util.keystr(path) in only)
    ]

    def rebuild(chosen: list[Array]) -> Params:
        replaced = dict(zip(places, chosen, strict=True))
        return jax.tree.unflatten(treedef, [replaced.get(index, leaf) for index, leaf in enumerate(leaves)])

    return [leaves[index] for index in places], rebuild
