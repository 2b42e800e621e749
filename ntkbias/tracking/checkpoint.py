"""A run on disk: one file a snapshot, and the state to go on from. Each appears whole or not at all.

    run.json          what the run is of; a call that differs is refused, and what differs is named
    start.npz         the probe, and what f, the loss, the optimiser and the first steps of training do
    snapshots/N.npz   the values of snapshot N
    state.npz         the state of training at the last snapshot that is complete

The snapshot is written first, then the state: whenever the process ends, the state is that of a snapshot that is there.
A snapshot beyond it is taken again, to the same values. `open_history` reads the folder at any time, also while the run
goes on. A folder with run.json is ours. Without it, files of these names are somebody else's, and stay.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.archives import BadArchive, read_arrays, write_arrays
from ntkbias.claims import alone
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import write
from ntkbias.tracking import trials
from ntkbias.tracking.fingerprints import plain
from ntkbias.tracking.history import History, stacked

__all__ = ["Checkpoint", "checked_folder", "history_of", "open_history", "versions"]

FORMAT = 3
READABLE = (2, 3)  # formats whose snapshots are alike
FINGERPRINTS = ("params", "data", "probe", "test", "key")  # of which a run's description has digests
TRIED = ("f", "loss", "optimizer")  # arrays of start.npz, each of which tells of what it is named after
STEPS_TRIED = "training"  # the array of what the first steps do, with all of these
FUNCTIONS, VERSIONS = "functions", "versions"  # entries of run.json that are not compared as they are
OURS = ("start.npz", "about.json", "state.npz", "snapshots")
SHOWN = 40  # characters of a value in a message
AGAIN = "Delete that folder to begin again."
MOST_JSON = 2**26  # bytes of a description


class Checkpoint:
    """The folder of one run; made by `Checkpoint.claimed`, which keeps other processes out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
                checkpoint.require(description, start)
            else:
                checkpoint._require_nobodys()
                text = json.dumps({"format": FORMAT, **description}, indent=1)
                write(checkpoint.folder / "run.json", lambda file: file.write(text.encode()))
                checkpoint._write("start.npz", start)
            yield checkpoint

    def require(self, description: dict[str, Any], start: dict[str, np.ndarray]) -> None:
        """Raise an `InputError` unless this is the folder of a run of that description, and name what differs.

        Warns where it cannot be decided whether it is.
        """
        there = _run(self.folder)
        if there["format"] != FORMAT:
            raise InputError(
                f"Expected a run of format {FORMAT}, to go on with it; {self.folder} has {there['format']}. Go on with "
                "the version of ntkbias that began it, or choose another path."
            )
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
            shown, undecided = _functions_that_differ(
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
        self._write(f"snapshots/{index:05d}.npz", values)
        leaves = {f"{place:05d}": plain(leaf) for place, leaf in enumerate(jax.tree.leaves(state))}
        self._write("state.npz", {"index": np.asarray(index), **leaves})

    def end(self, about: dict[str, Any]) -> None:
        """Write what is known when a run ends: names of axes and labels, and why it stopped."""
        write(self.folder / "about.json", lambda file: file.write(json.dumps(about).encode()))

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
        stored = _arrays(self.folder / "state.npz", {"index": (), **shapes})
        index = stored.pop("index", np.asarray("none"))
        if index.dtype.kind != "i" or index < 0 or stored.keys() != shapes.keys():
            raise InputError(f"Expected {self.folder} to hold the state of this run; it does not fit. {AGAIN}")
        rows: list[dict[str, np.ndarray]] = []
        for number in range(int(index) + 1):
            rows.append(_row(self.folder, number, rows))
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
            return _arrays(self.folder / "start.npz")
        for name in OURS[1:]:
            if os.path.lexists(self.folder / name):
                raise InputError(f"Expected {self.folder / 'start.npz'} beside {name}; it is missing. {AGAIN}")
        self._write("start.npz", start)
        return start

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        write_arrays(self.folder / name, arrays)


def open_history(path: str | Path) -> History:
    """The history in the folder of `track(..., checkpoint=path)`, finished, killed or still growing.

    Raises `InputError` where there is no run, or none with a snapshot, or a file is damaged.
    """
    folder = checked_folder(path)
    first = folder / "snapshots/00000.npz"
    if not all(path.exists() for path in (folder / "run.json", folder / "about.json", first)):
        raise InputError(f"Expected the folder of track(..., checkpoint=...) with a snapshot; got {folder}.")
    if (found := _run(folder)["format"]) not in READABLE:
        raise InputError(f"Expected a run of format {FORMAT}, which this version reads; {folder} has {found}.")
    about, start = _json(folder / "about.json"), _arrays(folder / "start.npz", names=("probe", "level_frequencies"))
    rows: list[dict[str, np.ndarray]] = []
    while (folder / f"snapshots/{len(rows):05d}.npz").exists():
        rows.append(_row(folder, len(rows), rows))
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
    if not isinstance(path, str | Path) or not Path(path).name:
        raise InputTypeError(f"Expected checkpoint to be the path of a folder; got {path!r}.")
    if Path(path).is_file():
        raise InputError(f"Expected checkpoint to be the path of a folder; got the file {path}.")
    return Path(path)


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


def versions() -> dict[str, str]:
    """Of what rounding depends on, and the form of functions."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "optax")}
    return packages | {"python": platform.python_version(), "device": jax.local_devices()[0].device_kind}


def _functions_that_differ(
    there: dict[str, Any],
    here: dict[str, Any],
    tried: dict[str, np.ndarray],
    start: dict[str, np.ndarray],
    same_versions: bool,
) -> tuple[list[str], list[str]]:
    """What differs, and what cannot be decided, as parts of sentences."""
    different, undecided = [], []
    for name in here:
        if (there.get(name) is None) != (here[name] is None):
            different.append(f"{name} ({'none' if there.get(name) is None else 'one'} there)")
    for name in TRIED:
        if (name in tried) != (name in start):
            different.append(name)
        elif name not in start:
            undecided += [] if here.get(name) is None else [f"{name} cannot be tried alone"]
        elif not trials.agree(tried[name], start[name], same_versions):
            different.append(name)
    if different:
        return different, undecided
    steps = tried.get(STEPS_TRIED), start.get(STEPS_TRIED)
    if (steps[0] is None) != (steps[1] is None) or (
        steps[0] is not None and steps[1] is not None and not trials.agree(*steps, same_versions)
    ):
        return ["forward" if here.get("forward") else "what the first steps of training do"], undecided
    for name in here:
        if here[name] is not None and there[name] != here[name]:
            if there[name]["values"] != here[name]["values"] and same_versions:
                different.append(f"{name} (the values that it closes over)")
            elif same_versions:
                undecided.append(f"the code of {name} differs")
    return different, undecided


def _like(leaf: Any, stored: np.ndarray) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    return jnp.asarray(stored, jnp.result_type(leaf))


def _row(folder: Path, number: int, rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The values of a snapshot, once they are of the names and shapes of the first one's."""
    path = folder / f"snapshots/{number:05d}.npz"
    row = _arrays(path, {name: value.shape for name, value in rows[0].items()} if rows else None)
    if row.keys() != (rows[0].keys() if rows else row.keys() | {"(step)", "(time)", "(learning rate)"}):
        raise InputError(f"Expected {path} to be part of a run; it has other values than a snapshot of this one.")
    if rows and np.max(row["(step)"]) <= np.max(rows[-1]["(step)"]):
        raise InputError(f"Expected {path} to be part of a run; it is of an earlier step than the one before.")
    return row


def _arrays(
    path: Path, shapes: dict[str, tuple[int, ...]] | None = None, names: tuple[str, ...] | None = None
) -> dict[str, np.ndarray]:
    try:
        return read_arrays(path, names, shapes)
    except BadArchive as error:
        raise InputError(f"Expected {path} to be part of a run; it cannot be read: {error}.") from error


def _run(folder: Path) -> dict[str, Any]:
    """What run.json says, once it has the entries that it should."""
    found = _json(folder / "run.json")
    known = isinstance(found.get("format"), int)
    if known and found["format"] == FORMAT:
        known = isinstance(found.get(VERSIONS), dict) and isinstance(found.get(FUNCTIONS), dict)
        known = known and all(
            value is None or (isinstance(value, dict) and value.keys() == {"code", "values"})
            for value in found[FUNCTIONS].values()
        )
    if not known:
        raise InputError(f"Expected {folder / 'run.json'} to describe a run; got a file of others, or a damaged one.")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_JSON:
            raise ValueError("it is no plain file, or too long")
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Expected {path} to describe a run; it cannot be read: {error}.") from error


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
