"""Reading of files that may be damaged, too large, or of another kind. Each problem gets one clear sentence.

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
from typing import IO, Any
from urllib.parse import unquote

import numpy as np

from ntkbias.errors import InputError
from ntkbias.files.writing import reason_of

__all__ = ["MOST_TEXT", "Unreadable", "opened", "read_array", "read_arrays", "read_bytes", "read_json", "unreadable"]

MOST_TEXT = 2**28  # bytes of a JSON or TOML file: a thousand times more than any of ours has
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
NPY = b"\x93NUMPY"  # the start of an .npy file
KINDS = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}


class Unreadable(InputError):
    """A file is missing, or is not what was expected. `reason` completes the sentence "it cannot be read: ...".

    `missing`: the file does not exist. `replaced`: its digest differs from the expected one.
    """

    def __init__(self, path: Path, expected: str, reason: str, missing: bool = False, replaced: bool = False) -> None:
        found = "there is no such file" if missing else f"it cannot be read: {reason}"
        super().__init__(f"Expected {path} to be {expected}; {found}.")
        self.path, self.reason, self.missing, self.replaced = path, reason, missing, replaced


def unreadable(path: Path, error: Exception) -> str:
    """Why an .npz file cannot be read, as the end of a sentence. NumPy's own errors take other formats for pickles."""
    try:
        with opened(path, "an archive") as file:
            start = file.read(64)
    except Unreadable as other:
        return other.reason
    except OSError:
        start = b"PK"
    if start.startswith(NPY):
        return "it is one array, as numpy.save writes it"
    return reason_of(error) if start.startswith(b"PK") else _other_format(start)


def _other_format(start: bytes) -> str:
    """What a file that begins like this is, as the end of a sentence."""
    if not start:
        return "it is empty"
    text = start.isascii() and b"\0" not in start
    seen = start.decode("ascii").splitlines()[0][:30] if text and start.strip() else ""
    return f"it is a text file that begins with {seen!r}" if text else "it is in another format"


def _kind_of(mode: int) -> str | None:
    """A sentence that names what stands in place of a regular file, from its mode; None for a regular file."""
    found = [kind for matches, kind in KINDS.items() if matches(mode)]
    return None if stat.S_ISREG(mode) else f"it is {found[0] if found else 'a device'}"


@contextlib.contextmanager
def opened(path: Path, expected: str) -> Iterator[BufferedReader]:
    """A regular file, open for reading. Raises `Unreadable` if it is missing, or a folder, a pipe or a device."""
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
    """The contents of a file. Raises `Unreadable` if it cannot be read or has more than `most` bytes."""
    with opened(path, expected) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Unreadable(path, expected, f"it has {size:,} bytes; such a file may have at most {most:,}")
        try:
            return file.read(most)
        except OSError as error:
            raise Unreadable(path, expected, reason_of(error)) from error


def read_json(path: Path, expected: str) -> Any:
    """The contents of a JSON file. Raises `Unreadable` if it is missing or not JSON."""
    content = read_bytes(path, expected)
    try:
        return json.loads(content)
    except RecursionError:
        raise Unreadable(path, expected, "it is nested too deeply") from None
    except (ValueError, MemoryError) as error:
        reason = "it is empty" if not content else f"it is not JSON ({reason_of(error)})"
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
    """The arrays of an .npz file, by name. If `names` is given, only those of them that the file has.

    No other array is read. An array is read only after its header shows that it fits: together they may have at most
    `most` bytes. The default is the size of the file, which suffices for archives without compression, such as those
    of `write_arrays` and `numpy.savez`. `shapes` gives the shapes that some arrays must have. With `digest`, the file
    must have that SHA-256. Arrays are returned in this machine's byte order.

    Raises `Unreadable` if the file is missing, damaged, encrypted, compressed in a way that Python does not know, or
    holds anything but arrays of numbers, strings and times.
    """
    with opened(path, expected) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if file.read(2) != b"PK":  # zipfile would also accept an archive at the end of another file
                raise _Damage(unreadable(path, zipfile.BadZipFile("it is no archive")))
            with zipfile.ZipFile(file) as archive:  # first, so that a file cut short fails before its digest is taken
                file.seek(0)
                if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise Unreadable(path, expected, "it was damaged or replaced after it was written", replaced=True)
                return _members(archive, names, shapes or {}, size if most is None else most)
        except Unreadable:
            raise
        except Exception as error:  # damaged files make the zip and npy parsers raise errors of many types
            raise Unreadable(path, expected, _parser_reason(error)) from error


def read_array(path: Path, expected: str, most: int) -> np.ndarray:
    """The array of an .npy file, of at most `most` bytes. Raises `Unreadable` as `read_arrays` does."""
    with opened(path, expected) as file:
        try:
            if not file.peek(6).startswith(NPY):
                raise _Damage(_other_format(file.read(64)))
            return _array(file, os.fstat(file.fileno()).st_size, path.name, None, most)
        except Exception as error:  # a damaged header makes NumPy raise errors of many types
            raise Unreadable(path, expected, _parser_reason(error)) from error


class _Damage(Exception):
    """The defect of an archive, as the end of a sentence."""


def _parser_reason(error: Exception) -> str:
    """The meaning of a parser's error, as the end of a sentence."""
    text = reason_of(error)
    if isinstance(error, RuntimeError) and "encrypted" in text:
        return "it is encrypted"
    return "it does not fit in memory" if isinstance(error, MemoryError) else text


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
            raise _Damage(f"it has two arrays with the name {name}")
        found[name] = _member(archive, entries[name][0], shapes.get(name), most)
        most -= found[name].nbytes
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, expected: tuple[int, ...] | None, most: int) -> np.ndarray:
    """One array of at most `most` bytes. It is read to its end, so that zipfile compares the checksum."""
    with archive.open(info) as file:
        return _array(file, info.file_size, info.filename, expected, most)


def _array(file: IO[bytes], file_size: int, name: str, expected: tuple[int, ...] | None, most: int) -> np.ndarray:
    """The array in a file of NumPy's format, which ends with the file."""
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise _Damage(f"it has an array in version {version} of NumPy's format")
    shape, by_columns, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise _Damage(f"{name} is an array of Python objects, which can run code when loaded")
    if dtype.kind == "V" or not dtype.itemsize or min(shape, default=0) < 0:
        raise _Damage(f"it has an array of shape {shape} and type {dtype}")
    if expected is not None and shape != expected:
        raise _Damage(f"{name} has shape {shape}, not {expected}")
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise _Damage(f"one of its arrays would unpack to {size:,} bytes; at most {max(most, 0):,} are expected")
    if file_size != file.tell() + size:
        raise _Damage(f"it has {file_size - file.tell():,} bytes for an array of {size:,}")
    content = bytearray(size)
    rest = memoryview(content)
    while rest and (chunk := file.read(min(len(rest), 2**20))):
        rest[: len(chunk)] = chunk
        rest = rest[len(chunk) :]
    if rest or file.read(1):
        raise _Damage("it is cut short")
    array = np.frombuffer(content, dtype) if size else np.empty(math.prod(shape), dtype)
    array = array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
