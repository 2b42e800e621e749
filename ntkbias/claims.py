"""Files that appear whole or not at all, each written by one process, on a disk that several processes share.

The right to write a file is a lock on `name`.part, where its contents grow; when they are on the disk the file gets its
name, in one step. The system ends the lock when the process ends, however that ends, and the next one to claim the file
takes the leftover over. So nothing has to be cleaned up after a crash, and no process is asked whether it lives. Until
contents are written the locked file names its process and host, so that a refusal can say who is in the way.

`claimed` gives the right to write one file; `alone` keeps other processes out of a whole run.

>>> import pathlib, tempfile
>>> from ntkbias.claims import alone, claimed
>>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
>>> with claimed(path) as claim, claimed(path) as second:
...     second is None, claim.write(b"1 2 3")
(True, None)
>>> path.read_bytes()
b'1 2 3'
>>> with alone(path.with_name("run"), path.parent):
...     sorted(path.name for path in path.parent.iterdir())
['numbers', 'run.part']
"""

import contextlib
import errno
import os
import re
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # a system without POSIX locks can read, and says so when asked to write
    fcntl = None  # type: ignore[assignment]

from ntkbias.errors import InputError
from ntkbias.files import PART, StorageError, put, storage_errors, sync

__all__ = ["Claim", "alone", "claim", "claimed", "holder", "require_no_foreign_part"]

MARK = "ntkbias: claimed by "  # begins a claimed file, until contents are written
NAMED = re.compile(MARK + r"process (\d+) on (\S+)\n\Z")
LONGEST = 400  # bytes of such a line


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
            return os.path.samestat(os.fstat(self.file.fileno()), os.stat(_part(self.path), follow_symlinks=False))
        except FileNotFoundError:
            return False

    def sign(self) -> None:
        """Put the name of this process and its host into the file, for others to read; without it the lock holds."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.file.fileno(), 0)
            os.write(self.file.fileno(), f"{MARK}process {os.getpid()} on {_host()}\n".encode())


def claim(path: Path, wait: bool = False) -> Claim | None:
    """The right to write `path`, or None where another process or thread has it; `wait` until that one is done.

    Raises `StorageError` if the folder cannot be written, or `path`.part is a link or no plain file, and `InputError`
    on a system without locks.
    """
    if fcntl is None:
        raise InputError(
            f"Expected a system with POSIX file locks (Python's fcntl) to write {path} for one process alone; got "
            f"{sys.platform}. Compute it on another, and read it here by open_gram or open_history."
        )
    with storage_errors(path):
        while True:
            attempt = Claim(path, _opened(_part(path)))
            try:
                fcntl.flock(attempt.file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                attempt.file.close()
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise
            if attempt.is_current():
                attempt.sign()
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


@contextlib.contextmanager
def alone(path: Path, what: Any) -> Iterator[None]:
    """Keep other processes out of `what`, a folder or file, for the length of a block, by a lock on `path`.part.

    Nothing of `what` should be read to be changed, deleted or written before. Its folder has to exist.

    Raises `InputError` where another process or thread is at it, and names that one, and where a file of others has
    the name of the lock. A lock that a process left when it was killed is no lock.
    """
    require_no_foreign_part(path)
    with claimed(path) as held:
        if held is None:
            raise InputError(f"Expected {what} for this run alone; {holder(path)} is at it. Choose another path.")
        yield


def holder(path: Path) -> str:
    """Who holds the claim to `path`, as the subject of a sentence: process and host, where the file names them.

    A process that has ended holds a lock only where one that it forked lives on, which is then said.
    """
    found = NAMED.match(_beginning(_part(path)))
    if found is None:
        return "another process"
    number, host = int(found[1]), found[2]
    if host == _host() and number == os.getpid():
        return "another thread of this process"
    name = f"process {number} on {host}"
    if host != _host() or _lives(number):
        return name
    return f"a process that {name} had started before it ended"


def require_no_foreign_part(path: Path, *, begins: str = MARK) -> None:
    """Raise an `InputError` where `path`.part is there and not of ours: claiming it would destroy it."""
    part = _part(path)
    text = _beginning(part)
    if text and not text.startswith((MARK, begins)):
        raise InputError(f"Expected no file of others at {part}; got one. Move it, or choose another path.")


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _opened(part: Path) -> BinaryIO:
    """The file to lock: never what a link points to, whose contents would be lost."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(part, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise _no_plain_file(part) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _no_plain_file(part)
    return os.fdopen(descriptor, "ab")


def _no_plain_file(part: Path) -> StorageError:
    failure = StorageError(f"Expected a plain file, or none, at {part}; got a link or a pipe. Remove it.")
    failure.errno = errno.ELOOP
    return failure


def _beginning(part: Path) -> str:
    """The first bytes of a plain file as text; nothing where there is none."""
    try:
        if not stat.S_ISREG(os.lstat(part).st_mode):
            return ""
        with open(part, "rb") as file:
            return file.read(LONGEST).decode("latin-1")
    except OSError:
        return ""


def _host() -> str:
    return re.sub(r"\s", "_", socket.gethostname()) or "this host"


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
