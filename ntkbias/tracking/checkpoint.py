"""The checkpoint of a run: one file per snapshot, and the state from which training resumes. All writes are atomic.

    run.json          the description of the run; a call that does not match it is refused, with the differences
    about.json        the names of axes and labels, and why the run stopped
    start.npz         the probe, and numbers that f, the loss, the optimizer and the first training steps produce
    snapshots/N.npz   the values of snapshot N
    state.npz         the training state at the last complete snapshot

The state is written after its snapshot, so whenever the process ends, the snapshot of the state is on disk. A snapshot
that is later than the state is taken again, with the same values. `open_history` can read the folder at any time, even
while the run continues. Every file carries a digest of the run.json that it belongs to. A folder with a run.json is a
run. In a folder without one, files with these names belong to somebody else, and are kept.
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
from ntkbias.tracking.fingerprints import host_array
from ntkbias.tracking.history import History, stacked

__all__ = ["Checkpoint", "checked_folder", "history_of", "open_history"]

FORMAT = 4
FINGERPRINTS = ("params", "data", "probe", "test", "key")  # entries of run.json that messages name without values
FUNCTIONS, VERSIONS = "functions", "versions"  # entries of run.json that a simple comparison does not decide
FILES = ("start.npz", "about.json", "state.npz", "snapshots")  # what a run has beside its run.json
MOST_CHARACTERS = 40  # of a value in a message
SNAPSHOT = re.compile(r"\d{5,}\.npz")
BEGIN_AGAIN = "Delete that folder to begin again."
IDENTITY, DIGEST = "(run)", "(digest)"  # entries: the digest of run.json in other files, and about.json's own digest


class Checkpoint:
    """The folder of one run. `Checkpoint.claimed` makes it, and keeps other processes out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = ""

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, path: Any, description: dict[str, Any], start: dict[str, np.ndarray]) -> Iterator["Checkpoint"]:
        """Hold the folder at `path` for the run with this description until the block ends.

        Raises `InputError` if the folder belongs to another run, is in use or cannot be written, or if it has no
        run.json but holds files with the names of a run's files.
        """
        checkpoint = cls(checked_folder(path))
        with _created(checkpoint.folder), alone(checkpoint.folder / "run", path):
            if os.path.lexists(checkpoint.folder / "run.json"):
                checkpoint.identity = _identity(checkpoint.folder)
                checkpoint.require(description, start)
            else:
                checkpoint._require_no_foreign_files()
                text = json.dumps({"format": FORMAT, **description}, indent=1)
                write(checkpoint.folder / "run.json", lambda file: file.write(text.encode()))
                checkpoint.identity = _identity(checkpoint.folder)
                checkpoint._write("start.npz", start)
            yield checkpoint

    def require(self, description: dict[str, Any], start: dict[str, np.ndarray]) -> None:
        """Raise an `InputError` that names the differences unless this folder's run has that description.

        Warns if the two agree in everything that can be compared, but not everything can be.
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
            tried = self._start_arrays(start)
            shown, undecided = trials.functions_that_differ(
                there[FUNCTIONS], here[FUNCTIONS], tried, start, same_versions=not changed
            )
        if shown:
            raise InputError(
                f"Expected the run that {self.folder} holds, to resume it; got a run that differs in "
                f"{', '.join(shown)}. Choose another path, or delete that folder to begin again."
            )
        if undecided or changed:
            reasons = undecided + ([f"versions differ ({'; '.join(changed)})"] if changed else [])
            warnings.warn(
                f"Expected the run that {self.folder} holds; everything that can be compared agrees, but "
                f"{', and '.join(reasons)}. Training resumes: make sure that nothing else changed.",
                stacklevel=8,
            )

    def save(self, index: int, values: dict[str, np.ndarray], state: Any) -> None:
        """Write a snapshot, and then the training state at that snapshot."""
        if not (self.folder / "run.json").exists():
            raise StorageError(f"Expected {self.folder / 'run.json'} until the run ends; it was removed meanwhile.")
        self._write(f"snapshots/{index:05d}.npz", values)
        leaves = {f"{place:05d}": host_array(leaf) for place, leaf in enumerate(jax.tree.leaves(state))}
        self._write("state.npz", {"index": np.asarray(index), **leaves})

    def end(self, about: dict[str, Any]) -> None:
        """Write about.json: the names of axes and labels, and why the run stopped."""
        entries = about | {IDENTITY: self.identity}
        text = json.dumps(entries | {DIGEST: digest(json.dumps(entries))})
        write(self.folder / "about.json", lambda file: file.write(text.encode()))

    def load(self, like: Any) -> tuple[list[dict[str, np.ndarray]], Any] | None:
        """The snapshots so far, and the state at the last one as a pytree like `like`. None if no state is saved.

        Raises `InputError` if a file is damaged, or does not belong to the others.
        """
        if not os.path.lexists(self.folder / "state.npz"):
            if os.path.lexists(self.folder / "snapshots/00001.npz"):
                raise InputError(f"Expected {self.folder / 'state.npz'} beside snapshots; it is missing. {BEGIN_AGAIN}")
            return None
        leaves, structure = jax.tree.flatten(like)
        shapes = {f"{place:05d}": host_array(leaf).shape for place, leaf in enumerate(leaves)}
        stored = _arrays(self.folder / "state.npz", self.identity, {"index": (), **shapes})
        index = stored.pop("index", np.asarray("none"))
        if index.dtype.kind != "i" or index < 0 or stored.keys() != shapes.keys():
            raise InputError(f"Expected {self.folder} to hold the state of this run; it does not fit. {BEGIN_AGAIN}")
        rows: list[dict[str, np.ndarray]] = []
        for number in range(int(index) + 1):
            rows.append(_row(self.folder, number, rows, self.identity))
        found = [_as_leaf(stored[f"{place:05d}"], leaf) for place, leaf in enumerate(leaves)]
        return rows, jax.tree.unflatten(structure, found)

    def _require_no_foreign_files(self) -> None:
        """Raise an `InputError` if the folder, which has no run.json, holds files with the names of a run's files."""
        for name in FILES:
            path = self.folder / name
            if os.path.lexists(path) and not (path.is_dir() and not path.is_symlink() and not any(path.iterdir())):
                raise InputError(
                    f"Expected the folder of a run, or one without {path}; got that file without the run.json of a "
                    "run. Choose another path, or move the file."
                )

    def _start_arrays(self, start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Read start.npz, or write it now if the process was killed before it could."""
        if os.path.lexists(self.folder / "start.npz"):
            return _arrays(self.folder / "start.npz", self.identity)
        for name in FILES[1:]:
            if os.path.lexists(self.folder / name):
                raise InputError(f"Expected {self.folder / 'start.npz'} beside {name}; it is missing. {BEGIN_AGAIN}")
        self._write("start.npz", start)
        return start

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        write_arrays(self.folder / name, arrays | {IDENTITY: np.asarray(self.identity)})


def open_history(path: str | Path) -> History:
    """The history of the run in the folder `path`, which `track(..., checkpoint=path)` fills.

    The run may be finished, killed or still going on. `params` of the history is None.

    Raises `InputError` if the folder holds no run or no snapshot, or if a file is damaged.
    """
    folder = checked_folder(path)
    first = folder / "snapshots/00000.npz"
    if not all(path.exists() for path in (folder / "run.json", folder / "about.json", first)):
        raise InputError(f"Expected the folder of track(..., checkpoint=...) with a snapshot; got {folder}.")
    identity = _identity(folder)
    _run(folder)
    about = _about(folder, identity)
    start = _arrays(folder / "start.npz", identity, names=("probe", "level_frequencies"))
    saved = _last_saved(folder)  # read before the snapshots: if the run goes on, there are only more of them
    there = {name for name in os.listdir(folder / "snapshots") if SNAPSHOT.fullmatch(name)}
    rows: list[dict[str, np.ndarray]] = []
    while there - {f"{number:05d}.npz" for number in range(len(rows))} or len(rows) <= saved:
        rows.append(_row(folder, len(rows), rows, identity))
    try:
        return history_of(rows, start["probe"], start.get("level_frequencies"), about)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"Expected {folder} to hold the files of one run; they do not fit together: {error}."
        ) from error


def history_of(
    rows: list[dict[str, np.ndarray]],
    probe: np.ndarray,
    level_frequencies: np.ndarray | None,
    about: dict[str, Any],
    params: Any = None,
) -> History:
    """Make a history from one row of values per snapshot, as they are saved."""
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
    """The absolute path of a checkpoint's folder. Raises an error if `path` cannot be one."""
    if not isinstance(path, str | Path) or not Path(path).name or "\0" in str(path):
        raise InputTypeError(f"Expected checkpoint to be the path of a folder; got {path!r}.")
    if Path(path).is_file():
        raise InputError(f"Expected checkpoint to be the path of a folder; got the file {path}.")
    return Path(path).absolute()  # a measure may change the working directory


@contextlib.contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create the folder. At the end, remove it if it is new and still empty."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Expected to create the folder {folder}; got: {error.strerror}. Choose another.") from error
    try:
        yield
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _as_leaf(stored: np.ndarray, leaf: Any) -> Any:
    """Convert a stored array to the type of `leaf`, which may be a key."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    return jnp.asarray(stored, jnp.result_type(leaf))


def _last_saved(folder: Path) -> int:
    """The number of the snapshot at which the state was saved, or -1 if there is none."""
    try:
        return int(read_arrays(folder / "state.npz", "a state", ["index"], shapes={"index": ()})["index"])
    except (KeyError, ValueError):
        return -1


def _row(folder: Path, number: int, rows: list[dict[str, np.ndarray]], identity: str) -> dict[str, np.ndarray]:
    """Read a snapshot, and require its values to have the names and shapes of those of the first."""
    path = folder / f"snapshots/{number:05d}.npz"
    row = _arrays(path, identity, {name: value.shape for name, value in rows[0].items()} if rows else None)
    if row.keys() != (rows[0].keys() if rows else row.keys() | {"(step)", "(time)", "(learning rate)"}):
        raise InputError(f"Expected {path} to hold the values of this run's other snapshots; it holds other names.")
    if rows and np.max(row["(step)"]) <= np.max(rows[-1]["(step)"]):
        raise InputError(f"Expected the step of {path} to be later than that of the snapshot before; it is not.")
    return row


def _arrays(
    path: Path,
    identity: str,
    shapes: dict[str, tuple[int, ...]] | None = None,
    names: tuple[str, ...] | None = None,
) -> dict[str, np.ndarray]:
    """Read the arrays of a file, which must belong to the run with this identity."""
    found = read_arrays(path, "part of a run", None if names is None else (*names, IDENTITY), shapes=shapes)
    if str(found.pop(IDENTITY, "")) != identity:
        raise InputError(f"Expected {path} to belong to the run beside it; it belongs to another. {BEGIN_AGAIN}")
    if not all(value.dtype.kind in "biufc" for value in found.values()):
        raise InputError(f"Expected {path} to hold only numbers; it holds other values.")
    return found


def _identity(folder: Path) -> str:
    """The digest of run.json, which the other files of the run carry."""
    return digest(read_bytes(folder / "run.json", "the description of a run"))


def digest(text: str | bytes) -> str:
    """The first 128 bits of the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:32]


def _about(folder: Path, identity: str) -> dict[str, Any]:
    """Read about.json, which must be undamaged and belong to the run with this identity."""
    found = _json(folder / "about.json")
    written = found.pop(DIGEST, None)
    if written != digest(json.dumps(found)) or found.pop(IDENTITY, None) != identity:
        raise InputError(f"Expected {folder / 'about.json'} to belong to the run beside it; it does not. {BEGIN_AGAIN}")
    return found


def _run(folder: Path) -> dict[str, Any]:
    """Read run.json, and require the entries that the code relies on."""
    found = _json(folder / "run.json")
    number = found.get("format")
    known = isinstance(number, int) and not isinstance(number, bool)
    if known and number != FORMAT:
        raise InputError(
            f"Expected a run of format {FORMAT}, which this version reads; {folder} has format {number}. Use the "
            "version of ntkbias that began it, or choose another path."
        )
    if known:
        known = isinstance(found.get(VERSIONS), dict) and isinstance(found.get(FUNCTIONS), dict)
        known = known and all(
            value is None or (isinstance(value, dict) and value.keys() == {"code", "values", "mutable"})
            for value in found[FUNCTIONS].values()
        )
    if not known:
        raise InputError(f"Expected {folder / 'run.json'} to describe a run; it is damaged, or another kind of file.")
    return found


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path, "the description of a run")
    if not isinstance(found, dict):
        raise InputError(f"Expected {path} to be the description of a run; it holds a {type(found).__name__}.")
    return found


def _difference(name: str, there: Any, here: Any) -> str:
    """Describe how an entry differs: the keys of dictionaries, or both values unless they are fingerprints."""
    if isinstance(there, dict) and isinstance(here, dict):
        return f"{name} ({', '.join(key for key in {**there, **here} if there.get(key) != here.get(key))})"
    shown = [f"{_short(value)} {place}" for value, place in ((there, "there"), (here, "here"))]
    return name if name in FINGERPRINTS or _short(there) == _short(here) else f"{name} ({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, list) and value:
        return f"{len(value)} up to {value[-1]}"
    text = str(value)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
