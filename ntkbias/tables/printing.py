"""Values that print as tables, or in a line.

A type says in one method, `_table`, what is to be read of it. Here is what all of them share: arrays are brought to the
host, so that nothing is compiled; of values stacked by `vmap` the first is shown; traced ones print as any of equinox's
modules.

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

MOST_ROWS = 12  # of a table, unless more are asked for
MOST_NUMBERS = 2**20  # of an array that is brought to the host to be printed: of a larger one the shape alone


class Printed(eqx.Module):
    """A value that prints as a table, in a terminal and in a notebook.

    A subclass says by `_table` what is in it. Traced values, as under `jit`, print as equinox's modules do.
    """

    def table(self, num_rows: int = MOST_ROWS) -> Table:
        """What printing shows, with up to `num_rows` rows. Of values stacked by `vmap` it is that of the first one.

        Costs no evaluation of a kernel, and compiles nothing.
        """
        axes = _stacked_axes(self)
        with np.errstate(all="ignore"):
            found = _on_host(self, len(axes))._table(num_rows)
        if not axes:
            return found
        sizes = " by ".join(f"{size:,}" for size in axes)
        return dataclasses.replace(found, notes=[*found.notes, f"The first of {sizes} stacked values."])

    def facts(self) -> list[Fact]:
        """What is to be known of it as a whole, each fact with its value as data and as a text."""
        axes = _stacked_axes(self)
        with np.errstate(all="ignore"):
            return _on_host(self, len(axes))._facts()

    def _facts(self) -> list[Fact]:
        """The facts of one value, whose arrays are NumPy's."""
        return []

    def _table(self, num_rows: int) -> Table:
        """The table of one value, whose arrays are NumPy's; of a large array there may be its shape alone."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return printed(self)

    def _repr_html_(self) -> str:
        return printed_html(self)


class Described(Printed):
    """A value that prints in a line: `form`, in which {0} stands for it, or what a subclass's `described` says.

    It reads no arrays, so that parameters stay where they are, and may be traced.
    """

    form = "{0.__class__.__name__}"

    def described(self) -> str:
        """The line."""
        return self.form.format(self)

    def table(self, num_rows: int = MOST_ROWS) -> Table:
        """What printing shows: `described`, or a row for each of its parts."""
        return Table(self.described())


def printed(value: Any) -> str:
    """The table of a value as text; without one, as of traced arrays, what equinox says of a pytree."""
    try:
        return value.table().text()
    except Exception:  # traced, a pytree of something else, half made
        return eqx.tree_pformat(value)


def printed_html(value: Any) -> str:
    """The same for a notebook."""
    try:
        return value.table().html()
    except Exception:
        return f"<pre>{html.escape(eqx.tree_pformat(value))}</pre>"


def _on_host(value: Any, num_axes: int) -> Any:
    """The value with NumPy's arrays for JAX's, of which each operation would compile; of several stacked the first."""

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
        own, shape = _num_axes(field.type), np.shape(getattr(value, field.name))
        if own is not None:
            return shape[: max(0, len(shape) - own)]
    return ()


def _num_axes(annotation: Any) -> int | None:
    """How many axes an annotation asks for; None where it says no number of them."""
    if annotation in (float, int):
        return 0
    shape = getattr(annotation, "dim_str", None)
    if shape is not None:
        return None if "*" in shape or "..." in shape else len(shape.split())
    options = [_num_axes(option) for option in typing.get_args(annotation) if option is not type(None)]
    return options[0] if options and None not in options else None
