"""Outlines of jaxprs, compared to decide whether f treats batches of different lengths alike.

>>> import jax, jax.numpy as jnp
>>> def of(f, n):
...     return outline(jax.make_jaxpr(f)(jnp.ones((n, 3))), n)
>>> are_alike(of(lambda x: 2 * x, 4), 4, of(lambda x: 2 * x, 31), 31)
True
>>> are_alike(of(lambda x: x / len(x), 4), 4, of(lambda x: x / len(x), 31), 31)
False
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import jax.extend.core as jex
import numpy as np

from ntkbias.checks import are_known

__all__ = ["are_alike", "lengths", "outline"]

MOST_READ = 2**20  # entries: larger constants are compared by identity


def outline(closed: Any, batch: int) -> tuple[int | str, ...]:
    """The equations of a jaxpr in order, as strings and integers: names, shapes, options and constants.

    If a constant is equal along an axis whose length is a multiple of `batch`, only its first entry there counts.
    """
    return tuple(_parts(closed, batch))


def are_alike(one: tuple[int | str, ...], batch: int, other: tuple[int | str, ...], other_batch: int) -> bool:
    """Whether two outlines, made for `batch` and `other_batch` examples, differ in nothing but these lengths."""
    return len(one) == len(other) and all(
        a == b or (isinstance(a, int) and isinstance(b, int) and a % batch == 0 and a // batch * other_batch == b)
        for a, b in zip(one, other, strict=True)
    )


def lengths(closed: Any) -> set[int]:
    """The lengths of all axes of all values in a jaxpr."""
    jaxpr = getattr(closed, "jaxpr", closed)
    found = {length for variable in (*jaxpr.invars, *jaxpr.constvars) for length in _shape(variable)}
    for equation in jaxpr.eqns:
        found.update(length for variable in equation.outvars for length in _shape(variable))
        for body in _bodies(equation):
            found |= lengths(body)
    return found


def _shape(variable: Any) -> tuple[int, ...]:
    return getattr(variable.aval, "shape", ())


def _parts(closed: Any, batch: int) -> Iterator[int | str]:
    jaxpr = getattr(closed, "jaxpr", closed)
    for value in getattr(closed, "consts", ()):
        yield from _constant(value, batch)
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for variable in equation.invars:
            if isinstance(variable, jex.Literal):
                yield from _constant(variable.val, batch)
        for variable in equation.outvars:
            yield str(getattr(variable.aval, "dtype", ""))
            yield from _shape(variable)
        for name, value in sorted(equation.params.items()):
            yield name
            yield from _option(value)
        for body in _bodies(equation):
            yield from _parts(body, batch)


def _option(value: Any) -> Iterator[int | str]:
    """An option of an equation. Functions and jaxprs give their type alone: `_parts` reads jaxprs itself."""
    if isinstance(value, bool | float | str | np.dtype) or value is None:
        yield str(value)
    elif isinstance(value, int | np.integer):
        yield int(value)
    elif isinstance(value, tuple | list | frozenset | set):
        yield len(value)
        for part in value if isinstance(value, tuple | list) else sorted(value, key=str):
            yield from _option(part)
    elif isinstance(value, np.ndarray):
        yield hashlib.sha256(value.tobytes()).hexdigest()
    else:
        yield type(value).__name__


def _constant(value: Any, batch: int) -> Iterator[int | str]:
    """A constant: its type, shape and a digest of its values; if it is large or has no values, its identity."""
    if math.prod(np.shape(value)) > MOST_READ or not are_known(value):
        yield str(id(value))
        return
    try:
        array = np.asarray(value)
    except TypeError:  # a key of jax.random
        yield str(id(value))
        return
    yield str(array.dtype)
    yield from array.shape
    for axis, length in enumerate(array.shape):
        if length and length % batch == 0 and bool(np.all(array == array.take([0], axis))):
            array = array.take([0], axis)
    yield hashlib.sha256(array.tobytes()).hexdigest()


def _bodies(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns"):
                yield part
