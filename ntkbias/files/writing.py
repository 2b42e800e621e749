"""Atomic writing: a file appears complete or not at all.

`write` fills a temporary file in the same folder, flushes it to disk, and renames it in one step. The temporary file is
locked while its process lives. So the next write of the same file can recognize the leftovers of a process that died,
and removes them.

>>> import pathlib, tempfile
>>> from ntkbias.files import write
>>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
>>> write(path, lambda file: file.write(b"1 2 3"))
>>> path.read_bytes()
b'1 2 3'
"""

import contextlib
import errno
import itertools
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import numpy as np

from ntkbias.errors import InputError, InputTypeError

try:
    import fcntl
except ImportError:  # on a system without POSIX locks, leftovers of dead processes stay
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "PART",
    "StorageError",
    "checked_path",
    "in_turn",
    "put",
    "reason_of",
    "storage_errors",
    "sync",
    "sync_folder",
    "write",
    "write_arrays",
]

PART = ".part"  # the suffix of a file that is being written, or that a dead process left unfinished
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EISDIR)  # from systems that cannot sync a folder
SAFE = "".join(map(chr, range(32, 127))).replace("%", "")  # characters that names in an archive keep unquoted
EPOCH = (1980, 1, 1, 0, 0, 0)
FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_numbers = itertools.count()  # for the names of this process's temporary files


class StorageError(InputError, OSError):
    """A file could not be written or read. Also an `OSError`. The message says what to do."""


def checked_path(path: object) -> Path:
    """The path of a file to write, or an `InputError`: in every writer it comes before what is written."""
    if not isinstance(path, str | Path):
        raise InputTypeError(f"Expected the path of a file first, then what to write; got {type(path).__name__}.")
    if not Path(path).name or Path(path).name == ".." or "\0" in str(path):
        raise InputError(f"Expected the path of a file; got {str(path)!r}.")
    return Path(path)


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: `fill(file)` writes its contents. A missing folder is made.

    Several processes and threads may write the same file at once: the last one wins. A symbolic link of that name is
    replaced, and its target stays. Leftovers of dead processes for this file are removed. `fill` may read back what it
    wrote. Raises `StorageError` if the file cannot be written.
    """
    with storage_errors(path):
        _make_folder(path.parent)
        _remove_leftovers(path)
        temporary, file = _temporary_file(path)
        try:
            with file:
                fill(file)
                sync(file)
                if fcntl is not None:
                    put(temporary, path)  # renamed while locked, or another process would remove it as a leftover
            if fcntl is None:
                put(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as an .npz file, atomically. Equal arrays give equal bytes.

    A name may be any text; `numpy.savez` reserves some names. `numpy.load` reads these files too, but shows % and
    characters outside ASCII percent-encoded, as in a URL. Raises `StorageError` if the file cannot be written.
    """

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(quote(name, SAFE, errors="surrogatepass") + ".npy", EPOCH)
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write(path, fill)


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold a lock for a block: other threads and processes that enter it for the same path wait until it ends.

    On a system or a disk without locks, nobody waits. Raises `StorageError` if the folder cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    with storage_errors(path):
        _make_folder(path.parent)
        while fcntl is not None:
            number = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
            with contextlib.suppress(OSError):
                fcntl.flock(number, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.lstat(lock)):
                    break
            os.close(number)  # the previous holder has removed this lock file: try again
    try:
        yield
    finally:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(number)


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents, and flush their names to disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def _temporary_file(path: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file beside `path`, locked while it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_numbers)}{PART}")
        try:
            number = os.open(temporary, FLAGS, 0o666)
        except FileExistsError:  # from a process with the same number on another machine
            continue
        file = os.fdopen(number, "w+b")
        if fcntl is None or (_try_lock(number) and temporary.exists()):
            return temporary, file
        file.close()  # another process removed it before it was locked


def _try_lock(number: int) -> bool:
    """Lock an open file. False if another process holds the lock; true also if the file system has no locks."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files that dead processes left for this file. A living process holds a lock on its own."""
    if fcntl is None:
        return
    pattern, names = re.compile(re.escape(f".{path.name}.") + r"\d+\.\d+" + re.escape(PART)), []
    with contextlib.suppress(OSError):  # the folder may be writable but not readable
        names = os.listdir(path.parent)
    for name in filter(pattern.fullmatch, names):
        with contextlib.suppress(OSError):  # its process is alive, or has just ended
            number = os.open(path.with_name(name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.with_name(name).unlink()
            finally:
                os.close(number)


def sync(file: BinaryIO) -> None:
    """Flush an open file to disk."""
    file.flush()
    os.fsync(file.fileno())


def put(temporary: Path, path: Path) -> None:
    """Rename a temporary file to `path` in the same folder, in one step, and flush the folder to disk."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk, on systems that can."""
    try:
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn any `OSError` in the block, which writes `path`, into a `StorageError` with the same `errno`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        advice = "Make room on that disk" if error.errno in FULL else "Choose a folder that can be written"
        failure = StorageError(
            f"Expected to write {path}; got: {reason_of(error)}. {advice}, and repeat the call: finished files are "
            "kept."
        )
        failure.errno = error.errno
        raise failure from error


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, without a final period."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
