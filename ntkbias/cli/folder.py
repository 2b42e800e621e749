"""The folder of a run: one command at a time is in it, and replaces what an earlier one wrote, and nothing else.

    files.json        what the last command wrote, by name, size and SHA-256: all that the next one may replace
    checkpoint/       of `track`
    .ntkbias.new/     results on their way: all are whole here before the first is moved
    .ntkbias.before/  the checkpoint of the run before, until the new run has begun

Whenever a process ends, the folder holds the results of one command, or the next one finishes the moving.

>>> import pathlib, tempfile
>>> from ntkbias.cli.folder import RunFolder
>>> path = pathlib.Path(tempfile.mkdtemp())
>>> with RunFolder.claimed(path, ["table.txt"]) as folder:
...     folder.fill(lambda place: (place / "table.txt").write_text("1 2 3"))
>>> sorted(file.name for file in path.iterdir())
['files.json', 'table.txt']
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ntkbias import claims
from ntkbias.errors import InputError
from ntkbias.files import Unreadable, opened, read_json, storage_errors, sync_folder, write

__all__ = ["RunFolder"]

MANIFEST, FORMAT = "files.json", 1
MARK = "files that ntkbias wrote here, and may replace"
LOCK, NEW, BEFORE, CHECKPOINT = ".ntkbias", ".ntkbias.new", ".ntkbias.before", "checkpoint"
# What `track` writes into its folder, and the parts of files that were never finished.
OF_A_RUN = re.compile(r"(run|about)\.json|(start|state)\.npz|snapshots(/\d+\.npz)?|(snapshots/)?(run\.part|\..+\.part)")
BEGUN = "state.npz"  # which is there from the first snapshot on
ADVICE = "Move it, or choose another --out."


class RunFolder:
    """The folder of one command; made by `RunFolder.claimed`, which keeps other commands out of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digests: dict[str, list[str]] = {}  # of the files that are ours
        self.owns_checkpoint = False

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, path: Path, names: Iterable[str]) -> Iterator["RunFolder"]:
        """The folder, for this command alone, until the block ends; `names` are those that it may write.

        A folder that was made for a command that then was refused is removed. Raises `InputError` where another command
        is at it, where it cannot be written, or where a file of another's has one of the names.
        """
        made = [place for place in (path, *path.parents) if not place.exists()]
        try:
            with storage_errors(path):
                path.mkdir(parents=True, exist_ok=True)
            with claims.alone(path / LOCK, path) if claims.fcntl else contextlib.nullcontext():
                folder = cls(path)
                folder._read()
                folder._recover()
                folder._require_ours(names)
                try:
                    yield folder
                finally:
                    folder._tidy()
        finally:
            with contextlib.suppress(OSError):  # where something was written
                for place in made:
                    place.rmdir()

    @contextlib.contextmanager
    def checkpoint(self, resume: bool) -> Iterator[Path]:
        """Where `track` keeps its checkpoint: of the run before if `resume`, else of a new one.

        The run before stays until the new one has begun: what is refused has deleted nothing. Raises `InputError` where
        the folder is not ours, or in use.
        """
        place, before = self.path / CHECKPOINT, self.path / BEFORE
        there = os.path.lexists(place)
        if there and not resume:
            self._require_own_checkpoint()
            with claims.alone(place / "run", place) if claims.fcntl else contextlib.nullcontext():
                pass
            with storage_errors(place):
                os.rename(place, before)
        if not there or not resume:
            self.owns_checkpoint = True
            self._note(self.digests)
        try:
            yield place
        finally:
            self._settle()
            if self.owns_checkpoint and not os.path.lexists(place):
                self.owns_checkpoint = False
                self._note(self.digests)

    def fill(self, results: Callable[[Path], object]) -> None:
        """Replace the results of the command before by those that `results(folder)` writes, once all are whole.

        What an earlier command wrote besides is removed: the results in a folder are of one command.

        Raises `InputError` where a file of another's has appeared under one of the names: the new results are then in a
        folder beside it, which the message names.
        """
        new = self.path / NEW
        with storage_errors(new):
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
        try:
            results(new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        digests = {name: [_digest(new / name)] for name in sorted(os.listdir(new))}
        try:
            self._require_ours(digests)
        except InputError as error:
            kept = next(place for count in range(1, 10**6) if not (place := self.path / f"results-{count}").exists())
            with storage_errors(kept):
                os.rename(new, kept)
            raise InputError(f"{error} The results are in {kept}.") from None
        others = {name: found for name, found in self.digests.items() if name not in digests}
        with _uninterrupted():
            self._note(others | {name: [*mine, *self.digests.get(name, [])] for name, mine in digests.items()})
            self._move()
            for name in others:
                if self._is_ours(name):
                    with storage_errors(self.path / name):
                        (self.path / name).unlink(missing_ok=True)
            self._note(digests)

    def _read(self) -> None:
        """What the manifest says; an `InputError` where it is not one of ours."""
        path = self.path / MANIFEST
        if not os.path.lexists(path):
            return
        try:
            there = {} if path.is_symlink() else read_json(path, "ours")
            if there.get("about") != MARK or there.get("format") != FORMAT:
                raise ValueError
            self.digests = {str(name): [str(digest) for digest in found] for name, found in there["files"].items()}
            self.owns_checkpoint = there[CHECKPOINT] is True
        except (Unreadable, ValueError, AttributeError, TypeError, KeyError):
            raise InputError(
                f"Expected in {self.path} no {MANIFEST} but that of an earlier command; got another, or a damaged one. "
                f"{ADVICE}"
            ) from None

    def _note(self, digests: dict[str, list[str]]) -> None:
        self.digests = digests
        text = json.dumps(
            {"about": MARK, "format": FORMAT, "files": digests, CHECKPOINT: self.owns_checkpoint}, indent=1
        )
        write(self.path / MANIFEST, lambda file: file.write(text.encode()))

    def _is_ours(self, name: str) -> bool:
        """Whether a file is not there, or as a command left it."""
        path = self.path / name
        if Path(name).name != name or not os.path.lexists(path):
            return Path(name).name == name
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        return _is_one_of(path, self.digests.get(name, []))

    def _require_ours(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._is_ours(name):
                found = "one that was changed since" if name in self.digests else "one that none has written"
                raise InputError(
                    f"Expected in {self.path} no {name} but that of an earlier command, to be replaced; got {found}. "
                    f"{ADVICE}"
                )

    def _require_own_checkpoint(self) -> None:
        place = self.path / CHECKPOINT
        found = [str(path.relative_to(place)) for path in place.rglob("*")] if place.is_dir() else []
        foreign = [name for name in found if not OF_A_RUN.fullmatch(name)]
        if not self.owns_checkpoint or place.is_symlink() or not place.is_dir() or foreign:
            what = f"one that holds {foreign[0]}" if foreign else "one that none has written"
            raise InputError(
                f"Expected in {self.path} no {CHECKPOINT} but that of an earlier command, to be replaced; got {what}. "
                f"{ADVICE}"
            )

    def _recover(self) -> None:
        """Finish what a command left that was killed."""
        new = self.path / NEW
        if new.is_dir() and not new.is_symlink():
            self._move()
        self._settle()

    def _move(self) -> None:
        """Give the new results their places, those that the manifest knows where what they replace is ours."""
        new = self.path / NEW
        with storage_errors(self.path):
            for name in sorted(os.listdir(new)):
                known = stat.S_ISREG((new / name).lstat().st_mode) and _is_one_of(
                    new / name, self.digests.get(name, [])
                )
                if known and self._is_ours(name):
                    os.replace(new / name, self.path / name)
            sync_folder(self.path)
            shutil.rmtree(new)

    def _settle(self) -> None:
        """Of the checkpoint before and the new one keep the new one if its run has begun, else the one before."""
        place, before = self.path / CHECKPOINT, self.path / BEFORE
        if not before.is_dir() or before.is_symlink():
            return
        with storage_errors(place):
            if (place / BEGUN).exists():
                shutil.rmtree(before)
            else:
                shutil.rmtree(place, ignore_errors=True)
                os.rename(before, place)

    def _tidy(self) -> None:
        """Remove a manifest that tells of nothing."""
        if not self.digests and not os.path.lexists(self.path / CHECKPOINT):
            with contextlib.suppress(OSError):
                (self.path / MANIFEST).unlink(missing_ok=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep a Ctrl-C until the block has ended; only the main thread gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _digest(path: Path) -> str:
    """The size of a file, and the SHA-256 of its contents."""
    try:
        with opened(path, "a file") as file:
            size = os.fstat(file.fileno()).st_size
            return f"{size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except (Unreadable, OSError):
        return ""


def _is_one_of(path: Path, digests: list[str]) -> bool:
    """Whether a file has one of these digests; it is read only if it has one of their sizes."""
    return any(digest.startswith(f"{path.stat().st_size} ") for digest in digests) and _digest(path) in digests
