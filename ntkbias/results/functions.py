"""Functions of users in files: named and tried, never stored. `load` gets them again, and tries them again.

A trial is what a function does at a few inputs: outputs and the gradient of their sum, or for a function of one number
its values and slopes. The inputs are those of the value that is saved, or else vectors that the function takes.

>>> import jax.numpy as jnp
>>> from ntkbias.compilation import Function
>>> from ntkbias.results.functions import difference, tried
>>> params, x = {"w": jnp.ones((3, 2))}, jnp.eye(3)
>>> there = tried(Function.of(lambda params, x: jnp.tanh(x @ params["w"])), params, x)
>>> difference(there, tried(Function.of(lambda params, x: jnp.sin(x @ params["w"])), params, x))
'outputs differ by 0.08 of 0.762'
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.compilation import Function, compiled
from ntkbias.function import split_params
from ntkbias.types import Params
from ntkbias.wrappers import Wrapper

__all__ = ["Needed", "accepts", "difference", "few", "name_of", "summary", "tried", "tried_at_points", "vectors"]

ROWS = 3  # inputs of a trial
ENTRIES = 64  # of the outputs that are kept, at equal distances
POINTS = np.linspace(-3.0, 3.0, 25, dtype=np.float32)  # of a function of one number
# Half of the digits: rounding on another device takes fewer, and another function more.
TOLERANCE = float(np.finfo(np.float32).eps) ** 0.5
EPSILON = "epsilon"  # of the type of the outputs, beside them
MOST_SHOWN = 4  # parameters in a message
Trial = dict[str, np.ndarray]


class Needed(Exception):
    """A value in a file needs a function of the user's that was not given."""


def name_of(f: Any) -> str:
    """What a user calls a function: its name, or that of what it is made of, or of its type."""
    if isinstance(f, Function | Wrapper):
        return name_of(f.f)  # type: ignore[union-attr]
    inner = getattr(f, "func", None)  # of functools.partial
    own = getattr(f, "__name__", None) or (name_of(inner) if callable(inner) else type(f).__name__)
    return f"{type(f.__self__).__name__}.{own}" if hasattr(f, "__func__") else str(own)


def summary(params: Params) -> str:
    """The first parameters, and their shapes."""
    found = jax.tree_util.tree_leaves_with_path(params)
    shown = ", ".join(f"{jax.tree_util.keystr(path)} {np.shape(leaf)}" for path, leaf in found[:MOST_SHOWN])
    return shown + (f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else "")


def few(x: Any) -> Any:
    """Some of the inputs, at equal distances, the last among them."""
    length = len(jax.tree.leaves(x)[0])
    rows = np.linspace(length - 1, 0, min(ROWS, length)).astype(int)
    return jax.tree.map(lambda leaf: np.asarray(leaf[rows]), x)


def vectors(params: Params) -> Iterator[np.ndarray]:
    """Inputs that may be those of a function: vectors as long as the axes of its parameters."""
    for size in sorted({size for leaf in jax.tree.leaves(params) for size in np.shape(leaf)}):
        yield np.cos(1.7 * np.arange(ROWS * size, dtype=np.float32) + 0.3).reshape(ROWS, size)


def accepts(f: Function, params: Params, x: Any) -> str:
    """Why a function does not take parameters and inputs, as the end of a sentence; "" where it does."""
    try:
        found = jax.eval_shape(f, params, x)
    except Exception as error:  # it is the user's
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    shape, length = getattr(found, "shape", None), len(jax.tree.leaves(x)[0])
    return "" if shape is not None and shape[:1] == (length,) else f"outputs of shape {shape} for {length} inputs"


def tried(f: Function, params: Params, x: Any) -> Trial:
    """Some outputs, and of the gradient of their weighted sum two numbers a parameter, where there is one."""
    with jax.default_matmul_precision("highest"):
        try:
            outputs, slopes = _outputs_and_slopes(f, params, x)
            found = {"outputs": outputs, "gradient": slopes}
        except Exception:  # it has no derivative
            found = {"outputs": _outputs(f, params, x)}
    epsilon = jnp.finfo(jax.eval_shape(f, params, x).dtype).eps
    return {name: np.asarray(value) for name, value in found.items()} | {EPSILON: np.asarray(epsilon, np.float32)}


def tried_at_points(f: Function) -> Trial:
    """Values of a function of one number, and slopes, where it has them. Raises what it raises."""
    values = np.asarray(f(jnp.asarray(POINTS)))
    if values.shape != POINTS.shape:
        raise ValueError(f"outputs of shape {values.shape} for {POINTS.shape}")
    try:
        outputs, pull = jax.vjp(f, jnp.asarray(POINTS))
        return {"outputs": values, "gradient": np.asarray(pull(jnp.ones_like(outputs))[0])}
    except Exception:  # one of NumPy's
        return {"outputs": values}


def difference(there: Mapping[str, np.ndarray], here: Mapping[str, np.ndarray]) -> str:
    """How two trials differ, as the end of a sentence; "" where they are of one function, but for rounding."""
    if there.keys() != here.keys():
        return "one of the two has no gradient"
    epsilon = max(float(side.get(EPSILON, 0.0)) for side in (there, here))
    tolerance = max(TOLERANCE, epsilon**0.5)
    for name in sorted(there.keys() - {EPSILON}, reverse=True):  # outputs first
        old, new = np.asarray(there[name]), np.asarray(here[name])
        if old.shape != new.shape:
            return f"{name} of another shape"
        if not np.array_equal(np.isfinite(old), np.isfinite(new)):
            return f"{name} are finite elsewhere"
        finite = np.isfinite(old)
        size = float(np.max(np.abs(old[finite]), initial=0.0))
        apart = float(np.max(np.abs(old[finite] - new[finite]), initial=0.0))
        if apart > tolerance * size:
            return f"{name} differ by {apart:.3g} of {size:.3g}"
    return ""


@compiled
def _outputs(f: Function, params: Params, x: Any) -> Array:
    return _some(f(params, x))


@compiled
def _outputs_and_slopes(f: Function, params: Params, x: Any) -> tuple[Array, Array]:
    chosen, whole = split_params(params)
    outputs, pull = jax.vjp(lambda chosen: f(whole(chosen), x), chosen)
    (slopes,) = pull(_pattern(outputs))
    wide = [jnp.asarray(slope, jnp.promote_types(slope.dtype, jnp.float32)) for slope in slopes]
    return _some(outputs), jnp.stack([jnp.stack([jnp.linalg.norm(s), jnp.sum(s * _pattern(s))]) for s in wide])


def _some(outputs: Array) -> Array:
    """Entries of outputs, in a type that files hold."""
    flat = outputs.reshape(-1)
    flat = flat[np.linspace(0, flat.size - 1, min(ENTRIES, flat.size)).astype(int)]
    return flat.astype(jnp.promote_types(flat.dtype, jnp.float32))


def _pattern(like: Array) -> Array:
    """Numbers of size one, none of them zero, in the shape and type of an array."""
    return jnp.cos(1.7 * jnp.arange(like.size) + 0.3).reshape(like.shape).astype(like.dtype)
