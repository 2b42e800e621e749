"""Atomic files on a shared disk, each written by exactly one of several processes.

A process claims a file by locking `name`.part, and writes the contents there. When they are on disk, it renames the
part to `name` in one step. The operating system releases the lock when the process ends, even after a crash, and the
next process that claims the file reuses the leftover part. So nothing needs to be cleaned up, and no process has to
check whether another one is alive. Until contents are written, the part names its process and host, so that an error
can say who holds the file.

`claimed` claims one file for a block. `alone` keeps other processes out of a whole run.

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
except ImportError:  # a system without POSIX locks can only read, and `claim` says so
    fcntl = None  # type: ignore[assignment]

from ntkbias.errors import InputError
from ntkbias.files import PART, StorageError, put, storage_errors, sync

__all__ = ["Claim", "alone", "claim", "claimed", "holder", "require_no_foreign_part"]

MARK = "ntkbias: claimed by "  # a claimed part begins with this until contents are written
NAMED = re.compile(MARK + r"process (\d+) on (\S+)\n\Z")
LONGEST = 400  # bytes of such a line, at most


class Claim:
    """The exclusive right to write one file, until it is written or released. `claim` makes it."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path = path
        self.file = file

    def write(self, *chunks: Any, before: Callable[[], None] | None = None) -> None:
        """Write the bytes to disk, call `before`, and then rename the part to the file's name.

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
        """Let others claim the file. An unfinished part is removed."""
        with contextlib.suppress(OSError):
            if self.is_current():
                _part(self.path).unlink()
        with contextlib.suppress(OSError):  # closing flushes again, which fails on a full disk
            self.file.close()

    def is_current(self) -> bool:
        """Whether the locked file is still the one named `path`.part. If not, its owner has finished or released it."""
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), os.stat(_part(self.path), follow_symlinks=False))
        except FileNotFoundError:
            return False

    def sign(self) -> None:
        """Write the number of this process and its host into the part, for others to read. Failure is no problem."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.file.fileno(), 0)
            os.write(self.file.fileno(), f"{MARK}process {os.getpid()} on {_host()}\n".encode())


def claim(path: Path, wait: bool = False) -> Claim | None:
    """Claim `path`. Returns None if another process or thread has it; with `wait`, waits until that one is done.

    Raises `StorageError` if the folder cannot be written or if `path`.part is not a plain file, and `InputError` on a
    system without locks.
    """
    if fcntl is None:
        raise InputError(
            f"Expected a system with POSIX file locks (Python's fcntl) to write {path} from a single process; got "
            f"{sys.platform}. Compute it on another system, and read it here with open_gram or open_history."
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
            attempt.file.close()  # its owner has finished or released it in the meantime: try again


@contextlib.contextmanager
def claimed(path: Path, wait: bool = False) -> Iterator[Claim | None]:
    """`claim(path, wait)` for a block, and release it at the end."""
    right = claim(path, wait)
    try:
        yield right
    finally:
        if right is not None:
            right.release()


@contextlib.contextmanager
def alone(path: Path, what: Any) -> Iterator[None]:
    """Keep other processes out of `what`, a folder or a file, for a block, with a lock on `path`.part.

    Enter the block before you read anything in order to change it, and before you delete or write anything. The folder
    of `path` must exist.

    Raises `InputError` if another process or thread uses `what`, and names it; also if another program has made a file
    with the name of the lock. The lock of a process that was killed does not count.
    """
    require_no_foreign_part(path)
    with claimed(path) as right:
        if right is None:
            raise InputError(f"Expected {what} to be free; {holder(path)} is using it. Choose another path.")
        yield


def holder(path: Path) -> str:
    """Who holds the claim to `path`, as the subject of a sentence, with process and host if the part names them.

    A process that has ended can still hold a lock through a process that it forked: the result then says so.
    """
    found = NAMED.match(_beginning(_part(path)))
    if found is None:
        return "another process"
    number, host = int(found[1]), found[2]
    if host == _host() and number == os.getpid():
        return "another thread of this process"
    name = f"process {number} on {host}"
    if host != _host() or _is_alive(number):
        return name
    return f"a process that {name} had started before it ended"


def require_no_foreign_part(path: Path, *, begins: str = MARK) -> None:
    """Raise an `InputError` if another program has made a file `path`.part: claiming it would destroy that file."""
    part = _part(path)
    text = _beginning(part)
    if text and not text.startswith((MARK, begins)):
        raise InputError(f"Expected no file of another program at {part}; got one. Move it, or choose another path.")


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _opened(part: Path) -> BinaryIO:
    """The part, open for locking. A link is never followed, since its target would be overwritten."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(part, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise _not_plain(part) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _not_plain(part)
    return os.fdopen(descriptor, "ab")


def _not_plain(part: Path) -> StorageError:
    failure = StorageError(f"Expected a plain file, or none, at {part}; got a link or a pipe. Remove it.")
    failure.errno = errno.ELOOP
    return failure


def _beginning(part: Path) -> str:
    """The first bytes of a plain file as text; empty if there is no such file."""
    try:
        if not stat.S_ISREG(os.lstat(part).st_mode):
            return ""
        with open(part, "rb") as file:
            return file.read(LONGEST).decode("latin-1")
    except OSError:
        return ""


def _host() -> str:
    return re.sub(r"\s", "_", socket.gethostname()) or "this host"


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
