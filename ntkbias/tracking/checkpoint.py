"""A run on disk: one file a snapshot, and the state to go on from. Each appears whole or not at all.

    run.json          what the run is of; a call that differs is refused, and what differs is named
    about.json        the names of axes and labels, and why it stopped
    start.npz         the probe, and what f, the loss, the optimizer and the first steps of training do
    snapshots/N.npz   the values of snapshot N
    state.npz         the state of training at the last snapshot that is complete

The snapshot is written first, then the state: whenever the process ends, the state is that of a snapshot that is there.
A snapshot beyond it is taken again, to the same values. `open_history` reads the folder at any time, also while the run
goes on. Every file names the run.json that it belongs to. A folder with run.json is ours. Without it, files of these
names are somebody else's, and stay.
"""

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.claims import alone
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import StorageError, read_arrays, read_bytes, read_json, write, write_arrays
from ntkbias.tracking import trials
from ntkbias.tracking.fingerprints import plain
from ntkbias.tracking.history import History, stacked

__all__ = ["Checkpoint", "checked_folder", "history_of", "open_history"]

FORMAT = 4
FINGERPRINTS = ("params", "data", "probe", "test", "key")  # of which a run's description has digests
FUNCTIONS, VERSIONS = "functions", "versions"  # entries of run.json that are not compared as they are
OURS = ("start.npz", "about.json", "state.npz", "snapshots")
SHOWN = 40  # characters of a value in a message
SNAPSHOT = re.compile(r"\d{5,}\.npz")
AGAIN = "Delete that folder to begin again."
IDENTITY, DIGEST = "(run)", "(digest)"  # of run.json in the other files, and of about.json in itself


class Checkpoint:
    """The folder of one run; made by `Checkpoint.claimed`, which keeps other processes out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = ""

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, path: Any, description: dict[str, Any], start: dict[str, np.ndarray]) -> Iterator["Checkpoint"]:
        """The folder at `path`, for the run of this description, until the block ends.

        Raises `InputError` where it is of another run, in use, holds files of others by the names of ours, or is no
        place to write.
        """
        checkpoint = cls(checked_folder(path))
        with _made(checkpoint.folder), alone(checkpoint.folder / "run", path):
            if os.path.lexists(checkpoint.folder / "run.json"):
                checkpoint.identity = _identity(checkpoint.folder)
                checkpoint.require(description, start)
            else:
                checkpoint._require_nobodys()
                text = json.dumps({"format": FORMAT, **description}, indent=1)
                write(checkpoint.folder / "run.json", lambda file: file.write(text.encode()))
                checkpoint.identity = _identity(checkpoint.folder)
                checkpoint._write("start.npz", start)
            yield checkpoint

    def require(self, description: dict[str, Any], start: dict[str, np.ndarray]) -> None:
        """Raise an `InputError` unless this is the folder of a run of that description, and name what differs.

        Warns where it cannot be decided whether it is.
        """
        there = _run(self.folder)
        here = json.loads(json.dumps(description))
        different = [name for name in here if name not in (FUNCTIONS, VERSIONS) and there.get(name) != here[name]]
        shown = [_difference(name, there.get(name), here.get(name)) for name in different]
        changed = [
            f"{name} {there[VERSIONS].get(name)} there, {here[VERSIONS][name]} here"
            for name in here[VERSIONS]
            if there[VERSIONS].get(name) != here[VERSIONS][name]
        ]
        undecided: list[str] = []
        if not shown:
            tried = self._started(start)
            shown, undecided = trials.functions_that_differ(
                there[FUNCTIONS], here[FUNCTIONS], tried, start, same_versions=not changed
            )
        if shown:
            raise InputError(
                f"Expected the run that {self.folder} is of, to go on with it; got one that differs in "
                f"{', '.join(shown)}. Choose another path, or delete that folder to begin again."
            )
        if undecided or changed:
            reasons = undecided + ([f"versions differ ({'; '.join(changed)})"] if changed else [])
            warnings.warn(
                f"Expected to know that this is the run that {self.folder} is of; all that can be compared agrees, but "
                f"{', and '.join(reasons)}. It goes on: make sure that nothing else was changed.",
                stacklevel=8,
            )

    def save(self, index: int, values: dict[str, np.ndarray], state: Any) -> None:
        """Write a snapshot, then the state of training at it."""
        if not (self.folder / "run.json").exists():
            raise StorageError(f"Expected {self.folder / 'run.json'} until the run ends; it was removed meanwhile.")
        self._write(f"snapshots/{index:05d}.npz", values)
        leaves = {f"{place:05d}": plain(leaf) for place, leaf in enumerate(jax.tree.leaves(state))}
        self._write("state.npz", {"index": np.asarray(index), **leaves})

    def end(self, about: dict[str, Any]) -> None:
        """Write what is known when a run ends: names of axes and labels, and why it stopped."""
        entries = about | {IDENTITY: self.identity}
        text = json.dumps(entries | {DIGEST: digest(json.dumps(entries))})
        write(self.folder / "about.json", lambda file: file.write(text.encode()))

    def load(self, like: Any) -> tuple[list[dict[str, np.ndarray]], Any] | None:
        """The snapshots so far, and the state at the last of them in the form of `like`; None where there is none.

        Raises `InputError` where a file is damaged, or does not belong to the others.
        """
        if not os.path.lexists(self.folder / "state.npz"):
            if os.path.lexists(self.folder / "snapshots/00001.npz"):
                raise InputError(f"Expected {self.folder / 'state.npz'} beside snapshots; it is missing. {AGAIN}")
            return None
        leaves, structure = jax.tree.flatten(like)
        shapes = {f"{place:05d}": plain(leaf).shape for place, leaf in enumerate(leaves)}
        stored = _arrays(self.folder / "state.npz", self.identity, {"index": (), **shapes})
        index = stored.pop("index", np.asarray("none"))
        if index.dtype.kind != "i" or index < 0 or stored.keys() != shapes.keys():
            raise InputError(f"Expected {self.folder} to hold the state of this run; it does not fit. {AGAIN}")
        rows: list[dict[str, np.ndarray]] = []
        for number in range(int(index) + 1):
            rows.append(_row(self.folder, number, rows, self.identity))
        found = [_like(leaf, stored[f"{place:05d}"]) for place, leaf in enumerate(leaves)]
        return rows, jax.tree.unflatten(structure, found)

    def _require_nobodys(self) -> None:
        """Raise an `InputError` where there are files by the names of ours, in a folder that no run.json says is."""
        for name in OURS:
            path = self.folder / name
            if os.path.lexists(path) and not (path.is_dir() and not path.is_symlink() and not any(path.iterdir())):
                raise InputError(
                    f"Expected a folder of a run, or one without {path}, which is not known to be of a run: there is "
                    "no run.json beside it. Choose another path, or move that."
                )

    def _started(self, start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the run began with; written now where the process was killed before that was."""
        if os.path.lexists(self.folder / "start.npz"):
            return _arrays(self.folder / "start.npz", self.identity)
        for name in OURS[1:]:
            if os.path.lexists(self.folder / name):
                raise InputError(f"Expected {self.folder / 'start.npz'} beside {name}; it is missing. {AGAIN}")
        self._write("start.npz", start)
        return start

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        write_arrays(self.folder / name, arrays | {IDENTITY: np.asarray(self.identity)})


def open_history(path: str | Path) -> History:
    """The history in the folder of `track(..., checkpoint=path)`, finished, killed or still growing.

    Raises `InputError` where there is no run, or none with a snapshot, or a file is damaged.
    """
    folder = checked_folder(path)
    first = folder / "snapshots/00000.npz"
    if not all(path.exists() for path in (folder / "run.json", folder / "about.json", first)):
        raise InputError(f"Expected the folder of track(..., checkpoint=...) with a snapshot; got {folder}.")
    identity = _identity(folder)
    _run(folder)
    about = _about(folder, identity)
    start = _arrays(folder / "start.npz", identity, names=("probe", "level_frequencies"))
    saved = _last_saved(folder)  # read first: a run that grows meanwhile has more snapshots, not fewer
    there = {name for name in os.listdir(folder / "snapshots") if SNAPSHOT.fullmatch(name)}
    rows: list[dict[str, np.ndarray]] = []
    while there - {f"{number:05d}.npz" for number in range(len(rows))} or len(rows) <= saved:
        rows.append(_row(folder, len(rows), rows, identity))
    try:
        return history_of(rows, start["probe"], start.get("level_frequencies"), about)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"Expected {folder} to hold a run, whose files belong together; they do not: {error}."
        ) from error


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


def checked_folder(path: Any) -> Path:
    """The path of a folder, or an error."""
    if not isinstance(path, str | Path) or not Path(path).name or "\0" in str(path):
        raise InputTypeError(f"Expected checkpoint to be the path of a folder; got {path!r}.")
    if Path(path).is_file():
        raise InputError(f"Expected checkpoint to be the path of a folder; got the file {path}.")
    return Path(path).absolute()  # a measure may change the working folder


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, which is removed again where it is new and nothing came to lie in it."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Expected to make the folder {folder}; got: {error.strerror}. Choose another.") from error
    try:
        yield
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _like(leaf: Any, stored: np.ndarray) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    return jnp.asarray(stored, jnp.result_type(leaf))


def _last_saved(folder: Path) -> int:
    """The number of the snapshot that training goes on from, -1 where none is known."""
    try:
        return int(read_arrays(folder / "state.npz", "a state", ["index"], shapes={"index": ()})["index"])
    except (KeyError, ValueError):
        return -1


def _row(folder: Path, number: int, rows: list[dict[str, np.ndarray]], identity: str) -> dict[str, np.ndarray]:
    """The values of a snapshot, once they are of the names and shapes of the first one's."""
    path = folder / f"snapshots/{number:05d}.npz"
    row = _arrays(path, identity, {name: value.shape for name, value in rows[0].items()} if rows else None)
    if row.keys() != (rows[0].keys() if rows else row.keys() | {"(step)", "(time)", "(learning rate)"}):
        raise InputError(f"Expected {path} to be part of a run; it has other values than a snapshot of this one.")
    if rows and np.max(row["(step)"]) <= np.max(rows[-1]["(step)"]):
        raise InputError(f"Expected {path} to be part of a run; it is of an earlier step than the one before.")
    return row


def _arrays(
    path: Path,
    identity: str,
    shapes: dict[str, tuple[int, ...]] | None = None,
    names: tuple[str, ...] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of a file of the run of this identity."""
    found = read_arrays(path, "part of a run", None if names is None else (*names, IDENTITY), shapes=shapes)
    if str(found.pop(IDENTITY, "")) != identity:
        raise InputError(f"Expected {path} to be part of the run beside it; it is of another one. {AGAIN}")
    if not all(value.dtype.kind in "biufc" for value in found.values()):
        raise InputError(f"Expected {path} to be part of a run; it holds other things than numbers.")
    return found


def _identity(folder: Path) -> str:
    """What the files of this run know it by: a digest of run.json."""
    return digest(read_bytes(folder / "run.json", "the description of a run"))


def digest(text: str | bytes) -> str:
    """The SHA-256 of a text, as far as it is needed to tell texts apart."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:32]


def _about(folder: Path, identity: str) -> dict[str, Any]:
    """What about.json says, once it is whole, and of the run of this identity."""
    found = _json(folder / "about.json")
    whole = found.pop(DIGEST, None)
    if whole != digest(json.dumps(found)) or found.pop(IDENTITY, None) != identity:
        raise InputError(f"Expected {folder / 'about.json'} to be part of the run beside it; it is not. {AGAIN}")
    return found


def _run(folder: Path) -> dict[str, Any]:
    """What run.json says, once it has the entries that it should."""
    found = _json(folder / "run.json")
    number = found.get("format")
    known = isinstance(number, int) and not isinstance(number, bool)
    if known and number != FORMAT:
        raise InputError(
            f"Expected a run of format {FORMAT}, which this version reads; {folder} has {number}. Use the version of "
            "ntkbias that began it, or choose another path."
        )
    if known:
        known = isinstance(found.get(VERSIONS), dict) and isinstance(found.get(FUNCTIONS), dict)
        known = known and all(
            value is None or (isinstance(value, dict) and value.keys() == {"code", "values", "mutable"})
            for value in found[FUNCTIONS].values()
        )
    if not known:
        raise InputError(f"Expected {folder / 'run.json'} to describe a run; got a file of others, or a damaged one.")
    return found


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path, "the description of a run")
    if not isinstance(found, dict):
        raise InputError(f"Expected {path} to be the description of a run; it holds a {type(found).__name__}.")
    return found


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
