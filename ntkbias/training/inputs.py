"""Checks of the arguments of training, before it starts: the data, the function, its parameters and `forward`."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError, InputTypeError
from ntkbias.packing import Layout, Unpacking, are_several, packed_rows
from ntkbias.parameters import is_complex
from ntkbias.types import ApplyFunction, Params

__all__ = ["Forward", "checked_data", "output_shape", "packed_data", "require_forward", "shapes"]

Forward = Callable[[Params, Any, Array, PRNGKeyArray], tuple[Array, Any]]  # (params, state, x, key) -> outputs, state


def checked_data(data: Any, name: str = "the data") -> tuple[Array, Array]:
    """The inputs `(n, ...)` and targets `(n, ...)` of a pair (x, y), as finite arrays.

    Raises `InputTypeError` if `data` is not a pair, and `InputError` on NaN or on different numbers of rows.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        got = f"{len(data)} values" if isinstance(data, tuple | list) else type(data).__name__
        advice = " For a training loop of your own, use track_snapshots." if isinstance(data, Iterator) else ""
        raise InputTypeError(f"Expected {name} to be a pair (x, y) of inputs and targets; got {got}.{advice}")
    x, y = require_array(data[0], f"x of {name}"), require_array(data[1], f"y of {name}")
    if x.ndim < 2 or not x.size:
        raise InputError(f"Expected inputs (n, ...) in {name}, with two axes or more; got shape {x.shape}.")
    require_finite(x, f"x of {name}")
    require_finite(y, f"y of {name}")
    if y.shape[:1] != x.shape[:1]:
        raise InputError(
            f"Expected as many targets as inputs in {name}; got {y.shape[0] if y.ndim else 0} targets for {len(x)} "
            "inputs."
        )
    return x, y


def packed_data(f: ApplyFunction, forward: Forward | None, data: Any) -> tuple[ApplyFunction, Forward | None, Any]:
    """f, forward and data with packed inputs if each input is several arrays; otherwise all three unchanged."""
    if not isinstance(data, tuple | list) or len(data) != 2 or not are_several(data[0]):
        return f, forward, data
    layout, rows = packed_rows(data[0], "x of the data")
    return Unpacking(f, layout), None if forward is None else UnpackingForward(forward, layout), (rows, data[1])


@dataclasses.dataclass(frozen=True)
class UnpackingForward:
    """A `forward` that takes packed inputs."""

    f: Forward
    layout: Layout

    def __call__(self, params: Params, state: Any, x: Array, key: PRNGKeyArray) -> tuple[Array, Any]:
        return self.f(params, state, self.layout.unpack(x), key)


def output_shape(f: ApplyFunction, variables: Params, x: Array) -> jax.ShapeDtypeStruct:
    """The shape and dtype of f(variables, x), after checks.

    Raises `InputError` if f does not accept these arguments or does not return one row per input, and `InputTypeError`
    if the parameters are not arrays of real numbers.
    """
    if not jax.tree.leaves(variables):
        raise InputError("Expected params to hold at least one array; got an empty pytree.")
    wrong = [leaf for leaf in jax.tree.leaves(variables) if not isinstance(leaf, int | float) and not _is_array(leaf)]
    if wrong:
        raise InputTypeError(
            f"Expected params to be a pytree of arrays, like that of net.init; got {type(wrong[0]).__name__}."
        )
    if any(is_complex(leaf) for leaf in jax.tree.leaves(variables)):
        raise InputTypeError(
            "Expected real parameters to train; got complex ones. Train real and imaginary parts: "
            "lambda p, x: f(jax.tree.map(jax.lax.complex, p['real'], p['imag']), x)."
        )
    try:
        outputs = jax.eval_shape(f, variables, x)
    except (InputError, InputTypeError):
        raise
    except Exception as error:  # f is the user's function and may raise anything
        raise InputError(
            f"Expected f to take these params and inputs of shape {x.shape}; it raised {_summary(error)}. "
            "Compare them with those of net.init."
        ) from error
    if is_complex(outputs):
        raise InputTypeError(
            f"Expected f(params, x) to return real numbers to train it; got {outputs.dtype}. Return real and imaginary "
            "parts as outputs: jax.numpy.concatenate([y.real, y.imag], -1)."
        )
    if getattr(outputs, "shape", ())[:1] != (len(x),):
        raise InputError(f"Expected f(params, x) to return one array with {len(x)} rows for {len(x)} inputs.")
    return outputs


def require_forward(forward: Forward, params: Params, state: Any, x: Array, outputs: jax.ShapeDtypeStruct) -> None:
    """Raise an `InputError` unless forward returns outputs of f's shape and a state like the one it was given."""
    state = jax.tree.map(jnp.asarray, state)
    found = jax.eval_shape(forward, params, state, x, jax.random.key(0))
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InputError(f"Expected forward to return the pair (outputs, state); got {shapes(found)}.")
    if getattr(found[0], "shape", None) != outputs.shape:
        raise InputError(
            f"Expected forward to return outputs of the shape of f's, {outputs.shape}; got {shapes(found[0])}."
        )
    if shapes(found[1]) != shapes(state):
        raise InputError(
            f"Expected forward to return a state like the one it was given, {shapes(state)}; got {shapes(found[1])}."
        )


def shapes(tree: Any) -> str:
    """The structure of a pytree as text, with dtypes and shapes in place of the arrays."""
    arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, int | float) else leaf, tree)
    return eqx.tree_pformat(eqx.filter_eval_shape(lambda: arrays), struct_as_array=True, width=10**6)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _summary(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}"
