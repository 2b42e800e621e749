"""Any value of this package as files: arrays in one .npz, their structure in a .json beside it, never pickle.

A value is an array, a number, a string, None, or a module, dict, list or tuple of values. What cannot be stored as
data (the kernel that a spectrum came from) is left out, and is None in what is loaded.

>>> import tempfile, pathlib, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> nb.save(folder / "spectrum", nb.eigh(jnp.eye(3)))
>>> nb.load(folder / "spectrum").eigenvalues.shape
(3,)
"""

import contextlib
import dataclasses
import importlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.errors import InputError, InputTypeError

__all__ = ["load", "save", "write"]

PACKAGE = __name__.partition(".")[0]
FORMAT = 1


def save(path: str | Path, value: Any) -> None:
    """Write `value` to `path`.npz and `path`.json; each file appears whole or not at all.

    Raises `InputError` if a file cannot be written, and `InputTypeError`, before writing, on a value that is not data.
    """
    path = _checked_path(path)
    arrays: dict[str, np.ndarray] = {}
    structure = _describe(value, "value", arrays)
    write(path.with_name(path.name + ".npz"), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    text = json.dumps({"format": FORMAT, "value": structure}, indent=1)
    write(path.with_name(path.name + ".json"), lambda file: file.write(text.encode()))


def load(path: str | Path) -> Any:
    """The value that `save(path, value)` wrote; arrays of types that JAX is not set to come as NumPy's.

    Raises `InputError` if the files are missing, damaged, or do not belong together.
    """
    path = _checked_path(path)
    try:
        description = json.loads(path.with_name(path.name + ".json").read_text())
        with np.load(path.with_name(path.name + ".npz"), allow_pickle=False) as file:
            arrays = dict(file)
        if description["format"] != FORMAT:
            raise ValueError(f"it has format {description['format']}, and this version reads {FORMAT}")
        return _build(description["value"], arrays)
    except FileNotFoundError as error:
        raise InputError(f"Expected {path}.json and {path}.npz; {error.filename} is missing.") from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"Expected {path} to be a value saved by ntkbias; it cannot be read: {reason}.") from error


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through `fill(file)`, whole or not at all; raise an `InputError` if it cannot be written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            fill(file)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(
            f"Expected to write {path}; got: {error.strerror or error}. Choose a folder that can be written."
        ) from error


def _checked_path(path: str | Path) -> Path:
    if not isinstance(path, str | Path) or not Path(path).name or Path(path).name == "..":
        got = repr(path) if isinstance(path, str | Path) else type(path).__name__
        raise InputError(f"Expected the path of a file, without its suffix; got {got}. Paths come first.")
    return Path(path)


def _describe(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The JSON form of a value; its arrays go to `arrays` under their path."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": repr(float(value))}  # NaN and infinity are no JSON
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key) or np.dtype(value.dtype).kind not in "biufc":
            raise InputTypeError(
                f"Expected arrays of numbers to save; got {value.dtype} at {name}. "
                "Convert it first: bfloat16 to float32, a key by jax.random.key_data."
            )
        key = f"{len(arrays)}.{name}"
        arrays[key] = np.asarray(value)
        return {"array": key}
    if isinstance(value, eqx.Module) and type(value).__module__.partition(".")[0] == PACKAGE:
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("saved", True)]
        return {
            "type": f"{type(value).__module__}:{type(value).__qualname__}",
            "fields": {f.name: _describe(getattr(value, f.name), f"{name}.{f.name}", arrays) for f in fields},
        }
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _describe(item, f"{name}.{key}", arrays) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_describe(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]}
    raise InputTypeError(
        f"Expected arrays, numbers, strings and values of ntkbias to save; got {type(value).__name__} at {name}."
    )


def _build(structure: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(structure, dict):
        return structure
    if not structure:
        raise ValueError("an empty description")
    kind, content = next(iter(structure.items()))
    if kind == "float":
        return float(content)
    if kind == "array":
        array = jnp.asarray(arrays[content])
        return array if array.dtype == arrays[content].dtype else arrays[content]  # never lose digits
    if kind == "dict":
        return {key: _build(item, arrays) for key, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_build(item, arrays) for item in content]
        return items if kind == "list" else tuple(items)
    module, _, name = content.partition(":")
    if module.partition(".")[0] != PACKAGE:
        raise ValueError(f"a type of another package, {content}")
    cls = getattr(importlib.import_module(module), name)
    if not (isinstance(cls, type) and issubclass(cls, eqx.Module)):
        raise ValueError(f"{content} is not a type of value")
    return cls(**{field: _build(item, arrays) for field, item in structure["fields"].items()})
