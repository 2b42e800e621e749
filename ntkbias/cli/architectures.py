"""Networks by name, as in `--net mlp:256x3:relu`: the architecture, its size and its activation or readout.

    mlp:256x3:relu      three hidden layers of 256 units
    cnn:64x2:pool       two convolutions of 64 channels, averaged over positions before the last layer
    resnet:16x2         groups of two blocks, the first group of 16 channels
    myrtle5:64          the Myrtle network of five layers, its stages of 64 channels
    transformer:128x2   two blocks of width 128

Every part after the name may be left out. --width, --depth and --activation then hold.

>>> from ntkbias.cli.architectures import architecture
>>> architecture("cnn:64x2:pool")
Architecture(text='cnn:64x2:pool', family='cnn', width=64, depth=2, activation=None, readout='pool')
"""

import difflib
import re
from typing import NamedTuple

from ntkbias.errors import InputError

__all__ = ["FAMILIES", "Architecture", "Family", "architecture"]


class Family(NamedTuple):
    """What one name stands for, with the width and depth that it has by default."""

    width: int
    depth: int | None  # None: the name says it
    readout: str | None  # the default, if there is a choice


FAMILIES = {
    "mlp": Family(256, 2, None),
    "cnn": Family(256, 2, "flatten"),
    "cnn-pool": Family(256, 2, None),
    "resnet": Family(16, 1, "pool"),
    "myrtle5": Family(64, None, None),
    "myrtle7": Family(64, None, None),
    "myrtle10": Family(64, None, None),
    "transformer": Family(128, 2, "pool"),
}
READOUTS = ("pool", "flatten")
SIZE = re.compile(r"(\d{1,12})(?:x(\d{1,12}))?")
WORD = re.compile(r"[a-z]\w*")


class Architecture(NamedTuple):
    """A network by name. Parts that are None come from --width, --depth and --activation."""

    text: str
    family: str
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    readout: str | None = None


def architecture(text: str, option: str = "--net") -> Architecture:
    """The network that a text names. Raises `InputError`, with the likely correction, if it names none."""
    name, *parts = text.split(":")
    if name not in FAMILIES:
        likely = difflib.get_close_matches(name, FAMILIES, 1)
        raise InputError(
            f"Expected {option} to be one of {', '.join(FAMILIES)}, as mlp:256x3:relu; got {text!r}."
            f"{f' Perhaps you meant {likely[0]}.' if likely else ''}"
        )
    found = Architecture(text, name)
    for part in parts:
        found = _with_part(found, part, option)
    return found


def _with_part(found: Architecture, part: str, option: str) -> Architecture:
    family, text = FAMILIES[found.family], found.text
    if size := SIZE.fullmatch(part):
        if found.width is not None:
            raise InputError(f"Expected one size in {option} {text}; got a second one, {part!r}.")
        if size[2] and family.depth is None:
            raise InputError(f"Expected a width alone after {found.family}, as {found.family}:64; got {part!r}.")
        return found._replace(width=int(size[1]), depth=int(size[2]) if size[2] else None)
    if part in READOUTS and family.readout is not None and found.readout is None:
        return found._replace(readout=part)
    taken = part in READOUTS or found.activation is not None
    likely = difflib.get_close_matches(part, READOUTS, 1) if family.readout is not None else []
    if taken or likely or not WORD.fullmatch(part):
        choices = " or ".join(["a size such as 64x2", "an activation", *(READOUTS if family.readout else ())])
        hint = f" Perhaps you meant {likely[0]}." if likely and likely[0] != part else ""
        raise InputError(f"Expected {choices}, each at most once, after {found.family}; got {part!r}.{hint}")
    return found._replace(activation=part)
