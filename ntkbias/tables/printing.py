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
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ntkbias.tables.labeled import Axes, Labeled, dimensions, joined, variables_of
from ntkbias.tables.table import Table
from ntkbias.tables.texts import Fact

__all__ = ["MOST_ROWS", "Described", "Printed", "Tabled", "printed", "printed_html"]

MOST_ROWS = 12  # rows of a table by default
MOST_NUMBERS = 2**20  # size of the largest array that printing copies to the host; of larger ones, `_table` gets shapes


class Tabled(eqx.Module):
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


class Printed(Tabled):
    """A result: a value that prints as a table, and whose arrays have named axes.

    The annotations of its fields name the axes. A subclass says in `named_axes` which of them are the table's rows.
    """

    named_axes = Axes()

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of numbers with one row per mode, size, time or snapshot: what the table lists.

        Its columns are the arrays along the rows. Numbers that belong to no row, such as a trace, are in its `attrs`.
        Arrays with further axes, such as eigenfunctions, are in `to_xarray` alone. Values stacked by `vmap` come first
        in the index. Copies the arrays to the host.

        Raises `InputError` if pandas is not installed; `pip install 'ntkbias[tables]'` brings it.
        """
        return self.labeled().to_pandas()

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` of all arrays whose axes have names. Copies the arrays to the host.

        Values stacked by `vmap` have the axis "stacked" first.

        Raises `InputError` if xarray is not installed; `pip install 'ntkbias[tables]'` brings it.
        """
        return self.labeled().to_xarray()

    def labeled(self) -> Labeled:
        """The arrays with the names of their axes, from which `to_pandas` and `to_xarray` are made."""
        if not (sizes := _stacked_axes(self)):
            return self._labeled()
        name = "stacked" if len(sizes) == 1 else f"stacked_{len(sizes)}"
        return joined(name, range(sizes[0]), [_one_of(self, place).labeled() for place in range(sizes[0])])

    def _labeled(self) -> Labeled:
        """The arrays of one value; by default those of its fields."""
        return variables_of(self)


class Described(Tabled):
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


def _one_of(stacked: Any, place: int) -> Any:
    """One of several values that `vmap` stacked."""
    return jax.tree.map(lambda leaf: leaf[place] if np.ndim(leaf) and eqx.is_array(leaf) else leaf, stacked)


def _stacked_axes(value: Any) -> tuple[int, ...]:
    """The axes that a value has beyond those of its annotations: several values, as `vmap` returns them."""
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        own = None if field.metadata.get("static") else _num_axes(field.type)
        if own is not None:
            shape = np.shape(part)
            return shape[: max(0, len(shape) - own)]
        for inner in part if isinstance(part, tuple) else (part,):
            if isinstance(inner, Printed) and (axes := _stacked_axes(inner)):
                return axes
    return ()


def _num_axes(annotation: Any) -> int | None:
    """The number of axes in an annotation; None if the annotation does not fix it."""
    names = dimensions(annotation)
    return None if names is None or "*" in names else len(names.split())
