"""The two files of a value: all of it in the .npz, and its structure for readers in the .json beside it.

The .npz is whole: it holds the structure, too. The .json has the digest of its .npz, so that files of two saves are
never taken for one.

>>> import tempfile, pathlib, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> nb.save(folder / "limit.npz", nb.infinite_ntk(nb.nets.mlp(depth=1)))
>>> sorted(path.name for path in folder.iterdir())
['limit.json', 'limit.npz']
>>> nb.load(folder / "limit")(nb.domains.Circle().quadrature(3)[0]).shape
(3, 3)
"""

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import MOST_TEXT, Unreadable, in_turn, opened, read_arrays, read_json, reason_of, write
from ntkbias.results.building import Reader
from ntkbias.results.describing import Writer
from ntkbias.results.functions import Needed

__all__ = ["FORMAT", "load", "save"]

# 1 named the module of each type; 2 did not bind the two files together; 3 left out kernels
FORMAT = 4
STRUCTURE = "structure"  # the array of the .npz that holds the JSON
PARTS = "value", "functions"  # of that structure
EXPECTED = "a value saved by ntkbias"
SUFFIXES = ".npz", ".json"
ATTEMPTS = 3


def save(path: str | Path, value: Any, *, x: Any = None) -> None:
    """Write `value` to `path`.npz and `path`.json, where `path` may end in either suffix.

    A value is an array, a number, a string, None, or a module, dict, list or tuple of values. Each file appears whole
    or not at all: where a process dies between the two, `load` says so, and the new value can still be loaded.

    A kernel of our networks is saved whole. A function of the user's, or an adapted model, is saved as its parameters,
    its name and what it does at three inputs: `load(path, f=f)` takes it again, and tries it. The inputs are those of
    the spectrum that the kernel is in, or else vectors that the function takes. For a kernel alone of a function of
    other inputs `x` `(n, ...)` has to be given. A spectrum whose kernel cannot be saved is saved without.

    Raises `InputError` if a file cannot be written, or is there and of another kind, and `InputTypeError`, before
    writing, on a value that is not data.
    """
    path = _checked_path(path)
    leaves = jax.tree.leaves(x)
    if x is not None and not (leaves and all(np.ndim(leaf) and len(leaf) for leaf in leaves)):
        raise InputTypeError(f"Expected x= to be a few inputs of a function, (n, ...); got {type(x).__name__}.")
    writer = Writer(x)
    structure = {"value": writer.value(value, "value"), "functions": writer.functions}
    content = json.dumps({"format": FORMAT, **structure}).encode()
    if 2 * len(content) > MOST_TEXT:
        raise InputTypeError(
            f"Expected a structure of at most {MOST_TEXT // 2:,} bytes beside its arrays; got {len(content):,}. Save "
            "long lists as arrays."
        )
    arrays = writer.arrays | {STRUCTURE: np.frombuffer(content, np.uint8)}
    digest = ""

    def fill(file: Any) -> None:
        nonlocal digest
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()

    packed, described = _files(path)
    with in_turn(path):  # two that save to one path at once leave the two files of one of them
        _require_replaceable(packed, described)
        write(packed, fill)
        text = json.dumps({"format": FORMAT, "npz": digest, **structure}, indent=1)
        write(described, lambda file: file.write(text.encode()))


def load(path: str | Path, *, f: Any = None) -> Any:
    """The value that `save(path, value)` wrote; arrays of types that JAX is not set to come as NumPy's.

    A value whose .json was deleted is loaded from its .npz alone. No code is loaded or run: what was made with a
    function of the user's takes that function as `f`, where there are several a dictionary of them by the names in the
    file. For a model of another library `f` may be the pair (f, params) that its adapter returns. Each is tried at the
    inputs in the file. Without `f` a spectrum comes without its kernel, and says what it needs where it is extended.

    Raises `InputError` if files are missing, damaged, do not belong together, or come from another version that wrote
    another format; where a function is missing, other than the one that was saved, or not asked for.

    >>> import tempfile, pathlib, jax.numpy as jnp, ntkbias as nb
    >>> folder, x = pathlib.Path(tempfile.mkdtemp()), jnp.eye(3)
    >>> f = lambda params, x: jnp.tanh(x @ params["w"])
    >>> kernel = nb.empirical_ntk(f, {"w": jnp.ones((3, 2))})
    >>> nb.save(folder / "kernel", kernel)
    >>> bool(jnp.all(nb.load(folder / "kernel", f=f)(x) == kernel(x)))
    True
    >>> nb.load(folder / "kernel", f=lambda params, x: jnp.sin(x @ params["w"]))
    Traceback (most recent call last):
    ntkbias.errors.InputError: Expected f= to be the function '<lambda>' that was saved; got another one: ...
    """
    path = _checked_path(path, exists=True)
    for attempt in range(ATTEMPTS):
        try:
            return _loaded(path, f)
        except Unreadable as error:
            if error.replaced and attempt < ATTEMPTS - 1:
                time.sleep(0.1)  # somebody may be between the two files
                continue
            raise InputError(_sentence(path, error)) from error
        except InputError:
            raise
        except Needed as error:
            raise InputError(str(error)) from None
        except Exception as error:  # constructors of any type, with what a file says
            raise InputError(f"Expected {path} to be {EXPECTED}; it cannot be read: {reason_of(error)}.") from error


def _loaded(path: Path, f: Any) -> Any:
    packed, described = _files(path)
    beside = None
    if described.exists() or not packed.exists():
        beside = _of_this_format(path, read_json(described, EXPECTED))
    arrays = read_arrays(packed, EXPECTED, digest=None if beside is None else str(beside.get("npz")))
    if STRUCTURE not in arrays:
        raise Unreadable(packed, EXPECTED, f"it has no array {STRUCTURE!r}")
    within = _of_this_format(path, json.loads(arrays[STRUCTURE].tobytes()))
    if beside is not None and any(beside.get(part) != within[part] for part in PARTS):
        raise Unreadable(packed, EXPECTED, "the two differ", replaced=True)
    reader = Reader(arrays, within["functions"], f, str(path))
    value = reader.value(within["value"])
    reader.require_used()
    return value


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
        return f"Expected {path}.json and {path}.npz; {error.path} is missing."
    if error.replaced:
        return (
            f"Expected {path}.npz and {path}.json of one save; got files of different ones, or one that was changed. "
            f"Save the value again, or delete {path}.json: then {path}.npz is loaded alone, if it is whole."
        )
    return f"Expected {path} to be {EXPECTED}; {error.path.name} cannot be read: {error.reason}."


def _files(path: Path) -> tuple[Path, Path]:
    """The two files of a value."""
    packed, described = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
    return packed, described


def _checked_path(path: str | Path, exists: bool = False) -> Path:
    """The path of a value, without a suffix of its files."""
    if not isinstance(path, str | Path) or not Path(path).name or Path(path).name == ".." or "\0" in str(path):
        got = repr(path) if isinstance(path, str | Path) else type(path).__name__
        raise InputError(f"Expected the path of a file, with or without its suffix; got {got}. Paths come first.")
    found = Path(path)
    found = found.with_suffix("") if found.suffix in SUFFIXES and not os.path.isdir(found) else found
    is_folder = str(path).endswith(("/", os.sep)) or os.path.isdir(found)
    if is_folder and not (exists and any(file.exists() for file in _files(found))):
        raise InputError(f"Expected the path of a file; got the folder {path}. Add a name: {found / 'value'}.")
    return found


def _require_replaceable(packed: Path, described: Path) -> None:
    """Raise an `InputError` where a file is there that is whole and not that of a value: data, a run, a list of files.

    A damaged one may be replaced by the value that it should be.
    """
    found = {packed: _is_of_another_kind(packed), described: False}
    try:
        there = read_json(described, EXPECTED)
        found[described] = not (isinstance(there, dict) and {"format", "value"} <= there.keys())
    except Unreadable:
        pass
    for file, is_of_another_kind in found.items():
        if is_of_another_kind:
            raise InputError(
                f"Expected {file} to be that of a value saved before, to be replaced; got a file of another kind. "
                "Choose another name."
            )


def _is_of_another_kind(packed: Path) -> bool:
    try:
        with opened(packed, EXPECTED) as file, zipfile.ZipFile(file) as archive:
            return f"{STRUCTURE}.npy" not in archive.namelist()
    except Exception:  # there is none, or it is damaged
        return False
