"""Formats of numbers, intervals, shares and names in all tables.

>>> from ntkbias.tables.texts import interval, number
>>> interval(-0.5, -0.5316, -0.4792), number(12345.6), number(3e-9)
('-0.500 (-0.532 to -0.479)', '12,346', '3.00e-09')
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Fact", "brackets", "counted", "explained", "interval", "name_of", "number", "percent", "spaced"]

MEANINGS = {  # what columns with these heads hold
    "": "Rows joined by /, | and \\ are the modes of one eigenspace.",
    "time": "Time is steps times learning rate.",
    "frequency": "Frequencies are in radians per unit of length.",
    "residual's frequency": "Frequencies are in radians per unit of length.",
    "95 % interval": "Intervals of frequencies and of rho resample the inputs and keep each mode as it is.",
    "purity": "Purity is the share of a mode's power that lies in its main degree.",
    "learning time": "The learning time is 1 / eigenvalue, in steps times learning rate.",
    "kappa": "Regression learns a mode of rate r to the share r / (r + kappa).",
    "kernel drift": "The kernel drift is the change of the kernel since the start, divided by its norm at the start.",
}

EXACT = 1e-6  # relative to the largest end: half widths below this are rounding


def number(value: Any) -> str:
    """The number with three significant digits; from 1,000 to ten million, as a whole number with separators."""
    value = float(value)
    if math.isfinite(value) and 999.5 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def interval(value: Any, low: Any, high: Any) -> str:
    """A number and the ends of its interval, all with the same number of decimals: "1.23 (1.20 to 1.26)".

    The number has three significant digits, but at most one decimal more than three digits of the largest end need. A
    narrow interval gets more decimals, so that its ends differ. An interval of no width beyond rounding is left out.
    """
    numbers = [float(each) for each in (value, low, high)]
    largest = max(map(abs, numbers))
    if math.isfinite(largest) and max(numbers) - min(numbers) <= EXACT * largest:
        return number(value)
    if not all(map(math.isfinite, numbers)) or not 1e-3 <= largest < 999.5:
        value_text, low_text, high_text = map(number, numbers)
        return f"{value_text} ({low_text} to {high_text})"
    fewest = 2 - math.floor(math.log10(largest))
    decimals = fewest
    if numbers[0]:
        decimals = min(2 - math.floor(math.log10(abs(numbers[0]))), fewest + 1)
    half = (numbers[2] - numbers[1]) / 2
    if half > EXACT * largest:
        decimals = min(max(decimals, -math.floor(math.log10(half))), fewest + 3)
    value_text, low_text, high_text = (f"{each:.{decimals}f}" for each in numbers)
    return f"{value_text} ({low_text} to {high_text})"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The count and the noun, in its plural (by default with an s) unless the count is one."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def percent(part: Any, whole: Any, digits: int = 2) -> str:
    """A share of a whole in percent; "-" if the whole is zero."""
    return f"{float(part) / float(whole):.{digits}%}" if float(whole) else "-"


def brackets(groups: np.ndarray) -> list[str]:
    """A bracket mark for each member of consecutive groups: / first, | within, a backslash last; blank if alone."""
    before = np.concatenate([np.zeros(1, bool), groups[1:] == groups[:-1]])[: len(groups)]
    after = np.concatenate([before[1:], np.zeros(1, bool)])[: len(groups)]
    return np.select([before & after, before, after], ["|", "\\", "/"], " ").tolist()


def explained(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Sentences with the units and the meaning of those columns that need them; of bracket marks only if there are any.

    >>> explained({"time": ["0.5", "1.0"], "loss": ["0.2", "0.1"]})
    ['Time is steps times learning rate.']
    """
    shown = [head for head, cells in columns.items() if head in MEANINGS and (head or any(map(str.strip, cells)))]
    return list(dict.fromkeys(MEANINGS[head] for head in shown))


def spaced(count: int, num_rows: int) -> list[int]:
    """At most `num_rows` of `count` indices, from the first to the last, at about equal distances."""
    return np.unique(np.linspace(0, count - 1, num_rows).round().astype(int)).tolist() if count else []


def name_of(f: Any) -> str:
    """The name of a function in its source. A wrapper adds its own type; a compiled `Function` does not."""
    if name := getattr(f, "__qualname__", None):
        return str(name).rpartition("<locals>.")[2]
    inner = getattr(f, "f", None)
    if inner is None:
        return type(f).__name__
    return name_of(inner) if hasattr(f, "programs") else f"{type(f).__name__}({name_of(inner)})"


class Fact(NamedTuple):
    """One fact. Its value is data for JSON (None if it is not defined), and its text is plain ASCII."""

    label: str
    value: Any
    text: str

    @classmethod
    def of_number(cls, label: str, value: Any) -> "Fact":
        """A fact with one number."""
        return cls(label, _finite(value), number(value))

    @classmethod
    def of_interval(cls, label: str, value: Any, low: Any, high: Any, text: str) -> "Fact":
        """A fact with a number and its interval; `text` formats both."""
        return cls(label, {"value": _finite(value), "low": _finite(low), "high": _finite(high)}, text)

    @classmethod
    def of_ends(cls, label: str, first: Any, last: Any) -> "Fact":
        """A fact with the two ends of a range, or the first and last values of a history."""
        return cls(label, [_finite(first), _finite(last)], f"{number(first)} to {number(last)}")

    def __str__(self) -> str:
        return f"{self.label} {self.text}"


def _finite(value: Any) -> float | None:
    """The number, or None if it is not finite, because JSON has no NaN or infinity."""
    return float(value) if math.isfinite(float(value)) else None
