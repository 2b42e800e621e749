"""A function f(params, x) with its parameters, as users give both: told apart, checked, and asked what it returns.

Whatever is known of a function without its numbers is found once for each: whether two are the same, the shape of what
it returns, whether it treats each example alone, whether it has a forward derivative.

>>> import jax.numpy as jnp
>>> from ntkbias.function import checked_function, num_outputs
>>> f, params = checked_function(lambda params, x: jnp.tanh(x @ params["w"]), {"w": jnp.ones((3, 2))})
>>> num_outputs(f, params, jnp.ones((5, 3)))
2
"""

import math
from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.checks import are_finite, require_array, require_finite
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.types import ApplyFunction, Params

__all__ = [
    "Function",
    "checked_function",
    "has_forward_derivative",
    "num_outputs",
    "output_shape",
    "require_inputs",
    "signature",
    "split_params",
]

MOST_REMEMBERED = 1024  # functions

Shaped = Array | jax.ShapeDtypeStruct  # inputs of which the shape and the type alone are looked at


class Function:
    """A function that is compared by identity: comparing methods of large values takes long at each call."""

    def __init__(self, f: ApplyFunction) -> None:
        self.f = f
        update_wrapper(self, f, updated=())  # its name alone

    def __call__(self, params: Params, x: Array) -> Array:
        """What the function itself returns."""
        return self.f(params, x)


@lru_cache(maxsize=256)
def _named(f: ApplyFunction) -> Function:
    """One `Function` for all that are equal to `f`, so that they share their compiled programs."""
    return Function(f)


def checked_function(f: ApplyFunction, params: Params) -> tuple[Function, Params]:
    """The function, told apart by identity, and its parameters as arrays.

    Raises `InputError` if `params` hold NaN, nothing, or other than floating-point numbers, and if `f` is no function.
    """
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
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
    if isinstance(f, Function):
        return f, params
    try:
        return _named(f), params
    except TypeError:  # unhashable, as a method of a value that holds arrays: identity tells it apart instead
        return Function(f), params


def signature(params: Params, x: Shaped) -> tuple:
    """What the structure of f depends on: shapes and types of parameters and of one example, and the default type."""
    leaves, treedef = jax.tree.flatten(params)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return treedef, shapes, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), str(jnp.result_type(float))


def require_inputs(f: ApplyFunction, params: Params, x: Array, name: str) -> None:
    """Raise an `InputError` unless `f` accepts these inputs, gives one array with a batch axis, and mixes no examples.

    What `f` returns is found out without computing; three examples are computed together and alone.
    """
    output_shape(f, params, x, name)
    _require_independent_examples(f, params, x)


def output_shape(f: ApplyFunction, params: Params, x: Shaped, name: str = "x") -> tuple[int, ...]:
    """The shape of what `f` returns for inputs of a shape; an `InputError` if that is not one array, batch first."""
    return _output_shape(f, *signature(params, x), jax.ShapeDtypeStruct(x.shape, x.dtype), name)


def num_outputs(f: ApplyFunction, params: Params, x: Shaped) -> int:
    """The number of outputs of `f` for one input like those of `x`, its axes multiplied."""
    _, *sizes = output_shape(f, params, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    return math.prod(sizes)


@lru_cache(maxsize=256)
def _output_shape(
    f: ApplyFunction,
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


def has_forward_derivative(f: ApplyFunction, params: Params, x: Shaped) -> bool:
    """Whether JAX can differentiate f forward, for inputs like those of `x`: it refuses that of a custom_vjp."""
    return _has_forward_derivative(f, signature(params, x))


@lru_cache(maxsize=256)
def _has_forward_derivative(f: ApplyFunction, found: tuple) -> bool:
    treedef, leaves, example, _ = found

    def forward(leaves: list[Array], x: Array) -> Array:
        return jax.jvp(lambda leaves: f(jax.tree.unflatten(treedef, leaves), x), (leaves,), (leaves,))[1]

    try:  # JAX notices once it makes a program of it
        jax.jit(forward).lower(list(leaves), jax.ShapeDtypeStruct((1, *example.shape), example.dtype))
    except TypeError:
        return False
    return True


def split_params(
    params: Params, only: tuple[str, ...] | None = None
) -> tuple[list[Array], Callable[[list[Array]], Params]]:
    """The parameters at the paths `only`, or all, but for empty ones; and what puts others in their place."""
    found, treedef = jax.tree_util.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in found]
    places = [
        index
        for index, (path, leaf) in enumerate(found)
        if leaf.size and (only is None or jax.tree_util.keystr(path) in only)
    ]

    def whole(chosen: list[Array]) -> Params:
        replaced = dict(zip(places, chosen, strict=True))
        return jax.tree.unflatten(treedef, [replaced.get(index, leaf) for index, leaf in enumerate(leaves)])

    return [leaves[index] for index in places], whole
