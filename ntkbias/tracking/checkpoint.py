"""A run on disk: one file a snapshot, and the state to go on from. Each appears whole or not at all.

    run.json          what the run is of; a call that differs is refused, and what differs is named
    start.npz         the variables at the start, the probe
    snapshots/N.npz   the values of snapshot N
    state.npz         the state of training at the last snapshot that is complete

The snapshot is written first, then the state: whenever the process ends, the state is that of a snapshot that is there.
A snapshot beyond it is taken again, to the same values. `open_history` reads the folder at any time, also while the run
goes on.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CellType, CodeType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import unreadable, write
from ntkbias.kernels.disk.claims import claimed
from ntkbias.tracking.history import History, stacked

__all__ = ["Checkpoint", "code_digest", "digest", "open_history"]

BAD_ZIPS = zipfile.BadZipFile, zipfile.LargeZipFile
FORMAT = 2
FINGERPRINTS = ("params", "data", "probe", "test", "optimizer", "key", "f")  # of which a run's description has digests
SHOWN = 40  # characters of a value in a message


class Checkpoint:
    """The folder of one run; made by `Checkpoint.claimed`, which keeps other processes out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, path: Any, description: dict[str, Any], start: dict[str, np.ndarray]) -> Iterator["Checkpoint"]:
        """The folder at `path`, for the run of this description, until the block ends.

        Raises `InputError` where it is of another run, in use, or no place to write.
        """
        checkpoint = cls(checked_folder(path))
        checkpoint.folder.mkdir(parents=True, exist_ok=True)
        with claimed(checkpoint.folder / "run") as claim:
            if claim is None:
                raise InputError(f"Expected {path} for this run alone; another process is at it. Choose another path.")
            if (checkpoint.folder / "run.json").exists():
                checkpoint.require(description, start)
            else:
                checkpoint._write("start.npz", start)
                text = json.dumps({"format": FORMAT, **description}, indent=1)
                write(checkpoint.folder / "run.json", lambda file: file.write(text.encode()))
            yield checkpoint

    def require(self, description: dict[str, Any], start: dict[str, np.ndarray]) -> None:
        """Raise an `InputError` unless this is the folder of a run of that description, and name what differs."""
        there = _json(self.folder / "run.json")
        here = json.loads(json.dumps({"format": FORMAT, **description}))
        different = [name for name in here if there.get(name) != here[name]]
        if not different:
            outputs = _arrays(self.folder / "start.npz").get("outputs")
            if outputs is None or outputs.shape != start["outputs"].shape or not _close(outputs, start["outputs"]):
                different = ["f"]
        if "steps" in different and there.get("steps", [])[-1:] != here["steps"][-1:]:
            different = [name for name in different if name != "optimizer"]  # compared step by step, to the last
        if different:
            shown = [_difference(name, there.get(name), here.get(name)) for name in different]
            raise InputError(
                f"Expected the run that {self.folder} is of, to go on with it; got one that differs in "
                f"{', '.join(shown)}. Choose another path, or delete that folder to begin again."
            )

    def save(self, index: int, values: dict[str, np.ndarray], state: Any) -> None:
        """Write a snapshot, then the state of training at it."""
        self._write(f"snapshots/{index:05d}.npz", values)
        leaves = {f"{place:05d}": _plain(leaf) for place, leaf in enumerate(jax.tree.leaves(state))}
        self._write("state.npz", {"index": np.asarray(index), **leaves})

    def end(self, about: dict[str, Any]) -> None:
        """Write what is known when a run ends: names of axes and labels, and why it stopped."""
        write(self.folder / "about.json", lambda file: file.write(json.dumps(about).encode()))

    def load(self, like: Any) -> tuple[list[dict[str, np.ndarray]], Any] | None:
        """The snapshots so far, and the state at the last of them in the form of `like`; None where there is none."""
        if not (self.folder / "state.npz").exists():
            return None
        stored = _arrays(self.folder / "state.npz")
        rows = [_arrays(self.folder / f"snapshots/{index:05d}.npz") for index in range(int(stored["index"]) + 1)]
        leaves, structure = jax.tree.flatten(like)
        found = [_like(leaf, stored.get(f"{place:05d}"), self.folder) for place, leaf in enumerate(leaves)]
        return rows, jax.tree.unflatten(structure, found)

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        write(self.folder / name, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def open_history(path: str | Path) -> History:
    """The history in the folder of `track(..., checkpoint=path)`, finished, killed or still growing.

    Raises `InputError` where there is no run, or none with a snapshot, or a file is damaged.
    """
    folder = checked_folder(path)
    first = folder / "snapshots/00000.npz"
    if not all(path.exists() for path in (folder / "run.json", folder / "about.json", first)):
        raise InputError(f"Expected the folder of track(..., checkpoint=...) with a snapshot; got {folder}.")
    about, start = _json(folder / "about.json"), _arrays(folder / "start.npz")
    if (found := _json(folder / "run.json").get("format")) != FORMAT:
        raise InputError(f"Expected a run of format {FORMAT}, which this version reads; {folder} has {found}.")
    rows: list[dict[str, np.ndarray]] = []
    while (folder / f"snapshots/{len(rows):05d}.npz").exists():
        rows.append(_arrays(folder / f"snapshots/{len(rows):05d}.npz"))
    return history_of(rows, start["probe"], start.get("level_frequencies"), about)


def history_of(
    rows: list[dict[str, np.ndarray]],
    probe: np.ndarray,
    level_frequencies: np.ndarray | None,
    about: dict[str, Any],
    params: Any = None,
) -> History:
    """The rows of snapshots, as they are written, as a history."""
    num_runs = about["num_runs"]
    values = stacked(rows, num_runs)
    steps, times, rates = values.pop("(step)"), values.pop("(time)"), values.pop("(learning rate)")
    return History(
        steps=(steps if num_runs is None else steps[0]).astype(int),
        times=times,
        learning_rates=rates,
        values=dict(values),
        probe=probe,
        level_frequencies=level_frequencies,
        axes=tuple((name, tuple(axes)) for name, axes in about["axes"].items()),
        labels=tuple((name, tuple(labels)) for name, labels in about["labels"].items()),
        panels=tuple((name, tuple(panel)) for name, panel in about["panels"].items()),
        columns=tuple(about["columns"].items()),
        stopped=about["stopped"],
        params=params,
    )


def digest(*trees: Any) -> str:
    """A fingerprint of all numbers in pytrees of arrays, their shapes and types."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        array = _plain(leaf)
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
    plain = value is None or value is ... or isinstance(value, str | int | float | complex | bytes)
    return repr(value) if plain else getattr(value, "__qualname__", type(value).__qualname__)


def checked_folder(path: Any) -> Path:
    """The path of a folder, or an error."""
    if not isinstance(path, str | Path) or not Path(path).name:
        raise InputTypeError(f"Expected checkpoint to be the path of a folder; got {path!r}.")
    if Path(path).is_file():
        raise InputError(f"Expected checkpoint to be the path of a folder; got the file {path}.")
    return Path(path)


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as numbers: keys of jax.random by their data."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    host = np.asarray(leaf)
    return host.astype(np.float32) if host.dtype == jnp.bfloat16 else host  # which NumPy's files do not hold


def _like(leaf: Any, stored: np.ndarray | None, folder: Path) -> Any:
    if stored is None or stored.shape != _plain(leaf).shape:
        raise InputError(f"Expected {folder} to hold the state of this run; it does not fit. Delete it to begin again.")
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    return jnp.asarray(stored, jnp.result_type(leaf))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, TypeError, AttributeError, EOFError, *BAD_ZIPS) as error:
        reason = unreadable(path, error)
        raise InputError(f"Expected {path} to be part of a run; it cannot be read: {reason}.") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"Expected {path} to describe a run; it cannot be read: {error}.") from error


def _close(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal but for the rounding of another device."""
    return bool(np.max(np.abs(left - right)) <= 1e-3 * max(float(np.max(np.abs(right))), 1e-30))


def _difference(name: str, there: Any, here: Any) -> str:
    """What differs: of dictionaries in which names, else from what to what, but for fingerprints."""
    if isinstance(there, dict) and isinstance(here, dict):
        return f"{name} ({', '.join(key for key in {**there, **here} if there.get(key) != here.get(key))})"
    shown = [f"{_short(value)} {place}" for value, place in ((there, "there"), (here, "here"))]
    return name if name in FINGERPRINTS or _short(there) == _short(here) else f"{name} ({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, list) and value:
        return f"{len(value)} up to {value[-1]}"
    text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
