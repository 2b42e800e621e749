"""Files that appear whole or not at all.

`write` fills a temporary file in the same folder, brings it to the disk, and gives it its name in one step. A crash or
a full disk leaves the old file as it was, and a reader never sees half of a new one.

>>> import pathlib, tempfile
>>> from ntkbias.files import write
>>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
>>> write(path, lambda file: file.write(b"1 2 3"))
>>> path.read_bytes()
b'1 2 3'
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ntkbias.errors import InputError

__all__ = ["PART", "StorageError", "put", "reason_of", "storage_errors", "sync", "unreadable", "write"]

PART = ".part"  # the suffix of a file that is being written, or was when a process died
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EISDIR)  # from systems that cannot sync a folder


class StorageError(InputError, OSError):
    """A file could not be written or read: what was expected, what came, and what to do. Also an `OSError`."""


def unreadable(path: Path, error: Exception) -> str:
    """Why an .npz file cannot be read, as the end of a sentence: NumPy takes text and other formats for pickles."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        start = b"PK"
    if not start:
        return "it is empty"
    if start.startswith(b"\x93NUMPY"):
        return "it is one array, as numpy.save writes it"
    if not start.startswith(b"PK"):
        text = start.isascii() and b"\0" not in start
        seen = start.decode("ascii").splitlines()[0][:30] if text and start.strip() else ""
        return f"it is a text file, which begins with {seen!r}" if text else "it is in another format"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through `fill(file)`, whole or not at all; make its folder where there is none.

    Processes and threads may write one file at once: the last one stays. Raises `StorageError` if the file cannot be
    written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{PART}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                fill(file)
                sync(file)
            put(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def sync(file: BinaryIO) -> None:
    """Bring what was written to an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def put(temporary: Path, path: Path) -> None:
    """Give a temporary file of the same folder its name in one step, and bring the folder to the disk."""
    os.replace(temporary, path)
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise any `OSError` of writing `path` as a `StorageError` with the same number."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        advice = "Make room on that disk" if error.errno in FULL else "Choose a folder that can be written"
        failure = StorageError(
            f"Expected to write {path}; got: {reason_of(error)}. {advice}, and make the same call again: finished "
            "files are kept."
        )
        failure.errno = error.errno
        raise failure from error


def reason_of(error: BaseException) -> str:
    """The first line of what an error says."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
