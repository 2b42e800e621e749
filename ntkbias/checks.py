"""Checks of arguments at the public boundary: each returns its argument or None, or raises an `InputError`.

>>> from ntkbias.checks import require_finite
>>> from ntkbias.errors import InputError
>>> import jax.numpy as jnp
>>> try:
...     require_finite(jnp.array([1.0, jnp.nan]), "x")
... except InputError as error:
...     print(error)
Expected finite numbers in x; got 1 NaN or infinite of 2. Remove or impute those entries first.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias.errors import InputError, InputTypeError

__all__ = [
    "are_finite",
    "are_known",
    "in_native_order",
    "is_known",
    "key_or_default",
    "require_array",
    "require_choice",
    "require_finite",
    "require_host",
    "require_key",
    "require_known",
    "require_name",
    "require_positive",
    "require_scale",
    "require_seed",
    "require_weights",
    "require_whole_numbers",
    "require_wide",
    "widened",
]

WIDEST = {"f": 8, "c": 16}  # bytes of the widest float and complex types of JAX
MOST_NAMES = 10  # that a message lists


def require_choice(name: str, value: object, choices: Any) -> None:
    """Raise an `InputError` unless `value` is one of the names in `choices`: a `Literal`, or strings."""
    known = list(get_args(choices) or choices)
    if value not in known:
        raise InputError(f"Expected {name} to be one of {', '.join(known)}; got {value!r}.")


def require_name(name: object, names: Iterable[str], what: str) -> None:
    """Raise an `InputError` unless `name` is one of `names`. The error suggests the names that are most similar.

    `what` says what the names stand for.
    """
    known = list(names)
    if isinstance(name, str) and name in known:
        return
    alike = {each.lower(): each for each in reversed(known)}
    near = [repr(alike[each]) for each in difflib.get_close_matches(str(name).lower(), alike, 3)]
    perhaps = f" Perhaps you meant {' or '.join(near)}." if near else ""
    more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    there = ", ".join(map(repr, known[:MOST_NAMES])) or "none"
    raise InputError(f"Expected the name of {what}; got {name!r}.{perhaps} There are {there}{more}.")


def require_positive(name: str, value: object) -> None:
    """Raise an `InputError` unless `value` is a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"Expected {name} to be a whole number; got {value!r}.")
    if value < 1:
        raise InputError(f"Expected {name} to be at least 1; got {value}.")


def require_whole_numbers(values: object, expected: str, least: int) -> np.ndarray:
    """Return whole numbers `(k,)` of at least `least` as a NumPy int64 array, or raise an `InputError`.

    JAX would wrap numbers that exceed int32. `expected` begins the message, e.g. "Expected steps (t,) of zero or more".
    """
    host = np.asarray(values) if isinstance(values, jax.Array) else _host(values, "the numbers")
    if host.ndim != 1 or not host.size:
        raise InputError(f"{expected}; got shape {host.shape}.")
    fit = (host >= least) & (host <= 2**53) & (np.round(host) == host)  # above 2^53 every float is a whole number
    if not fit.all():
        raise InputError(f"{expected}; got {host[~fit][0]}.")
    return host.astype(np.int64)


def require_array(value: object, name: str) -> Array:
    """Return `value` as a JAX array, or raise an `InputTypeError` if it holds anything but real numbers.

    It also refuses masked arrays, whose masks JAX would drop, and whole numbers that overflow JAX's integer type.
    Raises `InputError` if jax_numpy_rank_promotion is "raise": this package relies on rank promotion.
    """
    if jax.config.jax_numpy_rank_promotion == "raise":  # type: ignore[attr-defined]
        raise InputError(
            "Expected jax_numpy_rank_promotion to be 'allow', which ntkbias relies on; got 'raise'. Call ntkbias "
            "within `with jax.numpy_rank_promotion('allow'):`."
        )
    if isinstance(value, jax.Array):
        _require_not_donated(value, name)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise InputTypeError(
                f"Expected {name} to be an array of numbers; got keys of jax.random. Pass jax.random.key_data(keys), "
                "and call jax.random.wrap_key_data inside f."
            )
        array = value
    else:
        array = jnp.asarray(_that_fits(_host(value, name), name))
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise InputTypeError(
            f"Expected {name} to be an array of real numbers; got {array.dtype}. Stack its real and imaginary parts."
        )
    return array


def _host(value: object, name: str) -> np.ndarray:
    """Return the value as a NumPy array of numbers, of a type that JAX can take."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(
            f"Expected {name} to be an array of numbers; got a masked array. Fill it with .filled(0), or pass its mask "
            "as a separate array."
        )
    try:
        host = np.asarray(value)
    except Exception as error:  # ragged lists; arrays of other libraries may raise anything
        host, reason = np.empty(0, object), str(error).strip().splitlines()[0] if str(error).strip() else ""
    else:
        reason = ""
    if host.dtype.kind in "OSUMm":
        got = type(value).__name__ if host.dtype.kind == "O" else f"type {host.dtype}"
        raise InputTypeError(f"Expected {name} to be an array of numbers; got {got}. {_advice(value, reason)}")
    return in_native_order(host)


def _that_fits(host: np.ndarray, name: str) -> np.ndarray:
    """Return the array, or raise an `InputTypeError` if its whole numbers overflow JAX's integer type."""
    if host.dtype.kind in "iu" and host.dtype.itemsize > 4 and host.size:
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(host.dtype))
        if int(host.min()) < limits.min or int(host.max()) > limits.max:
            raise InputTypeError(
                f"Expected whole numbers in {name} that fit {limits.dtype}; got {host.min()} to {host.max()}. Set "
                "jax_enable_x64, or renumber them from zero."
            )
    return host


def in_native_order(array: np.ndarray) -> np.ndarray:
    """Return the array, or a copy in native byte order and in float64 or complex128 if it is wider than these.

    Numbers that overflow float64 become infinite.
    """
    if array.dtype.kind in "fc" and array.dtype.itemsize > WIDEST[array.dtype.kind]:
        with np.errstate(over="ignore"):
            return array.astype(np.float64 if array.dtype.kind == "f" else np.complex128)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _advice(value: object, reason: str) -> str:
    """Advice on how to convert the value to an array."""
    if hasattr(value, "todense"):
        return "Make it dense with .todense() or .toarray()."
    if "Tensor" in type(value).__name__:
        return "Convert it with .detach().cpu().numpy()."
    if isinstance(value, list) and any(hasattr(part, "shape") for part in value):
        return (
            "A list is read as one array: pad its parts to one shape, and pass a mask with them in a dictionary; or "
            "pass several arrays of inputs as a tuple."
        )
    if isinstance(value, Mapping | tuple):
        return "Only kernels of functions f(params, x) take several arrays; pass one array here."
    if isinstance(value, list) and "inhomogeneous" in reason:
        return "Its parts have different lengths: pad them to one, and pass a mask with them in a dictionary."
    if callable(value):
        return "Give its values, f(x)."
    return "Give numbers." if value is None or dataclasses.is_dataclass(value) else "Convert it with numpy.asarray."


def require_wide(value: object, name: str) -> Array:
    """`require_array`, with floating-point numbers in float32 or wider, which NumPy and SciPy can compute with."""
    return widened(require_array(value, name))


def require_host(value: object, name: str) -> np.ndarray:
    """Like `require_wide`, but return a NumPy array in the precision of `value`.

    By default JAX rounds float64 to float32. A target minus its mean would then lose digits.
    """
    array = require_wide(value, name)
    if isinstance(value, jax.Array):
        return np.asarray(array)
    host = in_native_order(np.asarray(value))
    return host if host.dtype.kind == "f" and host.dtype.itemsize > array.dtype.itemsize else np.asarray(array)


def widened(array: Array) -> Array:
    """Convert bfloat16 and float16 to float32, which holds them exactly. Other types are returned unchanged."""
    narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
    return array.astype(jnp.float32) if narrow else array


def require_finite(array: Array | np.ndarray, name: str) -> None:
    """Raise an `InputError` if a concrete array has a NaN or an infinity. A traced array passes."""
    if not jnp.issubdtype(array.dtype, jnp.floating) or are_finite([array]):
        return
    num_bad = int(np.sum(~np.isfinite(np.asarray(array))))
    if num_bad:
        raise InputError(
            f"Expected finite numbers in {name}; got {num_bad} NaN or infinite of {array.size}. "
            "Remove or impute those entries first."
        )


def are_finite(arrays: Sequence[Array | np.ndarray]) -> bool:
    """Whether all floating-point arrays that have concrete values are finite.

    On an accelerator, one program checks all of them there: copying them to the host takes longer than most kernels.
    """
    known = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating) and is_known(array)]
    if jax.default_backend() == "cpu":
        return all(_is_finite(np.asarray(array)) for array in known if array.size)
    return bool(_are_finite(known))


def _is_finite(array: np.ndarray) -> bool:
    """Whether minimum and maximum are finite; they are NaN if any entry is. This needs no temporary array."""
    return bool(np.isfinite(np.min(array)) and np.isfinite(np.max(array)))


def require_known(values: Any, name: str, why: str = "it computes in float64 on the host") -> None:
    """Raise an `InputError` if an array in the pytree is traced. `why` is the reason that the function `name` has."""
    if not are_known(values):
        raise InputError(
            f"Expected arrays with values in {name}; got traced ones, as under jit, vmap or grad. Call it outside of "
            f"these: {why}."
        )


def are_known(values: Any) -> bool:
    """Whether all arrays in the pytree are concrete. Inside jit, vmap and grad they are traced, without values."""
    return all(is_known(leaf) for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.Array))


def is_known(array: Array | np.ndarray) -> bool:
    """Whether the array is concrete. Inside jit, vmap and grad it is traced, without values."""
    if isinstance(array, np.ndarray):  # from a file, or in a type that JAX is not set to
        return True
    try:
        array.devices()
    except jax.errors.ConcretizationTypeError:
        return False
    except RuntimeError:
        _require_not_donated(array, "an array of parameters or inputs")
        raise
    return True


def _require_not_donated(array: Array, name: str) -> None:
    """Raise an `InputTypeError` if an array was donated, as by a training step that donates its arguments."""
    try:
        deleted = array.is_deleted()
    except jax.errors.ConcretizationTypeError:  # traced
        return
    if deleted:
        raise InputTypeError(
            f"Expected {name} to have its values; got an array that was donated to a compiled function. Copy it with "
            "jax.numpy.copy before the call that donates it."
        )


@jax.jit
def _are_finite(arrays: list[Array]) -> Array:
    return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(array)) for array in arrays)]))


def require_key(key: Any) -> Array:
    """Return a single typed key of jax.random. Raw uint32 keys are wrapped.

    Raises `InputTypeError` on anything else, such as a seed, and `InputError` on an array of several keys.
    """
    try:
        key = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    except (TypeError, ValueError, AttributeError):
        is_seed = isinstance(key, int | np.integer) and not isinstance(key, bool) and key >= 0
        example = f"jax.random.key({key if is_seed else 0})"
        raise InputTypeError(f"Expected a key of jax.random, as {example}; got {type(key).__name__}.") from None
    if key.ndim:
        raise InputError(f"Expected one key of jax.random; got {key.shape[0]}. Pass one of them, such as keys[0].")
    return key


def key_or_default(key: Any) -> Array:
    """Return the checked key, or a fixed key for None. The default is for results that state their own random error."""
    return jax.random.key(0) if key is None else require_key(key)


def require_scale(name: str, value: object) -> None:
    """Raise an `InputError` unless `value` is one finite number of zero or more. A traced number passes."""
    array = require_array(value, name)
    if array.ndim:
        raise InputError(f"Expected {name} to be one number; got shape {array.shape}.")
    require_finite(array, name)
    if are_known(array) and np.asarray(array) < 0:
        raise InputError(f"Expected {name} to be zero or more; got {value!r}.")


def require_seed(name: str, value: object) -> None:
    """Raise an `InputError` unless `value` is a whole number below 2^32: JAX would silently replace a larger seed."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"Expected {name} to be a whole number; got {value!r}.")
    if not 0 <= value < 2**32:
        raise InputError(f"Expected {name} to be zero or more, and below 2^32; got {value}.")


def require_weights(values: Any, n: int) -> Array:
    """Return the weights `(n,)` of n examples, or raise an `InputError` unless they are positive and sum to one."""
    weights = require_wide(values, "weights")
    if weights.shape != (n,):
        raise InputError(f"Expected one weight for each of {n} inputs; got shape {weights.shape}.")
    require_finite(weights, "weights")
    if not are_known(weights):
        return weights
    host = np.asarray(weights)
    total = float(host.sum())
    if not (host > 0).all():
        raise InputError("Expected positive weights; got some that are zero or negative. Leave those inputs out.")
    given = getattr(values, "dtype", np.dtype(float))
    rounding = max(1e-4, float(jnp.finfo(given).eps)) if jnp.issubdtype(given, jnp.floating) else 1e-4
    if abs(total - 1) > rounding:  # far above the rounding of a float32 sum, far below any other normalization
        raise InputError(f"Expected weights that sum to one; got {total:.6g}. Divide them by their sum.")
    return weights
