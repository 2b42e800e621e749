"""The settings of a study, changed by name, and checked by type and value: the same for Python and the command line.

The study's own settings say what is sensible. Numbers keep the sign that they have at all scales: whole numbers that
are counts stay at least 1, and a rate, a time, a scale or a spacing stays above zero. Lists that ascend still ascend,
and lists of several values keep two or more.

>>> from ntkbias.studies import study_of
>>> study = study_of("hypercube")
>>> changed(study, "small", {"depths": [1, 2, 4]}).depths
(1, 2, 4)
>>> changes_of(study, ["depths=1,2,4", "b_std=0.1"])
{'depths': (1, 2, 4), 'b_std': 0.1}
"""

import dataclasses
import difflib
import itertools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ntkbias.errors import InputError, InputTypeError
from ntkbias.studies.study import Study

__all__ = ["as_text", "changed", "changes_of"]

WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
ABOVE_ZERO = ("rate", "rates", "time", "scale", "spacing")  # the last word of settings that may not be zero
FLAGS = {"true": True, "false": False}


def changed(study: Study, scale: str, changes: Mapping[str, Any]) -> Any:
    """The settings of a scale with some replaced by name.

    Lists become tuples, and whole numbers real ones where the field is. Raises `InputTypeError` on a value of another
    type than its field, and `InputError` on an unknown scale or name, and on a value that makes no sense.
    """
    if scale not in study.scales:
        raise InputError(f"Expected scale to be one of {', '.join(study.scales)}; got {scale!r}.")
    kinds = _kinds(study)
    found = {}
    for name, value in changes.items():
        _require_known(study, name, kinds)
        found[name] = _typed(f"the setting {name} of {study.name}", kinds[name], value)
        _require_sensible(study, name, found[name])
    return dataclasses.replace(study.scales[scale], **found)


def changes_of(study: Study, words: Iterable[str]) -> dict[str, Any]:
    """Settings from words name=value, typed by their fields: lists have commas, and "none" is no value.

    Raises `InputError` on a word without "=", an unknown or repeated name, and text that the field's type cannot read.
    """
    kinds, found = _kinds(study), dict[str, Any]()
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise InputError(f"Expected --set name=value, such as --set {next(iter(kinds))}=1; got {word!r}.")
        _require_known(study, name, kinds)
        if name in found:
            raise InputError(f"Expected each setting once; got {name} twice.")
        found[name] = _read(name, kinds[name], text.strip())
    return found


def as_text(value: Any) -> str:
    """A setting as `changes_of` reads it."""
    if isinstance(value, tuple):
        return ",".join(map(as_text, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _kinds(study: Study) -> dict[str, Any]:
    """The type of each setting by name."""
    settings = type(next(iter(study.scales.values())))
    hints = typing.get_type_hints(settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def _require_known(study: Study, name: str, kinds: Mapping[str, Any]) -> None:
    if name not in kinds:
        likely = difflib.get_close_matches(name, kinds, 1)
        hint = f" Perhaps you meant {likely[0]}." if likely else ""
        raise InputError(f"Expected settings of {study.name}, {', '.join(kinds)}; got {name!r}.{hint}")


def _required(kind: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was among its values."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (own,) = (each for each in typing.get_args(kind) if each is not type(None))
        return own, True
    return kind, False


def _typed(what: str, kind: Any, value: Any) -> Any:
    """The value in the type of its field."""
    kind, may_lack = _required(kind)
    if value is None and may_lack:
        return None
    if typing.get_origin(kind) is tuple:
        each, *rest = typing.get_args(kind)
        if not isinstance(value, list | tuple | np.ndarray):
            raise InputTypeError(f"Expected {what} to be a list, each {WORDS.get(each, each)}; got {value!r}.")
        if rest != [...] and len(value) != len(rest) + 1:
            raise InputError(f"Expected {what} to have {len(rest) + 1} values; got {len(value)}: {value!r}.")
        return tuple(_typed(f"each of {what}", each, one) for one in value)
    accepted: dict[Any, Any] = {int: int | np.integer, float: int | float | np.integer | np.floating, str: str | Path}
    fits = isinstance(value, accepted.get(kind, kind)) and (kind is bool or not isinstance(value, bool | np.bool_))
    if not fits:
        raise InputTypeError(f"Expected {what} to be {WORDS.get(kind, kind)}; got {value!r}.")
    return kind(value)


def _read(name: str, kind: Any, text: str) -> Any:
    """The value that a text of the command line stands for."""
    kind, may_lack = _required(kind)
    if may_lack and text.lower() == "none":
        return None
    if typing.get_origin(kind) is tuple:
        parts = text.strip("()[] ").removesuffix(",").split(",")
        return tuple(_read(name, typing.get_args(kind)[0], part.strip()) for part in parts)
    readers: dict[Any, Callable[[str], Any]] = {bool: lambda word: FLAGS[word.lower()]}
    try:
        return readers.get(kind, kind)(text)
    except (ValueError, KeyError):
        raise InputError(f"Expected --set {name}= to be {WORDS.get(kind, kind)}; got {text!r}.") from None


def _require_sensible(study: Study, name: str, value: Any) -> None:
    """Raise an `InputError` on a value that makes no sense, by the study's own values at its scales."""
    own = [getattr(settings, name) for settings in study.scales.values()]
    what = f"the setting {name} of {study.name}"
    if isinstance(value, tuple):
        lists = [each for each in own if isinstance(each, tuple)]
        least = min([2, *map(len, lists)])
        if len(value) < least:
            raise InputError(f"Expected {what} to have {least} values or more; got {len(value)}: {value!r}.")
        ordered = all(map(_ascends, lists)) and any(len(each) > 1 for each in lists)
        if ordered and not _ascends(value):
            raise InputError(f"Expected {what} in ascending order, each value once; got {value!r}.")
        own, values = [one for each in lists for one in each], value
    else:
        own, values = [one for one in own if one is not None], (value,)
    numbers = [one for one in own if isinstance(one, int | float) and not isinstance(one, bool)]
    for one in values:
        if isinstance(one, bool | str | None) or not isinstance(one, int | float):
            continue
        if not math.isfinite(one):
            raise InputError(f"Expected {what} to be finite; got {one!r}.")
        if isinstance(one, int) and all(number >= 1 for number in numbers) and one < 1:
            raise InputError(f"Expected {what} to be at least 1; got {one!r}.")
        if name.rpartition("_")[2] in ABOVE_ZERO and all(number > 0 for number in numbers) and one <= 0:
            raise InputError(f"Expected {what} to be above zero; got {one!r}.")
        if all(number >= 0 for number in numbers) and one < 0:
            raise InputError(f"Expected {what} to be zero or more; got {one!r}.")


def _ascends(values: tuple) -> bool:
    return all(later > earlier for earlier, later in itertools.pairwise(values))
