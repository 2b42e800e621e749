"""Files that are read as anybody may have left them: what is damaged, too large, or no file gets one sentence.

>>> import numpy, pathlib, tempfile
>>> from ntkbias.files import read_arrays, write
>>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers.npz"
>>> write(path, lambda file: numpy.savez(file, a=numpy.arange(3), b=numpy.ones(2)))
>>> read_arrays(path, "a file of numbers", ["a"])
{'a': array([0, 1, 2])}
"""

import contextlib
import hashlib
import json
import math
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ntkbias.errors import InputError
from ntkbias.files.writing import reason_of

__all__ = ["MOST_TEXT", "Unreadable", "opened", "read_arrays", "read_bytes", "read_json", "unreadable"]

MOST_TEXT = 2**28  # bytes of a JSON or TOML file: a thousand times what any of ours has
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
KINDS = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}


class Unreadable(InputError):
    """A file is not what it should be; `reason` is the end of that sentence.

    `missing`: there is none. `replaced`: it is not the one that was asked for, by its digest.
    """

    def __init__(self, path: Path, expected: str, reason: str, missing: bool = False, replaced: bool = False) -> None:
        found = "there is none" if missing else f"it cannot be read: {reason}"
        super().__init__(f"Expected {path} to be {expected}; {found}.")
        self.path, self.reason, self.missing, self.replaced = path, reason, missing, replaced


def unreadable(path: Path, error: Exception) -> str:
    """Why an .npz file cannot be read, as the end of a sentence: NumPy takes text and other formats for pickles."""
    try:
        with opened(path, "an archive") as file:
            start = file.read(64)
    except Unreadable as other:
        return other.reason
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
    return reason_of(error)


def _kind_of(mode: int) -> str | None:
    """What is there in place of a file, by its mode."""
    found = [kind for matches, kind in KINDS.items() if matches(mode)]
    return None if stat.S_ISREG(mode) else f"it is {found[0] if found else 'a device'}"


@contextlib.contextmanager
def opened(path: Path, expected: str) -> Iterator[BufferedReader]:
    """A file open for reading; an `Unreadable` where there is none, or a folder, a pipe, a device."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise Unreadable(path, expected, reason_of(error), isinstance(error, FileNotFoundError)) from None
    if (kind := _kind_of(os.fstat(number).st_mode)) is not None:
        os.close(number)
        raise Unreadable(path, expected, kind)
    with os.fdopen(number, "rb") as file:
        yield file


def read_bytes(path: Path, expected: str, most: int = MOST_TEXT) -> bytes:
    """The contents of a file of at most `most` bytes. Raises `Unreadable`."""
    with opened(path, expected) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Unreadable(path, expected, f"it has {size:,} bytes, more than the {most:,} that such a file may have")
        try:
            return file.read(most)
        except OSError as error:
            raise Unreadable(path, expected, reason_of(error)) from error


def read_json(path: Path, expected: str) -> Any:
    """What a JSON file says. Raises `Unreadable` where there is none, or something else."""
    content = read_bytes(path, expected)
    try:
        return json.loads(content)
    except RecursionError:
        raise Unreadable(path, expected, "it is nested too deeply") from None
    except (ValueError, MemoryError) as error:
        reason = "it is empty" if not content else f"it is no JSON ({reason_of(error)})"
        raise Unreadable(path, expected, reason) from error


def read_arrays(
    path: Path,
    expected: str,
    names: Iterable[str] | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    most: int | None = None,
    digest: str | None = None,
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by their names; of `names`, by default all, those that are there.

    Nothing else is read, and nothing before its header says that it has a place: all of them have at most `most` bytes,
    by default those of the file, which bounds archives without compression, as `write_arrays` and `numpy.savez` write
    them. `shapes` are those that some of them have to have. With `digest` the file has to have that SHA-256, too.
    Arrays come in this machine's order of bytes.

    Raises `Unreadable` where there is no such file, and on one that is damaged, encrypted, compressed in a way that
    Python does not know, or that holds anything but arrays of numbers, strings and times.
    """
    with opened(path, expected) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if file.read(2) != b"PK":  # zipfile would find an archive at the end of anything
                raise _Damage(unreadable(path, zipfile.BadZipFile("it is no archive")))
            with zipfile.ZipFile(file) as archive:  # its end is there: of a file without one no digest is taken
                file.seek(0)
                if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise Unreadable(path, expected, "it was damaged or replaced after it was written", replaced=True)
                return _members(archive, names, shapes or {}, size if most is None else most)
        except Unreadable:
            raise
        except Exception as error:  # a file by anybody: what parsers of zip and npy raise at damage has no end
            raise Unreadable(path, expected, _told(error)) from error


class _Damage(Exception):
    """What is wrong with an archive, as the end of a sentence."""


def _told(error: Exception) -> str:
    """What an error of the parsers means."""
    text = reason_of(error)
    if isinstance(error, RuntimeError) and "encrypted" in text:
        return "it is encrypted"
    return "it is too large for the memory" if isinstance(error, MemoryError) else text


def _members(
    archive: zipfile.ZipFile, names: Iterable[str] | None, shapes: Mapping[str, tuple[int, ...]], most: int
) -> dict[str, np.ndarray]:
    entries: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        entries.setdefault(unquote(info.filename.removesuffix(".npy"), errors="surrogatepass"), []).append(info)
    found: dict[str, np.ndarray] = {}
    for name in entries if names is None else names:
        if name not in entries:
            continue
        if len(entries[name]) > 1:
            raise _Damage(f"it has two arrays of the name {name}")
        found[name] = _member(archive, entries[name][0], shapes.get(name), most)
        most -= found[name].nbytes
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, expected: tuple[int, ...] | None, most: int) -> np.ndarray:
    """One array, of at most `most` bytes; read to its end, where its checksum is compared."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise _Damage(f"it has an array in version {version} of NumPy's format")
        shape, by_columns, dtype = HEADERS[version](file)
        if dtype.hasobject:
            raise _Damage(f"{info.filename} is an array of Python objects, which may run code when they are loaded")
        if dtype.kind == "V" or not dtype.itemsize or min(shape, default=0) < 0:
            raise _Damage(f"it has an array of shape {shape} and type {dtype}")
        if expected is not None and shape != expected:
            raise _Damage(f"{info.filename} has shape {shape}, and not {expected}")
        size = math.prod(shape) * dtype.itemsize
        if size > most:
            raise _Damage(
                f"it would unpack to {size:,} bytes of one array, where {max(most, 0):,} are expected at most"
            )
        if info.file_size != file.tell() + size:
            raise _Damage(f"it has {info.file_size - file.tell():,} bytes of an array of {size:,}")
        content = bytearray(size)
        place = memoryview(content)
        while place and (chunk := file.read(min(len(place), 2**20))):
            place[: len(chunk)] = chunk
            place = place[len(chunk) :]
        if place or file.read(1):
            raise _Damage("it is cut short")
    array = np.frombuffer(content, dtype) if size else np.empty(math.prod(shape), dtype)
    array = array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
