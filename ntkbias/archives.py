"""Named arrays in one `.npz` file, read one by one, and never larger than the file is on the disk.

NumPy's `savez` takes the names as its own arguments, of which `file` and `allow_pickle` are its own. Here a name is any
text. Arrays are stored as they are: an entry that is compressed is none of ours, and the size of each is checked
against the file before it is read, so that no file takes more memory than its own length. `numpy.load` reads these
files too; it shows characters that are not ASCII, and %, as URLs write them.

>>> import pathlib, tempfile, numpy as np
>>> from ntkbias import archives
>>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers.npz"
>>> archives.write_arrays(path, {"file": np.arange(3), "allow_pickle": np.ones(2)})
>>> archives.read_arrays(path)["file"].tolist(), archives.read_arrays(path, ["allow_pickle"])
([0, 1, 2], {'allow_pickle': array([1., 1.])})
"""

import math
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

import numpy as np

from ntkbias.files import unreadable, write

__all__ = ["BadArchive", "read_arrays", "write_arrays"]

SAFE = "".join(map(chr, range(32, 127))).replace("%", "")
SUFFIX = ".npy"
ENCRYPTED = 0x1
EPOCH = (1980, 1, 1, 0, 0, 0)  # no times: the same arrays are the same bytes


class BadArchive(ValueError):
    """A file does not hold the arrays that it should; the text is the end of a sentence."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file, whole or not at all; a `StorageError` if it cannot be written."""

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(quote(name, SAFE, errors="surrogatepass") + SUFFIX, EPOCH)
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write(path, fill)


def read_arrays(
    path: Path, names: Iterable[str] | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of these names that are there (default: all); `shapes` are those that some of them have to have.

    Costs no more memory than the arrays that are read. Raises `BadArchive`, which says why the file cannot be read,
    also where it is damaged, no plain file, or holds an array of another shape, before that is read.
    """
    wanted = None if names is None else set(names)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadArchive("it is no plain file")
        found = {}
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = unquote(entry.filename.removesuffix(SUFFIX), errors="surrogatepass")
                if wanted is None or name in wanted:
                    if name in found:
                        raise BadArchive(f"it holds {name!r} twice")
                    found[name] = _array(archive, entry, name, (shapes or {}).get(name))
        return found
    except BadArchive:
        raise
    except FileNotFoundError as error:
        raise BadArchive("there is no such file") from error
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise errors of a dozen types
        raise BadArchive(unreadable(path, error)) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    """One array, once its size is known to be that of its entry, which is stored as it is."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED:
        raise BadArchive(f"{name!r} is compressed or encrypted, as this package writes none")
    if entry.compress_size != entry.file_size or not entry.filename.endswith(SUFFIX):
        raise BadArchive(f"{name!r} is not stored as this package stores arrays")
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise BadArchive(f"{name!r} is an array of another format")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        there, fortran, dtype = read(member)
        if dtype.hasobject:
            raise BadArchive(f"{name!r} holds Python objects")
        if shape is not None and there != shape:
            raise BadArchive(f"{name!r} has shape {there}, and not {shape}")
        count = math.prod(there)
        size = count * dtype.itemsize
        if min(there, default=0) < 0 or entry.file_size - member.tell() != size:
            raise BadArchive(f"{name!r} is not as long as its shape says")
        data = member.read()  # all of it, so that its checksum is compared
    if len(data) != size:
        raise BadArchive(f"{name!r} ends early")
    array = np.frombuffer(bytearray(data), dtype, count)
    return array.reshape(there[::-1]).T if fortran else array.reshape(there)
