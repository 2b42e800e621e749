"""Files that appear whole or not at all, each written by one process, on a disk that several processes share.

The right to write a file is a lock on `name`.part, where its contents grow; when they are on the disk the file gets its
name, in one step. The system ends the lock when the process ends, however that ends, and the next one to claim the file
takes the leftover over. So nothing has to be cleaned up after a crash, and no process is asked whether it lives.

>>> import pathlib, tempfile
>>> from ntkbias.kernels.disk.claims import claimed
>>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
>>> with claimed(path) as claim, claimed(path) as second:
...     second is None, claim.write(b"1 2 3")
(True, None)
>>> path.read_bytes()
b'1 2 3'
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # a system without POSIX locks can read, and says so when asked to write
    fcntl = None  # type: ignore[assignment]

from ntkbias.errors import InputError
from ntkbias.files import PART, put, storage_errors, sync

__all__ = ["Claim", "claim", "claimed"]


class Claim:
    """The right to write one file, until that is done or given up; made by `claim`."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path = path
        self.file = file

    def write(self, *chunks: Any, before: Callable[[], None] | None = None) -> None:
        """Put bytes on the disk, then give the file its name; `before` is called in between.

        Raises `StorageError` if the disk is full or fails.
        """
        with storage_errors(self.path):
            self.file.truncate(0)
            for chunk in chunks:
                self.file.write(chunk)
            sync(self.file)
            if before is not None:
                before()
            put(_part(self.path), self.path)

    def release(self) -> None:
        """Let others claim the file; what is unfinished is removed."""
        with contextlib.suppress(OSError):
            if self.is_current():
                _part(self.path).unlink()
        with contextlib.suppress(OSError):  # what a full disk did not take
            self.file.close()

    def is_current(self) -> bool:
        """Whether the locked file is still the one under that name, and not one finished or given up before."""
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), os.stat(_part(self.path)))
        except FileNotFoundError:
            return False


def claim(path: Path, wait: bool = False) -> Claim | None:
    """The right to write `path`, or None where another process or thread has it; `wait` until that one is done.

    Raises `StorageError` if the folder cannot be written, and `InputError` on a system without locks.
    """
    if fcntl is None:
        raise InputError(
            f"Expected a system with POSIX file locks (Python's fcntl) to fill a kernel on disk; got {sys.platform}. "
            "Compute it on another, and read it here by open_kernel."
        )
    with storage_errors(path):
        while True:
            attempt = Claim(path, open(_part(path), "ab"))
            try:
                fcntl.flock(attempt.file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                attempt.file.close()
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise
            if attempt.is_current():
                return attempt
            attempt.file.close()  # its owner finished it, or gave it up, in between


@contextlib.contextmanager
def claimed(path: Path, wait: bool = False) -> Iterator[Claim | None]:
    """`claim(path, wait)` for the length of a block."""
    held = claim(path, wait)
    try:
        yield held
    finally:
        if held is not None:
            held.release()


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)
