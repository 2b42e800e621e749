"""Checks of the entries of a manifest: their types and signs, and whether they are consistent with each other.

>>> from ntkbias.kernels.disk.entries import wrong_entry
>>> wrong_entry({"outputs": "mean", "shape": [4, -4]})
'its shape is [4, -4]'
"""

import math
import re
from collections.abc import Callable
from typing import Any, get_args

import jax.numpy as jnp

from ntkbias.files import PART
from ntkbias.kernels.outputs import arrangement
from ntkbias.types import Outputs

__all__ = [
    "CHECKSUM",
    "ENTRIES",
    "MANIFEST",
    "MOST_BLOCKS",
    "is_checksum",
    "is_part",
    "number_of_blocks",
    "wrong_entry",
]

MOST_BLOCKS = 10**7  # of a store; the names of so many take a GB
BLOCK = re.compile(r"\d{4,}-\d{4,}\.npy")
DIGEST = re.compile(r"[0-9a-f]{64}")
CHECKSUM = ".sha256"  # the suffix of a block's checksum, until all of them move into the manifest
MANIFEST = "manifest.json"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53


def _are_counts(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(_is_count, value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _are_finite(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(each, float | int) for each in value)
    return numbers and not any(isinstance(each, bool) for each in value) and all(map(math.isfinite, value))


def _is_dtype(value: Any) -> bool:
    try:
        return isinstance(value, str) and jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        return False


# Every manifest has these entries. They are checked in this order, so each check may rely on earlier entries.
ENTRIES: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "outputs": lambda value, _: isinstance(value, str) and value in get_args(Outputs),
    "shape": lambda value, there: _are_counts(value, {"each": 3, "all": 4}.get(there["outputs"], 2)),
    "dtype": lambda value, _: _is_dtype(value),
    "symmetric": lambda value, there: isinstance(value, bool) and (not value or _is_square(there)),
    "of": lambda value, _: (
        isinstance(value, dict) and all(text is None or isinstance(text, str) for text in value.values())
    ),
    "functions": lambda value, _: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "first_values": lambda value, _: _are_finite(value) and len(value) > 0,
    "versions": lambda value, _: _are_texts(value),
    "block_shape": lambda value, there: _are_counts(value, 2) and _fits(value, there),
    "pass_rows": lambda value, there: _are_counts(value, 2),
}
OPTIONAL: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "probe_values": lambda value, _: isinstance(value, list) and _are_finite([v for v in value if v is not None]),
    "sha256": lambda value, _: (
        _are_texts(value) and all(BLOCK.fullmatch(name) and DIGEST.fullmatch(text) for name, text in value.items())
    ),
}


def is_checksum(name: str) -> bool:
    """Whether a file has the name of a block's checksum. Other files in the folder are left alone."""
    return BLOCK.fullmatch(name.removesuffix(CHECKSUM)) is not None and name.endswith(CHECKSUM)


def is_part(name: str) -> bool:
    """Whether a file has the name of an unfinished manifest, block or checksum."""
    finished = name.removesuffix(PART)
    return finished != name and (finished == MANIFEST or is_checksum(finished) or BLOCK.fullmatch(finished) is not None)


def wrong_entry(manifest: dict[str, Any]) -> str | None:
    """Say what is wrong with the first invalid entry. None if all entries are valid."""
    for name, is_right in (ENTRIES | OPTIONAL).items():
        if name not in manifest:
            if name in ENTRIES:
                missing = sorted(ENTRIES.keys() - manifest.keys())
                return f"it has no {', '.join(missing[:5])}"
        elif not is_right(manifest[name], manifest):
            text = str(manifest[name])
            return f"its {name} is {text if len(text) <= 60 else text[:59] + '…'}"
    return None


def number_of_blocks(manifest: dict[str, Any]) -> int:
    """The number of blocks of a store; a symmetric one stores only about half of them."""
    return math.prod(-(-size // length) for size, length in zip(_sides(manifest), manifest["block_shape"], strict=True))


def _sides(manifest: dict[str, Any]) -> list[int]:
    return [manifest["shape"][axis] for axis in arrangement(manifest["outputs"]).axes]


def _is_square(manifest: dict[str, Any]) -> bool:
    rows, columns = _sides(manifest)
    return rows == columns


def _fits(block_shape: list[int], manifest: dict[str, Any]) -> bool:
    sides = _sides(manifest)
    if any(length > size for length, size in zip(block_shape, sides, strict=True)):
        return False
    if manifest["symmetric"] and block_shape[0] != block_shape[1]:
        return False
    return number_of_blocks(manifest | {"block_shape": block_shape}) <= MOST_BLOCKS
