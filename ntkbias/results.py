"""Any value of this package as files: arrays in one .npz, their structure in a .json beside it, never pickle.

A value is an array, a number, a string, None, or a module, dict, list or tuple of values. What cannot be stored as
data (the kernel that a spectrum came from) is left out, and is None in what is loaded. Of a module the file holds the
name under which `ntkbias` or one of its namespaces exports its type, "Spectrum" or "layers.Dense", so that a file stays
readable when code moves.

The .npz is whole: it holds the structure, too. The .json is that structure for readers, with the digest of its .npz, so
that files of two saves are never taken for one.

>>> import tempfile, pathlib, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> nb.save(folder / "spectrum", nb.eigen.eigh(jnp.eye(3)))
>>> nb.load(folder / "spectrum").eigenvalues.shape
(3,)
"""

import dataclasses
import hashlib
import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.checks import in_native_order
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import MOST_TEXT, Unreadable, in_turn, read_arrays, read_json, reason_of, write

__all__ = ["load", "public_name", "save", "type_of"]

PACKAGE = __name__.partition(".")[0]
FORMAT = 3  # format 1 named the module of each type; format 2 did not bind the two files together
STRUCTURE = "structure"  # the array of the .npz that holds the JSON
EXPECTED = "a value saved by ntkbias"
WIDEST = {"b": 1, "i": 8, "u": 8, "f": 8, "c": 16}  # bytes of the numbers of each kind that can be saved
ATTEMPTS = 3
DEEPEST = 100  # lists within lists: Python and its JSON recurse
LARGEST = 10**4000  # of whole numbers: Python refuses to read those of more than 4,300 digits


def save(path: str | Path, value: Any) -> None:
    """Write `value` to `path`.npz and `path`.json; each file appears whole or not at all.

    Where a process dies between the two files, `load` says so, and the new value can still be loaded. Raises
    `InputError` if a file cannot be written, and `InputTypeError`, before writing, on a value that is not data.
    """
    path = _checked_path(path)
    arrays: dict[str, np.ndarray] = {}
    structure = _describe(value, "value", arrays)
    content = json.dumps({"format": FORMAT, "value": structure}).encode()
    if 2 * len(content) > MOST_TEXT:
        raise InputTypeError(
            f"Expected a structure of at most {MOST_TEXT // 2:,} bytes beside its arrays; got {len(content):,}. Save "
            "long lists as arrays."
        )
    arrays[STRUCTURE] = np.frombuffer(content, np.uint8)
    digest = ""

    def fill(file: Any) -> None:
        nonlocal digest
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()

    with in_turn(path):  # two that save to one path at once leave the two files of one of them
        write(path.with_name(path.name + ".npz"), fill)
        text = json.dumps({"format": FORMAT, "npz": digest, "value": structure}, indent=1)
        write(path.with_name(path.name + ".json"), lambda file: file.write(text.encode()))


def load(path: str | Path) -> Any:
    """The value that `save(path, value)` wrote; arrays of types that JAX is not set to come as NumPy's.

    A value whose .json was deleted is loaded from its .npz alone.

    Raises `InputError` if files are missing, damaged, do not belong together, or come from another version that
    wrote another format.
    """
    path = _checked_path(path)
    for attempt in range(ATTEMPTS):
        try:
            return _loaded(path)
        except Unreadable as error:
            if error.replaced and attempt < ATTEMPTS - 1:
                time.sleep(0.1)  # somebody may be between the two files
                continue
            raise InputError(_sentence(path, error)) from error
        except InputError:
            raise
        except Exception as error:  # constructors of any type, with what a file says
            raise InputError(f"Expected {path} to be {EXPECTED}; it cannot be read: {reason_of(error)}.") from error


def _loaded(path: Path) -> Any:
    packed, described = (path.with_name(path.name + suffix) for suffix in (".npz", ".json"))
    beside = None
    if described.exists() or not packed.exists():
        beside = _of_this_format(path, read_json(described, EXPECTED))
    arrays = read_arrays(packed, EXPECTED, digest=None if beside is None else str(beside.get("npz")))
    if STRUCTURE not in arrays:
        raise Unreadable(packed, EXPECTED, f"it has no array {STRUCTURE!r}")
    within = _of_this_format(path, json.loads(arrays[STRUCTURE].tobytes()))
    if beside is not None and beside.get("value") != within["value"]:
        raise Unreadable(packed, EXPECTED, "the two differ", replaced=True)
    return _build(within["value"], arrays)


def _of_this_format(path: Path, description: Any) -> dict[str, Any]:
    """The description, or an `InputError` where another version wrote it."""
    if not isinstance(description, dict) or "format" not in description:
        raise InputError(f"Expected {path} to be {EXPECTED}; it cannot be read: its .json says no format.")
    there = description["format"]
    if there != FORMAT:
        earlier = isinstance(there, int) and there < FORMAT
        which, advice = ("an earlier", "Compute the value and save it again.") if earlier else ("another", "Update it.")
        raise InputError(
            f"Expected {path} in format {FORMAT}; got format {there}, saved by {which} version of ntkbias. {advice}"
        )
    return description


def _sentence(path: Path, error: Unreadable) -> str:
    """What is wrong with the files of a value."""
    if error.missing:
        advice = " Give the path without its suffix." if path.suffix in (".npz", ".json") else ""
        return f"Expected {path}.json and {path}.npz; {error.path} is missing.{advice}"
    if error.replaced:
        return (
            f"Expected {path}.npz and {path}.json of one save; got files of different ones, or one that was changed. "
            f"Save the value again, or delete {path}.json: then {path}.npz is loaded alone, if it is whole."
        )
    return f"Expected {path} to be {EXPECTED}; {error.path.name} cannot be read: {error.reason}."


def public_name(cls: type[eqx.Module]) -> str | None:
    """The name of a type in files: that in `ntkbias`, else that in one of its namespaces; None where it has none."""
    package = importlib.import_module(PACKAGE)
    own = [f"{PACKAGE}.{name}" for name in package.__all__]
    # A value of the type is there, so that the namespace of its type is loaded.
    for namespace in (package, *(sys.modules[name] for name in own if name in sys.modules)):
        if cls.__name__ in getattr(namespace, "__all__", ()) and getattr(namespace, cls.__name__) is cls:
            return f"{namespace.__name__}.{cls.__name__}".removeprefix(f"{PACKAGE}.")
    return None


def type_of(name: Any) -> type[eqx.Module] | None:
    """The type of this public name, also of a second one that it has; None where there is none."""
    package = importlib.import_module(PACKAGE)
    within, _, own = str(name).rpartition(".")
    if within and within not in package.__all__:
        return None
    namespace = getattr(package, within) if within else package
    if own not in getattr(namespace, "__all__", ()) or not isinstance(namespace, ModuleType):
        return None
    found = getattr(namespace, own)
    return found if isinstance(found, type) and issubclass(found, eqx.Module) else None


def _checked_path(path: str | Path) -> Path:
    folder = isinstance(path, str) and path.endswith(("/", os.sep))
    if folder or not isinstance(path, str | Path) or Path(path).name in ("", "..") or "\0" in str(path):
        got = repr(path) if isinstance(path, str | Path) else type(path).__name__
        raise InputError(f"Expected the path of a file, without its suffix; got {got}. Paths come first.")
    return Path(path)


def _describe(value: Any, name: str, arrays: dict[str, np.ndarray], depth: int = 0) -> Any:
    """The JSON form of a value; its arrays go to `arrays` under their path."""
    if depth > DEEPEST:
        raise InputTypeError(f"Expected values nested at most {DEEPEST} deep to save; got more at {name[:60]}...")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise InputTypeError(f"Expected whole numbers of at most 4,000 digits to save; got a larger one at {name}.")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": repr(float(value))}  # NaN and infinity are no JSON
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        key = f"{len(arrays)}.{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:100]}"  # what is no file name in an archive
        arrays[key] = _checked_array(value, name)
        return {"array": key}

    def within(item: Any, at: object) -> Any:
        return _describe(item, f"{name}.{at}", arrays, depth + 1)

    if isinstance(value, eqx.Module) and (public := public_name(type(value))) is not None:
        fields = [field for field in dataclasses.fields(value) if field.metadata.get("saved", True)]
        return {"type": public, "fields": {f.name: within(getattr(value, f.name), f.name) for f in fields}}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: within(item, key) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [within(item, index) for index, item in enumerate(value)]}
    raise InputTypeError(
        f"Expected arrays, numbers, strings and values of ntkbias to save; got {type(value).__name__} at {name}."
    )


def _checked_array(value: Any, name: str) -> np.ndarray:
    """An array of numbers that every machine reads alike, and JAX or NumPy holds; or an `InputTypeError`."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(
            f"Expected arrays of numbers to save; got a masked one at {name}. Fill it, as .filled(0), or save its mask "
            "as an array of its own."
        )
    kind = "key" if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key) else np.dtype(value.dtype).kind
    if kind not in WIDEST or value.dtype.itemsize > WIDEST[kind]:
        raise InputTypeError(
            f"Expected arrays of numbers to save; got {value.dtype} at {name}. "
            "Convert it first: bfloat16 to float32, extended precision to float64, a key by jax.random.key_data."
        )
    return in_native_order(np.asarray(value))


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
    if (found := type_of(content)) is None:
        raise ValueError(f"ntkbias has no type {content}")
    return found(**{field: _build(item, arrays) for field, item in structure["fields"].items()})
