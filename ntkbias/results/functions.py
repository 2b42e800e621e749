"""Users' functions in files: a file holds a name and a trial, never code. `load` repeats the trial.

A trial records the results of a function at a few inputs: outputs and two numbers per parameter from the gradient of
their weighted sum. The inputs are those of the saved value, or else vectors that the function accepts. Small or
positive inputs may not tell two functions apart (tanh and sin, relu and the identity). So the trial also has random
inputs of the same shape at scale one, and random inputs with changed parameters. For a function of one number a trial
records values and slopes.

>>> import jax.numpy as jnp
>>> from ntkbias.compilation import Function
>>> from ntkbias.results.functions import difference, trial_of
>>> params, x = {"w": jnp.ones((3, 2))}, jnp.eye(3)
>>> saved = trial_of(Function.of(lambda params, x: jnp.tanh(x @ params["w"])), params, x)
>>> difference(saved, trial_of(Function.of(lambda params, x: jnp.sin(x @ params["w"])), params, x))
"at the file's inputs entries of the outputs differ by 0.08, compared with 0.762"
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.compilation import Function, compiled
from ntkbias.function import split_params
from ntkbias.packing import Unpacking
from ntkbias.types import Params
from ntkbias.wrappers import Wrapper

__all__ = [
    "FunctionNeeded",
    "accepts",
    "candidate_inputs",
    "difference",
    "name_of",
    "sample_inputs",
    "summary",
    "trial_at_points",
    "trial_of",
]

ROWS = 3  # inputs of a trial
ENTRIES = 64  # output entries that a trial keeps, at equal distances
POINTS = np.linspace(-3.0, 3.0, 25, dtype=np.float32)  # inputs for a function of one number
# Half of the digits. Rounding on another device changes fewer digits, and another function changes more.
TOLERANCE = float(np.finfo(np.float32).eps) ** 0.5
SEED = 0
CHANGE = 0.5  # the largest relative change of a parameter
CHANGES = 4093  # random numbers that all entries of a parameter share
# Beginning of the entries of a part of a trial -> where the function was tried.
PARTS = {"": "at the file's inputs", "random ": "at random inputs", "changed ": "at changed parameters"}
EPSILON = "epsilon"  # entry of a trial with the precision of the outputs' type
MOST_SHOWN = 4  # parameters in a message
Trial = dict[str, np.ndarray]


class FunctionNeeded(Exception):
    """A value in a file needs a user's function that was not given."""


def name_of(f: Any) -> str:
    """The user's name for a function: its own name, that of the function inside it, or that of its type."""
    if isinstance(f, Function | Wrapper):
        return name_of(f.f)  # type: ignore[union-attr]
    inner = getattr(f, "func", None)  # of functools.partial
    own = getattr(f, "__name__", None) or (name_of(inner) if callable(inner) else type(f).__name__)
    return f"{type(f.__self__).__name__}.{own}" if hasattr(f, "__func__") else str(own)


def summary(params: Params) -> str:
    """The paths and shapes of the first parameters, as text."""
    found = jax.tree_util.tree_leaves_with_path(params)
    shown = ", ".join(f"{jax.tree_util.keystr(path)} {np.shape(leaf)}" for path, leaf in found[:MOST_SHOWN])
    return shown + (f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else "")


def sample_inputs(x: Any) -> Any:
    """At most `ROWS` of the inputs, at equal distances, from the last to the first."""
    length = len(jax.tree.leaves(x)[0])
    rows = np.linspace(length - 1, 0, min(ROWS, length)).astype(int)
    return jax.tree.map(lambda leaf: np.asarray(leaf[rows]), x)


def candidate_inputs(params: Params) -> Iterator[np.ndarray]:
    """Candidate inputs for a function: vectors as long as each axis of its parameters."""
    for size in sorted({size for leaf in jax.tree.leaves(params) for size in np.shape(leaf)}):
        yield np.cos(1.7 * np.arange(ROWS * size, dtype=np.float32) + 0.3).reshape(ROWS, size)


def accepts(f: Function, params: Params, x: Any) -> str:
    """The reason why a function refuses parameters and inputs, as the end of a sentence; "" if it accepts them."""
    try:
        found = jax.eval_shape(f, params, x)
    except Exception as error:  # a user's function may raise anything
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    shape, length = getattr(found, "shape", None), len(jax.tree.leaves(x)[0])
    return "" if shape is not None and shape[:1] == (length,) else f"outputs of shape {shape} for {length} inputs"


def trial_of(f: Function, params: Params, x: Any) -> Trial:
    """The results at inputs, at random ones, and at random ones with changed parameters.

    Results are some outputs, and two numbers per parameter from the gradient of their weighted sum, if there is a
    gradient. If the function raises an error at the random inputs, only those at `x` are known.
    """
    known = _results(f, params, x)
    try:
        other = _random_like(f, x)
        more = {"random ": _results(f, params, other), "changed ": _results(f, _changed(params), other)}
    except Exception:  # a user's function may raise anything
        more = {}
    known |= {part + name: value for part, found in more.items() for name, value in found.items()}
    epsilon = jnp.finfo(jax.eval_shape(f, params, x).dtype).eps
    return known | {EPSILON: np.asarray(epsilon, np.float32)}


def _results(f: Function, params: Params, x: Any) -> Trial:
    with jax.default_matmul_precision("highest"):
        try:
            outputs, slopes = _outputs_and_slopes(f, params, x)
            found = {"outputs": outputs, "gradient": slopes}
        except Exception:  # the function has no derivative
            found = {"outputs": _outputs(f, params, x)}
    return {name: np.asarray(value) for name, value in found.items()}


def _random_like(f: Function, x: Any) -> Any:
    """Random inputs like `x`: normal numbers, or for whole numbers those of `x`, mixed over the examples.

    Every second example is minus the one before it, so that a relu is on at one of them and off at the other.
    """
    draws = np.random.RandomState(SEED)  # NumPy promises that its numbers never change

    def draw(leaf: Any) -> Any:
        host = np.asarray(leaf)
        if jnp.issubdtype(host.dtype, jnp.complexfloating):
            return (draws.standard_normal(host.shape) + 1j * draws.standard_normal(host.shape)).astype(host.dtype)
        if jnp.issubdtype(host.dtype, jnp.floating):
            drawn = draws.standard_normal(host.shape).astype(host.dtype)
            drawn[1::2] = -drawn[: len(drawn) // 2 * 2 : 2]
            return drawn
        return np.take_along_axis(host, draws.randint(len(host), size=host.shape), 0)

    if isinstance(f.f, Unpacking):
        layout = f.f.layout
        return np.asarray(
            layout.pack(jax.tree.map(lambda leaf: jnp.asarray(draw(leaf)), layout.unpack(jnp.asarray(x))))
        )
    return jax.tree.map(draw, x)


def _changed(params: Params) -> Params:
    """The parameters with random changes of up to half of each. Zeros become small numbers."""
    chosen, rebuild = split_params(params)
    draws = np.random.RandomState(SEED).uniform(-CHANGE, CHANGE, CHANGES).astype(np.float32)
    changes = [jnp.asarray(np.resize(draws, leaf.shape), leaf.dtype) for leaf in chosen]
    return rebuild(
        [jnp.where(leaf == 0, change / 4, leaf * (1 + change)) for leaf, change in zip(chosen, changes, strict=True)]
    )


def trial_at_points(f: Function) -> Trial:
    """The values of a function of one number, and its slopes if it has any. Passes on the function's exceptions."""
    values = np.asarray(f(jnp.asarray(POINTS)))
    if values.shape != POINTS.shape:
        raise ValueError(f"outputs of shape {values.shape} for {POINTS.shape}")
    try:
        outputs, pull = jax.vjp(f, jnp.asarray(POINTS))
        return {"outputs": values, "gradient": np.asarray(pull(jnp.ones_like(outputs))[0])}
    except Exception:  # a NumPy function has no derivative
        return {"outputs": values}


def difference(saved: Mapping[str, np.ndarray], current: Mapping[str, np.ndarray]) -> str:
    """The difference of two trials, as the end of a sentence; "" if they agree up to rounding.

    Parts that were not saved, as by an earlier version, are not compared.
    """
    epsilon = max(float(side.get(EPSILON, 0.0)) for side in (saved, current))
    tolerance = max(TOLERANCE, epsilon**0.5)
    for part, place in PARTS.items():
        if f"{part}outputs" not in saved:
            continue
        before, now = (
            {name: np.asarray(side[part + name]) for name in ("outputs", "gradient") if part + name in side}
            for side in (saved, current)
        )
        if reason := _difference(before, now, tolerance):
            return f"{place} {reason}"
    return ""


def _difference(saved: Trial, current: Trial, tolerance: float) -> str:
    if not current:
        return "it raises an error"
    if saved.keys() != current.keys():
        return "only one of the two has a gradient"
    for name, old in saved.items():
        new = current[name]
        if old.shape != new.shape:
            return f"the shape of the {name} differs"
        if not np.array_equal(np.isfinite(old), np.isfinite(new)):
            return f"different entries of the {name} are finite"
        finite = np.isfinite(old)
        size = float(np.max(np.abs(old[finite]), initial=0.0))
        apart = float(np.max(np.abs(old[finite] - new[finite]), initial=0.0))
        if apart > tolerance * size:
            return f"entries of the {name} differ by {apart:.3g}, compared with {size:.3g}"
    return ""


@compiled
def _outputs(f: Function, params: Params, x: Any) -> Array:
    return _some(f(params, x))


@compiled
def _outputs_and_slopes(f: Function, params: Params, x: Any) -> tuple[Array, Array]:
    chosen, rebuild = split_params(params)
    outputs, pull = jax.vjp(lambda chosen: f(rebuild(chosen), x), chosen)
    (slopes,) = pull(_pattern(outputs))
    wide = [jnp.asarray(slope, jnp.promote_types(slope.dtype, jnp.float32)) for slope in slopes]
    return _some(outputs), jnp.stack([jnp.stack([jnp.linalg.norm(s), jnp.sum(s * _pattern(s))]) for s in wide])


def _some(outputs: Array) -> Array:
    """Some entries of the outputs, in a type that files can hold."""
    flat = outputs.reshape(-1)
    flat = flat[np.linspace(0, flat.size - 1, min(ENTRIES, flat.size)).astype(int)]
    return flat.astype(jnp.promote_types(flat.dtype, jnp.float32))


def _pattern(like: Array) -> Array:
    """Numbers in [-1, 1] without a zero, in the shape and type of an array."""
    return jnp.cos(1.7 * jnp.arange(like.size) + 0.3).reshape(like.shape).astype(like.dtype)
