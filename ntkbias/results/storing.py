"""The two files of a value: the .npz holds all of it, and the .json beside it shows the structure to readers.

The .npz is complete: it also holds the structure. The .json holds the digest of its .npz, so that `load` never combines
the files of two saves.

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
from ntkbias.results.functions import FunctionNeeded

__all__ = ["FORMAT", "load", "save"]

# Format 1 named the module of each type; 2 did not tie the two files together; 3 left out kernels.
FORMAT = 4
STRUCTURE = "structure"  # the array of the .npz that holds the JSON
PARTS = "value", "functions"  # the parts of the structure that the two files share
EXPECTED = "a value saved by ntkbias"
SUFFIXES = ".npz", ".json"
ATTEMPTS = 3


def save(path: str | Path, value: Any, *, x: Any = None) -> None:
    """Write `value` to `path`.npz and `path`.json; `path` may end in either suffix.

    A value is an array, a number, a string, None, or a module, dict, list or tuple of values. Each file appears
    completely or not at all. If the process dies between the two, `load` says so; delete the .json to load the new
    value.

    A kernel of our networks is saved completely. For a user's function, or an adapted model, the file has its
    parameters, its name, and its results at three inputs, at random inputs like them, and at changed parameters.
    `load(path, f=f)` takes the function and checks these results. The inputs come from the spectrum that holds the
    kernel; otherwise they are vectors that the function accepts. For a single kernel whose function takes other inputs,
    give some of them as `x` `(n, ...)`. A spectrum whose kernel cannot be saved is saved without it.

    Raises `InputError` if a file cannot be written, or if a file of another kind exists. Raises `InputTypeError`,
    before it writes, on a value that is not data.

    >>> import tempfile, ntkbias as nb, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> nb.save(f"{folder}/values", {"rates": np.array([1.0, 2.0])})
    >>> nb.load(f"{folder}/values")["rates"].tolist()
    [1.0, 2.0]
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
            f"Expected a structure of at most {MOST_TEXT // 2:,} bytes, without its arrays; got {len(content):,}. Save "
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
    with in_turn(path):  # if two processes save to one path, both files come from the same process
        _require_replaceable(packed, described)
        write(packed, fill)
        text = json.dumps({"format": FORMAT, "npz": digest, **structure}, indent=1)
        write(described, lambda file: file.write(text.encode()))


def load(path: str | Path, *, f: Any = None) -> Any:
    """The value that `save(path, value)` wrote.

    Arrays of types that JAX is not set to (such as float64 by default) come as NumPy arrays. If the .json was deleted,
    the value is loaded from its .npz alone. `load` neither loads nor runs code from files. If the value uses a user's
    function, give that function as `f`; for several, give a dictionary by their names in the file. For a model of
    another library, `f` may be the pair (f, params) that its adapter returns. `load` repeats the file's trial of each
    function, and refuses one with other results. Without `f`, a spectrum loads without its kernel, and its `extend`
    raises an error with the reason.

    Raises `InputError` if files are missing, damaged, from different saves, or in the format of another version; and if
    a function is missing, differs from the saved one, or is not needed.

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
                time.sleep(0.1)  # another process may be writing the second file
                continue
            raise InputError(_sentence(path, error)) from error
        except InputError:
            raise
        except FunctionNeeded as error:
            raise InputError(str(error)) from None
        except Exception as error:  # constructors may raise anything on the content of a damaged file
            raise InputError(f"Expected {path} to be {EXPECTED}; it cannot be read: {reason_of(error)}.") from error


def _loaded(path: Path, f: Any) -> Any:
    npz, json_file = _files(path)
    in_json = None
    if json_file.exists() or not npz.exists():
        in_json = _of_this_format(path, read_json(json_file, EXPECTED))
    arrays = read_arrays(npz, EXPECTED, digest=None if in_json is None else str(in_json.get("npz")))
    if STRUCTURE not in arrays:
        raise Unreadable(npz, EXPECTED, f"it has no array {STRUCTURE!r}")
    in_npz = _of_this_format(path, json.loads(arrays[STRUCTURE].tobytes()))
    if in_json is not None and any(in_json.get(part) != in_npz[part] for part in PARTS):
        raise Unreadable(npz, EXPECTED, "the two differ", replaced=True)
    reader = Reader(arrays, in_npz["functions"], f, str(path))
    value = reader.value(in_npz["value"])
    reader.require_used()
    return value


def _of_this_format(path: Path, description: Any) -> dict[str, Any]:
    """The description; an `InputError` if it is in another format."""
    if not isinstance(description, dict) or "format" not in description:
        raise InputError(f"Expected {path} to be {EXPECTED}; it cannot be read: its .json names no format.")
    there = description["format"]
    if there != FORMAT:
        earlier = isinstance(there, int) and there < FORMAT
        which, advice = ("an earlier", "Compute the value and save it again.") if earlier else ("another", "Update it.")
        raise InputError(
            f"Expected {path} in format {FORMAT}; got format {there}, saved by {which} version of ntkbias. {advice}"
        )
    return description


def _sentence(path: Path, error: Unreadable) -> str:
    """The sentence that says why the files of a value cannot be read."""
    if error.missing:
        return f"Expected {path}.json and {path}.npz; {error.path} is missing."
    if error.replaced:
        return (
            f"Expected {path}.npz and {path}.json from one save; got files from different saves, or a changed file. "
            f"Save the value again, or delete {path}.json to load {path}.npz alone, which works if it is complete."
        )
    return f"Expected {path} to be {EXPECTED}; {error.path.name} cannot be read: {error.reason}."


def _files(path: Path) -> tuple[Path, Path]:
    """The paths of the two files of a value: .npz and .json."""
    packed, described = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
    return packed, described


def _checked_path(path: str | Path, exists: bool = False) -> Path:
    """The path of a value without the suffix of its files; an `InputError` if it is no path of a file."""
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
    """Raise an `InputError` if an intact file exists that holds something else than a saved value, such as data.

    A damaged file may be replaced.
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
                f"Expected {file} to be absent or to hold a saved value; got a file of another kind. Choose another "
                "name."
            )


def _is_of_another_kind(packed: Path) -> bool:
    try:
        with opened(packed, EXPECTED) as file, zipfile.ZipFile(file) as archive:
            return f"{STRUCTURE}.npy" not in archive.namelist()
    except Exception:  # the file is absent or damaged
        return False
