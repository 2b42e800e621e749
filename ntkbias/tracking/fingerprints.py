"""Fingerprints of arrays and functions, by which a checkpoint recognizes its run. They are equal in all processes.

The fingerprint of an array covers its bytes. That of a function covers its code, and the numbers and arrays that it
closes over, directly or through other functions: `optax.adam(0.1)` holds its rate that way. `trials` compares the
values that functions return.

>>> import optax
>>> from ntkbias.tracking.fingerprints import closure
>>> one, same, other = (closure(optax.adam(rate)) for rate in (0.1, 0.1, 0.2))
>>> one == same, one["code"] == other["code"], one["values"] == other["values"]
(True, True, False)
"""

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import CellType, CodeType, ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["closure", "code_digest", "digest", "host_array", "versions"]

MAX_DEPTH = 30  # of functions within functions
INSTALLED = "site-packages", "dist-packages", str(Path(__file__).parents[1])  # installed packages, and this one
LIBRARIES = ("jax", "jaxlib", "numpy")  # functions of these count by their names


def digest(*trees: Any) -> str:
    """A fingerprint of the values, shapes and types of all arrays in pytrees."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        array = host_array(leaf)
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def code_digest(function: Any) -> str:
    """A fingerprint of a function's code, constants and defaults, and of the plain values that it closes over.

    It does not cover the functions that it calls, nor the contents of objects. For a callable object it covers the type
    and the arrays. Different versions of Python may compile the same source to different code.
    """
    bound: list[Any] = []
    while isinstance(function, partial) or hasattr(function, "__wrapped__") or hasattr(function, "__func__"):
        if isinstance(function, partial):
            bound += [function.args, sorted(function.keywords.items())]
            function = function.func
        else:
            function = function.__wrapped__ if hasattr(function, "__wrapped__") else function.__func__
    code = getattr(function, "__code__", None)
    if code is None:
        parts = type(function).__qualname__, digest(eqx.filter(function, eqx.is_array))
    else:
        cells = [_contents(cell) for cell in function.__closure__ or ()]
        defaults = function.__defaults__, sorted((function.__kwdefaults__ or {}).items())
        parts = _text(code, function.__doc__), _text((defaults, cells))
    return hashlib.sha256("\n".join([*parts, _text(bound)]).encode()).hexdigest()[:16]


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return None


def _text(value: Any, doc: str | None = None) -> str:
    """Code without its docstring `doc`, or a plain value, as a text that is the same in all processes."""
    if isinstance(value, CodeType):
        constants = [_text(each) for each in value.co_consts if each is not doc]
        return f"{value.co_code.hex()} {value.co_names} {constants}"
    if isinstance(value, list | tuple):
        return str([_text(each) for each in value])
    if isinstance(value, frozenset):
        return str(sorted(_text(each) for each in value))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return digest(value)
    return repr(value) if _is_plain(value) else getattr(value, "__qualname__", type(value).__qualname__)


def _is_plain(value: Any) -> bool:
    return value is None or value is ... or isinstance(value, str | int | float | complex | bytes)


def closure(value: Any) -> dict[str, str]:
    """Fingerprints of a function, or of a value made of functions: its "code", and the "values" that it closes over.

    It follows cells, defaults, partials, bound objects and fields. A third fingerprint, "mutable", covers the numbers
    and texts in containers that may change during use: lists, dictionaries, objects and global names. Global names are
    followed in functions of users, but not in those of installed packages.
    """
    found: dict[str, list[str]] = {"code": [], "values": [], "mutable": []}
    _gather(value, found, {}, False, 0)
    return {name: hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16] for name, parts in found.items()}


def _names(code: CodeType) -> list[str]:
    """The names that code reads, in their order, including those of nested functions."""
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _names(each)]
    return [*code.co_names, *inner]


def _gather(value: Any, found: dict[str, list[str]], seen: dict[int, Any], changes: bool, depth: int) -> None:
    """Add the parts of a value to `found`. `changes` says that its container may change during use."""

    def follow(*parts: Any, changes: bool = changes) -> None:
        for part in parts:
            _gather(part, found, seen, changes, depth + 1)

    if isinstance(value, np.ndarray | np.generic | jax.Array):
        try:
            found["values"].append(digest(value))
        except Exception:  # a traced or deleted array has no values
            found["code"].append("array")
        return
    if _is_plain(value):
        found["mutable" if changes else "values"].append(repr(value))
        return
    if id(value) in seen or depth > MAX_DEPTH or isinstance(value, ModuleType):
        return
    seen[id(value)] = value
    if isinstance(value, partial):
        follow(value.func, value.args, *(part for _, part in sorted(value.keywords.items())))
    elif hasattr(value, "__func__") and hasattr(value, "__self__"):
        follow(value.__func__, value.__self__)
    elif (getattr(value, "__module__", None) or "").partition(".")[0] in LIBRARIES and callable(value):
        wrapped = getattr(value, "__wrapped__", None)
        found["code"].append(getattr(value, "__qualname__", type(value).__qualname__))
        if (getattr(wrapped, "__module__", None) or "").partition(".")[0] not in LIBRARIES:
            follow(wrapped)
    elif hasattr(value, "__wrapped__"):
        follow(value.__wrapped__)
    elif isinstance(getattr(value, "__code__", None), CodeType):
        found["code"].append(_text(value.__code__, value.__doc__))
        follow(value.__defaults__, *(part for _, part in sorted((value.__kwdefaults__ or {}).items())))
        follow(*(_contents(cell) for cell in value.__closure__ or ()))
        if not any(folder in value.__code__.co_filename for folder in INSTALLED):
            follow(*(value.__globals__.get(name) for name in _names(value.__code__)), changes=True)
    elif isinstance(value, tuple):
        follow(*value)
    elif isinstance(value, list):
        follow(*value, changes=True)
    elif isinstance(value, Mapping):
        follow(*(value[key] for key in sorted(value, key=str)), changes=True)
    elif isinstance(value, type):
        found["code"].append(value.__qualname__)
    else:
        found["code"].append(type(value).__qualname__)
        if dataclasses.is_dataclass(value):
            follow(*(getattr(value, field.name, None) for field in dataclasses.fields(value)))
        elif (leaves := jax.tree.leaves(value)) and leaves[0] is not value:
            follow(*leaves)
        else:
            follow(*(part for _, part in sorted(getattr(value, "__dict__", {}).items())), changes=True)


def host_array(leaf: Any) -> np.ndarray:
    """A leaf of a pytree as a NumPy array of a type that .npy files hold. Keys of jax.random give their data."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    host = np.asarray(leaf)
    return host.astype(np.float32) if host.dtype == jnp.bfloat16 else host


def versions() -> dict[str, str]:
    """The versions on which rounding and compiled code depend: of jax, optax, Python and the device."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "optax")}
    return packages | {"python": platform.python_version(), "device": jax.local_devices()[0].device_kind}
