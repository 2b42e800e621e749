"""What a program consists of, apart from the number of its examples: to tell whether other batches are treated alike.

>>> import jax, jax.numpy as jnp
>>> def of(f, n):
...     return outline(jax.make_jaxpr(f)(jnp.ones((n, 3))), n)
>>> of(lambda x: 2 * x, 4) == of(lambda x: 2 * x, 5), of(lambda x: x / len(x), 4) == of(lambda x: x / len(x), 5)
(True, False)
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import jax.extend.core as jex
import numpy as np

from ntkbias.checks import are_known

__all__ = ["lengths", "outline"]

MOST_READ = 2**20  # entries of a constant


def outline(closed: Any, batch: int) -> str:
    """A digest of a program's equations in their order: names, numbers and options, but for shapes.

    Of a constant with an axis of `batch` entries the first one counts.
    """
    digest = hashlib.sha256()
    for part in _parts(closed, batch):
        digest.update(part.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def lengths(closed: Any) -> set[int]:
    """The lengths of all axes of all values in a program."""
    jaxpr = getattr(closed, "jaxpr", closed)
    found = {length for variable in (*jaxpr.invars, *jaxpr.constvars) for length in _shape(variable)}
    for equation in jaxpr.eqns:
        found.update(length for variable in equation.outvars for length in _shape(variable))
        for body in _bodies(equation):
            found |= lengths(body)
    return found


def _shape(variable: Any) -> tuple[int, ...]:
    return getattr(variable.aval, "shape", ())


def _parts(closed: Any, batch: int) -> Iterator[str]:
    jaxpr = getattr(closed, "jaxpr", closed)
    for value in getattr(closed, "consts", ()):
        yield _number(value, batch)
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for variable in equation.invars:
            if isinstance(variable, jex.Literal):
                yield _number(variable.val, batch)
        for name, value in sorted(equation.params.items()):
            if isinstance(value, bool | int | float | str):
                yield f"{name}={value!r}"
        for body in _bodies(equation):
            yield from _parts(body, batch)


def _number(value: Any, batch: int) -> str:
    """A constant in words: its numbers; of a large one, or one without numbers, which object it is."""
    if math.prod(np.shape(value)) > MOST_READ or not are_known(value):
        return str(id(value))
    try:
        array = np.asarray(value)
    except TypeError:  # a key of jax.random
        return str(id(value))
    for axis, length in enumerate(array.shape):
        if length == batch:
            array = array.take([0], axis)
    return f"{array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"


def _bodies(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns"):
                yield part
