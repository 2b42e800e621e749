"""Any value of this package as files: arrays in one .npz, their structure in a .json beside it, never pickle.

A value is an array, a number, a string, None, or a module, dict, list or tuple of values. What cannot be stored as
data (the kernel that a spectrum came from) is left out, and is None in what is loaded. Of a module the file holds the
name under which `ntkbias` or one of its namespaces exports its type, "Spectrum" or "layers.Dense", so that a file stays
readable when code moves.

>>> import tempfile, pathlib, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> nb.save(folder / "spectrum", nb.eigh(jnp.eye(3)))
>>> nb.load(folder / "spectrum").eigenvalues.shape
(3,)
"""

import dataclasses
import importlib
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import unreadable, write

__all__ = ["load", "public_types", "save"]

PACKAGE = __name__.partition(".")[0]
FORMAT = 2  # format 1 named the module of each type


def save(path: str | Path, value: Any) -> None:
    """Write `value` to `path`.npz and `path`.json; each file appears whole or not at all.

    Raises `InputError` if a file cannot be written, and `InputTypeError`, before writing, on a value that is not data.
    """
    path = _checked_path(path)
    arrays: dict[str, np.ndarray] = {}
    names = {cls: name for name, cls in reversed(public_types().items())}
    structure = _describe(value, "value", arrays, names)
    write(path.with_name(path.name + ".npz"), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    text = json.dumps({"format": FORMAT, "value": structure}, indent=1)
    write(path.with_name(path.name + ".json"), lambda file: file.write(text.encode()))


def load(path: str | Path) -> Any:
    """The value that `save(path, value)` wrote; arrays of types that JAX is not set to come as NumPy's.

    Raises `InputError` if the files are missing, damaged, do not belong together, or come from another version that
    wrote another format.
    """
    path = _checked_path(path)
    try:
        description = json.loads(path.with_name(path.name + ".json").read_text())
        with np.load(path.with_name(path.name + ".npz"), allow_pickle=False) as file:
            arrays = dict(file)
        there = description["format"]
        value = _build(description["value"], arrays, public_types()) if there == FORMAT else None
    except FileNotFoundError as error:
        advice = " Give the path without its suffix." if path.suffix in (".npz", ".json") else ""
        raise InputError(f"Expected {path}.json and {path}.npz; {error.filename} is missing.{advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = unreadable(path.with_name(path.name + ".npz"), error)
        raise InputError(f"Expected {path} to be a value saved by ntkbias; it cannot be read: {reason}.") from error
    if there != FORMAT:
        earlier = isinstance(there, int) and there < FORMAT
        which, advice = ("an earlier", "Compute the value and save it again.") if earlier else ("another", "Update it.")
        raise InputError(
            f"Expected {path} in format {FORMAT}; got format {there}, saved by {which} version of ntkbias. {advice}"
        )
    return value


def public_types() -> dict[str, type[eqx.Module]]:
    """The types of modules by their public names: first those of `ntkbias`, then those of its namespaces.

    A type that both export has two names. The first is the one that files hold; either can be read.
    """
    package = importlib.import_module(PACKAGE)
    found, namespaces = {}, [("", package)]
    for prefix, namespace in namespaces:
        for name in namespace.__all__:
            thing = getattr(namespace, name)
            if isinstance(thing, ModuleType) and namespace is package:
                namespaces.append((f"{name}.", thing))
            elif isinstance(thing, type) and issubclass(thing, eqx.Module):
                found[prefix + name] = thing
    return found


def _checked_path(path: str | Path) -> Path:
    if not isinstance(path, str | Path) or not Path(path).name or Path(path).name == "..":
        got = repr(path) if isinstance(path, str | Path) else type(path).__name__
        raise InputError(f"Expected the path of a file, without its suffix; got {got}. Paths come first.")
    return Path(path)


def _describe(value: Any, name: str, arrays: dict[str, np.ndarray], types: dict[type[eqx.Module], str]) -> Any:
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
    if isinstance(value, eqx.Module) and type(value) in types:
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("saved", True)]
        return {
            "type": types[type(value)],
            "fields": {f.name: _describe(getattr(value, f.name), f"{name}.{f.name}", arrays, types) for f in fields},
        }
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _describe(item, f"{name}.{key}", arrays, types) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_describe(item, f"{name}.{index}", arrays, types) for index, item in enumerate(value)]}
    raise InputTypeError(
        f"Expected arrays, numbers, strings and values of ntkbias to save; got {type(value).__name__} at {name}."
    )


def _build(structure: Any, arrays: dict[str, np.ndarray], types: dict[str, type[eqx.Module]]) -> Any:
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
        return {key: _build(item, arrays, types) for key, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_build(item, arrays, types) for item in content]
        return items if kind == "list" else tuple(items)
    if content not in types:
        raise ValueError(f"ntkbias has no type {content}")
    return types[content](**{field: _build(item, arrays, types) for field, item in structure["fields"].items()})
