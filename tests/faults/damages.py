"""What may happen to a file: each damage is one line of `DAMAGES`, a function of the file's path.

The bench does each of them to each file of each subject. What comes then has to be the right values, or one sentence.
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path


def _flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def _in_its_place(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _compressed_zeros(path: Path) -> None:
    """An archive of a few kB that inflates to 256 MB, under names that it had."""
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else ["loss.npy"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names[:1]:
            archive.writestr(name, b"\0" * 2**28)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "half of it": lambda path: _cut(path, 0.5),
    "its end cut off": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "a bit near the start": lambda path: _flip(path, 0.02),
    "a bit in the middle": lambda path: _flip(path, 0.5),
    "a bit near the end": lambda path: _flip(path, 0.98),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "text": lambda path: path.write_text("precious"),
    "deep JSON": lambda path: path.write_text(100_000 * "["),
    "empty JSON": lambda path: path.write_text("{}"),
    "a bomb": _compressed_zeros,
    "a folder": lambda path: _in_its_place(path, Path.mkdir),
    "a pipe": lambda path: _in_its_place(path, os.mkfifo),
    "a link to nothing": lambda path: _in_its_place(path, lambda place: place.symlink_to("nowhere")),
    "a link to itself": lambda path: _in_its_place(path, lambda place: place.symlink_to(place.name)),
}
