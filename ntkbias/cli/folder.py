"""The folder of a run. One command at a time uses it, and replaces only files that an earlier command wrote.

    files.json        name, size and SHA-256 of each file of the last command; only these may be replaced
    checkpoint/       the checkpoint of `track`
    .ntkbias.new/     new results: all are complete here before the first is moved into place
    .ntkbias.before/  the previous checkpoint, until the new run has saved its first snapshot

A process may be killed at any time. Either the folder then holds the results of one command, or the next command
finishes the moves.

>>> import pathlib, tempfile
>>> from ntkbias.cli.folder import RunFolder
>>> path = pathlib.Path(tempfile.mkdtemp())
>>> with RunFolder.claimed(path, ["table.txt"]) as folder:
...     folder.fill(lambda path: (path / "table.txt").write_text("1 2 3"))
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
from typing import Any

from ntkbias import claims
from ntkbias.errors import InputError
from ntkbias.files import Unreadable, opened, read_bytes, read_json, storage_errors, sync_folder, write

__all__ = ["RunFolder"]

MANIFEST, FORMAT = "files.json", 1
MARK = "files that ntkbias wrote here, and may replace"
LOCK, NEW, BEFORE, CHECKPOINT = ".ntkbias", ".ntkbias.new", ".ntkbias.before", "checkpoint"
# The files that `track` writes into its checkpoint, including temporary files that it did not finish.
RUN_FILES = re.compile(
    r"(run|about)\.json|(start|state)\.npz|snapshots(/\d+\.npz)?|(snapshots/)?(run\.part|\..+\.part)"
)
STATE = "state.npz"  # exists from the first snapshot on
ADVICE = "Move it, or choose another --out."
UNIMPORTANT = {
    "out",
    "json",
    "cache",
    "config",
    "overwrite",
    "resume",
    "jobs",
}  # options that do not change the results


class RunFolder:
    """The folder of one command. `RunFolder.claimed` makes it, and keeps other commands out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digests: dict[str, list[str]] = {}  # of the files that earlier commands wrote
        self.owns_checkpoint = False

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, path: Path, names: Iterable[str]) -> Iterator["RunFolder"]:
        """The folder, reserved for this command until the block ends. `names` lists the files that it may write.

        If the block writes nothing, folders made for it are removed. Raises `InputError` if another command uses the
        folder, if it cannot be written, or if a file that no command wrote has one of the names.
        """
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            with storage_errors(path):
                path.mkdir(parents=True, exist_ok=True)
            with claims.alone(path / LOCK, path) if claims.fcntl else contextlib.nullcontext():
                claimed = cls(path)
                claimed._read_manifest()
                claimed._finish_moves()
                claimed._require_ours(names)
                try:
                    yield claimed
                finally:
                    claimed._remove_empty_manifest()
        finally:
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                for folder in made:
                    folder.rmdir()

    @contextlib.contextmanager
    def checkpoint(self, resume: bool) -> Iterator[Path]:
        """The path of `track`'s checkpoint: the existing one if `resume`, else a new one.

        The previous checkpoint is kept until the new run has saved its first snapshot, so a run that is refused deletes
        nothing. Raises `InputError` if no command wrote the existing checkpoint, or if it is in use.
        """
        path, before = self.path / CHECKPOINT, self.path / BEFORE
        exists = os.path.lexists(path)
        if exists and not resume:
            self._require_own_checkpoint()
            with claims.alone(path / "run", path) if claims.fcntl else contextlib.nullcontext():
                pass
            with storage_errors(path):
                os.rename(path, before)
        if not exists or not resume:
            self.owns_checkpoint = True
            self._write_manifest(self.digests)
        try:
            yield path
        finally:
            self._keep_one_checkpoint()
            if self.owns_checkpoint and not os.path.lexists(path):
                self.owns_checkpoint = False
                self._write_manifest(self.digests)

    def finished(self, settings: dict[str, Any]) -> dict[str, str] | None:
        """The text files of the finished command with these settings, by name; None if it is another or incomplete.

        Settings are the same if all but `UNIMPORTANT` options are, and what the command computed itself.
        """
        names = [name for name in self.digests if name.endswith((".json", ".txt"))]
        if "settings.json" not in names or not all(
            os.path.lexists(self.path / name) and self._is_ours(name) for name in self.digests
        ):
            return None
        try:
            texts = {name: read_bytes(self.path / name, "a file of this run").decode() for name in names}
            if _important(json.loads(texts["settings.json"]), settings) != _important(settings, settings):
                return None
        except (Unreadable, ValueError, AttributeError, KeyError, TypeError):
            return None
        return texts

    def fill(self, results: Callable[[Path], object]) -> None:
        """Replace the previous command's results with the files that `results(folder)` writes, once all are complete.

        Other files of the previous command are removed: a folder holds the results of one command.

        Raises `InputError` if a file that no command wrote has appeared under one of the names. The new results are
        then in a subfolder, which the message names.
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
            kept = next(path for count in range(1, 10**6) if not (path := self.path / f"results-{count}").exists())
            with storage_errors(kept):
                os.rename(new, kept)
            raise InputError(f"{error} The results are in {kept}.") from None
        others = {name: found for name, found in self.digests.items() if name not in digests}
        with _uninterrupted():
            self._write_manifest(others | {name: [*new, *self.digests.get(name, [])] for name, new in digests.items()})
            self._move_results()
            for name in others:
                if self._is_ours(name):
                    with storage_errors(self.path / name):
                        (self.path / name).unlink(missing_ok=True)
            self._write_manifest(digests)

    def _read_manifest(self) -> None:
        """Read `files.json`, if there is one. Raises `InputError` if no command wrote it."""
        path = self.path / MANIFEST
        if not os.path.lexists(path):
            return
        try:
            manifest = {} if path.is_symlink() else read_json(path, "ours")
            if manifest.get("about") != MARK or manifest.get("format") != FORMAT:
                raise ValueError
            self.digests = {str(name): [str(digest) for digest in found] for name, found in manifest["files"].items()}
            self.owns_checkpoint = manifest[CHECKPOINT] is True
        except (Unreadable, ValueError, AttributeError, TypeError, KeyError):
            raise InputError(
                f"Expected {path} to be absent or written by an earlier command; got another file, or a damaged one. "
                f"{ADVICE}"
            ) from None

    def _write_manifest(self, digests: dict[str, list[str]]) -> None:
        self.digests = digests
        text = json.dumps(
            {"about": MARK, "format": FORMAT, "files": digests, CHECKPOINT: self.owns_checkpoint}, indent=1
        )
        write(self.path / MANIFEST, lambda file: file.write(text.encode()))

    def _is_ours(self, name: str) -> bool:
        """Whether a file is absent, or unchanged since a command wrote it."""
        path = self.path / name
        if Path(name).name != name or not os.path.lexists(path):
            return Path(name).name == name
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        return _is_one_of(path, self.digests.get(name, []))

    def _require_ours(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._is_ours(name):
                found = "one that was changed since" if name in self.digests else "one that no command wrote"
                raise InputError(
                    f"Expected {self.path / name} to be absent or written by an earlier command; got {found}. {ADVICE}"
                )

    def _require_own_checkpoint(self) -> None:
        path = self.path / CHECKPOINT
        found = [str(file.relative_to(path)) for file in path.rglob("*")] if path.is_dir() else []
        foreign = [name for name in found if not RUN_FILES.fullmatch(name)]
        if not self.owns_checkpoint or path.is_symlink() or not path.is_dir() or foreign:
            what = f"one that holds {foreign[0]}" if foreign else "one that no command wrote"
            raise InputError(f"Expected {path} to be absent or written by an earlier command; got {what}. {ADVICE}")

    def _finish_moves(self) -> None:
        """Finish the moves of a command that was killed."""
        new = self.path / NEW
        if new.is_dir() and not new.is_symlink():
            self._move_results()
        self._keep_one_checkpoint()

    def _move_results(self) -> None:
        """Move the new results that the manifest lists into place, unless they would replace a file of someone else."""
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

    def _keep_one_checkpoint(self) -> None:
        """Keep the new checkpoint if it has a first snapshot, and otherwise the previous one."""
        path, before = self.path / CHECKPOINT, self.path / BEFORE
        if not before.is_dir() or before.is_symlink():
            return
        with storage_errors(path):
            if (path / STATE).exists():
                shutil.rmtree(before)
            else:
                shutil.rmtree(path, ignore_errors=True)
                os.rename(before, path)

    def _remove_empty_manifest(self) -> None:
        """Remove the manifest if it lists no file and there is no checkpoint."""
        if not self.digests and not os.path.lexists(self.path / CHECKPOINT):
            with contextlib.suppress(OSError):
                (self.path / MANIFEST).unlink(missing_ok=True)


def _important(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The settings that results depend on: those that are `given`, without unimportant options."""
    found = {name: value for name, value in settings.items() if name in given}
    found["options"] = {name: value for name, value in settings["options"].items() if name not in UNIMPORTANT}
    return found


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block ends. Other threads than the main one never receive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def _digest(path: Path) -> str:
    """The size of a file and the SHA-256 of its contents, as text; empty if it cannot be read."""
    try:
        with opened(path, "a file") as file:
            size = os.fstat(file.fileno()).st_size
            return f"{size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except (Unreadable, OSError):
        return ""


def _is_one_of(path: Path, digests: list[str]) -> bool:
    """Whether a file has one of these digests. It is read only if its size matches."""
    return any(digest.startswith(f"{path.stat().st_size} ") for digest in digests) and _digest(path) in digests
