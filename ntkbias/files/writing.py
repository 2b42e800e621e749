"""Files that appear whole or not at all: one writer for all of them.

`write` fills a temporary file in the same folder, brings it to the disk, and gives it its name in one step. The file is
locked meanwhile, so that what a process left that died is known, and removed when that file is written next.

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
except ImportError:  # a system without POSIX locks: what dead processes left stays there
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

PART = ".part"  # the suffix of a file that is being written, or was when a process died
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EISDIR)  # from systems that cannot sync a folder
SAFE = "".join(map(chr, range(32, 127))).replace("%", "")  # characters of a name within an archive
EPOCH = (1980, 1, 1, 0, 0, 0)
FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_numbers = itertools.count()  # of the temporary files of this process


class StorageError(InputError, OSError):
    """A file could not be written or read: what was expected, what came, and what to do. Also an `OSError`."""


def checked_path(path: object) -> Path:
    """The path of a file to write, or an `InputError`: in every writer it comes before what is written."""
    if not isinstance(path, str | Path):
        raise InputTypeError(f"Expected the path of a file first, then what to write; got {type(path).__name__}.")
    if not Path(path).name or Path(path).name == ".." or "\0" in str(path):
        raise InputError(f"Expected the path of a file; got {str(path)!r}.")
    return Path(path)


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through `fill(file)`, whole or not at all; make its folder where there is none.

    Processes and threads may write one file at once: the last one stays. No symbolic link is followed: one of that name
    is replaced, and what it points to stays. What a process that died left of this file is removed. `fill` may read
    what it wrote. Raises `StorageError` if the file cannot be written.
    """
    with storage_errors(path):
        _make(path.parent)
        _sweep(path)
        temporary, file = _started(path)
        try:
            with file:
                fill(file)
                sync(file)
                if fcntl is not None:
                    put(temporary, path)  # while it is locked: others would take it for left over
            if fcntl is None:
                put(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as an .npz file, whole or not at all; the same arrays are the same bytes.

    A name is any text, of which `numpy.savez` keeps some for itself. `numpy.load` reads these files, too; it shows
    characters that are not ASCII, and %, as URLs write them. Raises `StorageError` if the file cannot be written.
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
    """Keep other threads and processes waiting that write the files of this name, for the length of a block.

    On a system or a disk without locks nobody waits. Raises `StorageError` if the folder cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    with storage_errors(path):
        _make(path.parent)
        while fcntl is not None:
            number = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
            with contextlib.suppress(OSError):
                fcntl.flock(number, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.lstat(lock)):
                    break
            os.close(number)  # who had it before has removed it
    try:
        yield
    finally:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(number)


def _make(folder: Path) -> None:
    """Make a folder, and bring its name to the disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def _started(path: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file beside `path`, locked as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_numbers)}{PART}")
        try:
            number = os.open(temporary, FLAGS, 0o666)
        except FileExistsError:  # of another process of this number, on another machine
            continue
        file = os.fdopen(number, "w+b")
        if fcntl is None or (_locks(number) and temporary.exists()):
            return temporary, file
        file.close()  # somebody swept it before it was locked


def _locks(number: int) -> bool:
    """Whether a lock of an open file is free, and then ours, or not known on its file system."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _sweep(path: Path) -> None:
    """Remove what was left of this file by processes that died: they lock their parts as long as they live."""
    if fcntl is None:
        return
    pattern, names = re.compile(re.escape(f".{path.name}.") + r"\d+\.\d+" + re.escape(PART)), []
    with contextlib.suppress(OSError):  # a folder that may be written, and not read
        names = os.listdir(path.parent)
    for name in filter(pattern.fullmatch, names):
        with contextlib.suppress(OSError):  # its process lives, or has just ended
            number = os.open(path.with_name(name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.with_name(name).unlink()
            finally:
                os.close(number)


def sync(file: BinaryIO) -> None:
    """Bring what was written to an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def put(temporary: Path, path: Path) -> None:
    """Give a temporary file of the same folder its name in one step, and bring the folder to the disk."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
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
