"""Fingerprints of arrays and functions, the same in each process: how a run on disk knows that it is the same run.

Numbers are compared by their bytes. Of a function there is its code, and there are the numbers and arrays that it
closes over, also by way of other functions: `optax.adam(0.1)` holds its rate that way. `trials` compares what functions
do.

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

__all__ = ["closure", "code_digest", "digest", "plain", "versions"]

DEEPEST = 30  # functions in functions
INSTALLED = "site-packages", "dist-packages", str(Path(__file__).parents[1])  # folders of packages, and this one
LIBRARIES = ("jax", "jaxlib", "numpy")  # whose functions go by their names


def digest(*trees: Any) -> str:
    """A fingerprint of all numbers in pytrees of arrays, their shapes and types."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        array = plain(leaf)
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def code_digest(function: Any) -> str:
    """A fingerprint of what a function does: its code, its constants, defaults, and the plain values it closes over.

    Not of the functions that it calls, nor of objects and their contents; of a value that can be called, its type and
    its arrays. Another version of Python may compile to other code.
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
        parts = _told(code, function.__doc__), _told((defaults, cells))
    return hashlib.sha256("\n".join([*parts, _told(bound)]).encode()).hexdigest()[:16]


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return None


def _told(value: Any, doc: str | None = None) -> str:
    """Code, without its docstring, or a plain value, as a text that is the same in each process."""
    if isinstance(value, CodeType):
        constants = [_told(each) for each in value.co_consts if each is not doc]
        return f"{value.co_code.hex()} {value.co_names} {constants}"
    if isinstance(value, list | tuple):
        return str([_told(each) for each in value])
    if isinstance(value, frozenset):
        return str(sorted(_told(each) for each in value))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return digest(value)
    return repr(value) if _is_plain(value) else getattr(value, "__qualname__", type(value).__qualname__)


def _is_plain(value: Any) -> bool:
    return value is None or value is ... or isinstance(value, str | int | float | complex | bytes)


def closure(value: Any) -> dict[str, str]:
    """Fingerprints of a function, or of a value made of functions: its code, and the values that it closes over.

    Follows cells, defaults, partials, bound values and fields. Numbers in what may change while it is used are a
    fingerprint of their own, "mutable": those in lists, dictionaries, objects and global names. Global names are
    followed in functions of users, and not in those of installed packages.
    """
    found: dict[str, list[str]] = {"code": [], "values": [], "mutable": []}
    _gather(value, found, {}, False, 0)
    return {name: hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16] for name, parts in found.items()}


def _names(code: CodeType) -> list[str]:
    """The names that code reads, also within functions in it, in their order."""
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _names(each)]
    return [*code.co_names, *inner]


def _gather(value: Any, found: dict[str, list[str]], seen: dict[int, Any], changes: bool, depth: int) -> None:
    """Add what a value is made of; `changes` says that it lies in something that may change while it is used."""

    def go_on(*parts: Any, changes: bool = changes) -> None:
        for part in parts:
            _gather(part, found, seen, changes, depth + 1)

    if isinstance(value, np.ndarray | np.generic | jax.Array):
        try:
            found["values"].append(digest(value))
        except Exception:  # an array that is being traced, or was deleted
            found["code"].append("array")
        return
    if _is_plain(value):
        found["mutable" if changes else "values"].append(repr(value))
        return
    if id(value) in seen or depth > DEEPEST or isinstance(value, ModuleType):
        return
    seen[id(value)] = value
    if isinstance(value, partial):
        go_on(value.func, value.args, *(part for _, part in sorted(value.keywords.items())))
    elif hasattr(value, "__func__") and hasattr(value, "__self__"):
        go_on(value.__func__, value.__self__)
    elif (getattr(value, "__module__", None) or "").partition(".")[0] in LIBRARIES and callable(value):
        wrapped = getattr(value, "__wrapped__", None)
        found["code"].append(getattr(value, "__qualname__", type(value).__qualname__))
        if (getattr(wrapped, "__module__", None) or "").partition(".")[0] not in LIBRARIES:
            go_on(wrapped)
    elif hasattr(value, "__wrapped__"):
        go_on(value.__wrapped__)
    elif isinstance(getattr(value, "__code__", None), CodeType):
        found["code"].append(_told(value.__code__, value.__doc__))
        go_on(value.__defaults__, *(part for _, part in sorted((value.__kwdefaults__ or {}).items())))
        go_on(*(_contents(cell) for cell in value.__closure__ or ()))
        if not any(folder in value.__code__.co_filename for folder in INSTALLED):
            go_on(*(value.__globals__.get(name) for name in _names(value.__code__)), changes=True)
    elif isinstance(value, tuple):
        go_on(*value)
    elif isinstance(value, list):
        go_on(*value, changes=True)
    elif isinstance(value, Mapping):
        go_on(*(value[key] for key in sorted(value, key=str)), changes=True)
    elif isinstance(value, type):
        found["code"].append(value.__qualname__)
    else:
        found["code"].append(type(value).__qualname__)
        if dataclasses.is_dataclass(value):
            go_on(*(getattr(value, field.name, None) for field in dataclasses.fields(value)))
        elif (leaves := jax.tree.leaves(value)) and leaves[0] is not value:
            go_on(*leaves)
        else:
            go_on(*(part for _, part in sorted(getattr(value, "__dict__", {}).items())), changes=True)


def plain(leaf: Any) -> np.ndarray:
    """A leaf as numbers: keys of jax.random by their data."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    host = np.asarray(leaf)
    return host.astype(np.float32) if host.dtype == jnp.bfloat16 else host  # which NumPy's files do not hold


def versions() -> dict[str, str]:
    """Of what rounding depends on, and the form of functions."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "optax")}
    return packages | {"python": platform.python_version(), "device": jax.local_devices()[0].device_kind}
