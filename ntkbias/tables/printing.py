"""Base classes of values that print as tables, or in one line.

A type defines its table in one method, `_table`. The base class does the rest. It copies arrays to the host, so that
printing compiles nothing. It shows the first of several values stacked by `vmap`. It prints traced values as equinox
prints its modules.

>>> from ntkbias.scaling import Interval
>>> Interval(1.234, 1.2, 1.261)                        # one of many
1.23 (1.20 to 1.26)
"""

import dataclasses
import html
import typing
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ntkbias.tables.table import Table
from ntkbias.tables.texts import Fact

__all__ = ["MOST_ROWS", "Described", "Printed", "printed", "printed_html"]

MOST_ROWS = 12  # rows of a table by default
MOST_NUMBERS = 2**20  # size of the largest array that printing copies to the host; of larger ones, `_table` gets shapes


class Printed(eqx.Module):
    """A value that prints as a table, in a terminal and in a notebook.

    A subclass defines its contents in `_table`. Traced values, as under `jit`, print as equinox's modules do.
    """

    def table(self, num_rows: int = MOST_ROWS) -> Table:
        """The table that printing shows, with up to `num_rows` rows; for values stacked by `vmap`, that of the first.

        It evaluates no kernel and compiles nothing.
        """
        axes = _stacked_axes(self)
        with np.errstate(all="ignore"):
            found = _on_host(self, len(axes))._table(num_rows)
        if not axes:
            return found
        sizes = " by ".join(f"{size:,}" for size in axes)
        return dataclasses.replace(found, notes=[*found.notes, f"The first of {sizes} stacked values."])

    def facts(self) -> list[Fact]:
        """The facts about the value as a whole, each as data and as text."""
        axes = _stacked_axes(self)
        with np.errstate(all="ignore"):
            return _on_host(self, len(axes))._facts()

    def _facts(self) -> list[Fact]:
        """The facts of one value, whose arrays are NumPy arrays."""
        return []

    def _table(self, num_rows: int) -> Table:
        """The table of one value, whose arrays are NumPy arrays; a shape without data may replace a large array."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return printed(self)

    def _repr_html_(self) -> str:
        return printed_html(self)


class Described(Printed):
    """A value that prints in one line, given by the format string `form` or by a subclass's method `described`.

    Printing reads no arrays, so parameters stay on their device and may be traced.
    """

    form = "{0.__class__.__name__}"

    def described(self) -> str:
        """The line that printing shows: `form`, in which {0} is the value."""
        return self.form.format(self)

    def table(self, num_rows: int = MOST_ROWS) -> Table:
        """The table that printing shows: `described`, or in some subclasses one row per part."""
        return Table(self.described())


def printed(value: Any) -> str:
    """The table of a value as text; if there is none, as for traced arrays, equinox's text of the pytree."""
    try:
        return value.table().text()
    except Exception:  # the value is traced, holds other leaves than arrays, or is incomplete
        return eqx.tree_pformat(value)


def printed_html(value: Any) -> str:
    """The table of a value as HTML for a notebook; if there is none, equinox's text of the pytree."""
    try:
        return value.table().html()
    except Exception:
        return f"<pre>{html.escape(eqx.tree_pformat(value))}</pre>"


def _on_host(value: Any, num_axes: int) -> Any:
    """The value with NumPy arrays in place of JAX arrays, whose operations would compile; the first, if stacked."""

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        if isinstance(leaf, jax.Array) and leaf.size > MOST_NUMBERS:
            return jax.ShapeDtypeStruct(leaf.shape[num_axes:], leaf.dtype)
        array = np.asarray(leaf)
        return array[(0,) * num_axes] if 0 < num_axes <= array.ndim else array

    return jax.tree.map(own, value)


def _stacked_axes(value: Any) -> tuple[int, ...]:
    """The axes that a value has beyond those of its annotations: several values, as `vmap` returns them."""
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        own = _num_axes(field.type)
        if own is not None:
            shape = np.shape(part)
            return shape[: max(0, len(shape) - own)]
        for inner in part if isinstance(part, tuple) else (part,):
            if isinstance(inner, Printed) and (axes := _stacked_axes(inner)):
                return axes
    return ()


def _num_axes(annotation: Any) -> int | None:
    """The number of axes in an annotation; None if the annotation does not fix it."""
    if annotation in (float, int):
        return 0
    shape = getattr(annotation, "dim_str", None)
    if shape is not None:
        return None if "*" in shape or "..." in shape else len(shape.split())
    options = [_num_axes(option) for option in typing.get_args(annotation) if option is not type(None)]
    return options[0] if options and None not in options else None
