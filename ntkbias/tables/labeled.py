"""Results as labeled arrays: an `xarray.Dataset`, or a `pandas.DataFrame` with one row per row of the printed table.

The annotations of a type name the axes of its arrays: `Float[Array, "n k"]` has the axes n and k. A type's `named_axes`
gives them words ("input", "mode"), and says which axes hold the rows of its table.

>>> import numpy as np
>>> from ntkbias.tables import Axes, Labeled
>>> rows = Labeled(Axes("mode"), {"eigenvalue": (("mode",), np.array([2.0, 0.5])), "trace": ((), np.array(2.5))})
>>> rows.to_pandas().loc[1, "eigenvalue"], sorted(rows.to_xarray().data_vars)
(np.float64(0.5), ['eigenvalue', 'trace'])
"""

import dataclasses
import importlib
import itertools
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ntkbias.errors import InputError

__all__ = ["Axes", "Labeled", "Variable", "dimensions", "joined", "spread", "variables_of"]

Variable = tuple[tuple[str, ...], np.ndarray]  # the names of the axes, and the values
ENDS = ("low", "high")  # along an axis of length two: the ends of an interval


class Axes:
    """The names of the axes of a type's arrays, and which of them hold the rows of its table.

    `words` maps the names in annotations to words. `index` maps an axis to the field that has its labels. `also` are
    properties of the type that its tables include.
    """

    def __init__(
        self, *rows: str, index: Mapping[str, str] | None = None, also: Sequence[str] = (), **words: str
    ) -> None:
        self.rows, self.index, self.also, self.words = rows, dict(index or {}), tuple(also), words


@dataclasses.dataclass(frozen=True)
class Labeled:
    """Arrays with named axes. `coordinates` are arrays along the axes; one with the name of an axis labels it.

    The axes in `columns` are short: in a data frame each of their entries has a column of its own.
    """

    axes: Axes
    variables: dict[str, Variable]
    coordinates: dict[str, Variable] = dataclasses.field(default_factory=dict)
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    columns: frozenset[str] = frozenset()
    present: np.ndarray | None = None  # of the rows: whether each is one, or fills up values of different lengths

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` of all arrays."""
        return _library("xarray").Dataset(self.variables, self.coordinates, self.attributes)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of the arrays along the rows. Numbers that belong to no row are in its `attrs`."""
        pandas = _library("pandas")
        rows = self._row_axes()
        sizes = self._sizes()
        shape = tuple(sizes[axis] for axis in rows)
        found: dict[str, np.ndarray] = {}
        alone: dict[str, Any] = dict(self.attributes)
        for name, (axes, values) in {**self.coordinates, **self.variables}.items():
            own = [axis for axis in axes if axis not in self.columns]
            if name in axes or not set(own) <= set(rows):
                continue
            if own or not rows:
                found |= self._columns(name, axes, values, rows, shape)
            elif not axes:
                alone[name] = values.item()
        labels = [self._labels(axis, sizes[axis]) for axis in rows]
        if len(rows) > 1:
            index = pandas.MultiIndex.from_product(labels, names=rows)
        else:
            index = pandas.Index(labels[0], name=rows[0]) if rows else pandas.RangeIndex(1)
        frame = pandas.DataFrame(found, index=index)
        frame = frame if self.present is None else frame[self.present.ravel()]
        frame.attrs = alone
        return frame

    def _row_axes(self) -> tuple[str, ...]:
        used = {axis for axes, _ in self.variables.values() for axis in axes}
        return tuple(axis for axis in self.axes.rows if axis in used)

    def _sizes(self) -> dict[str, int]:
        arrays = itertools.chain(self.variables.values(), self.coordinates.values())
        return {axis: size for axes, values in arrays for axis, size in zip(axes, values.shape, strict=True)}

    def _labels(self, axis: str, size: int) -> Any:
        return self.coordinates[axis][1] if axis in self.coordinates else np.arange(size)

    def _columns(
        self, name: str, axes: tuple[str, ...], values: np.ndarray, rows: tuple[str, ...], shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """The columns of one array: one, or one per entry of its short axes."""
        short = [axis for axis in axes if axis in self.columns]
        order = [axes.index(axis) for axis in (*short, *(axis for axis in rows if axis in axes))]
        values = np.transpose(values, order)
        sizes = values.shape[: len(short)]
        missing = [len(sizes) + place for place, axis in enumerate(rows) if axis not in axes]
        whole = np.broadcast_to(np.expand_dims(values, missing), (*sizes, *shape)).reshape(*sizes, -1)
        found = {}
        for entry in np.ndindex(*sizes):
            labels = [self._labels(axis, size)[at] for axis, size, at in zip(short, sizes, entry, strict=True)]
            found["_".join([name, *map(str, labels)])] = whole[entry]
        return found


def joined(axis: str, labels: Sequence[Any], parts: Sequence[Labeled]) -> Labeled:
    """Several values of one kind along a new first axis with these labels.

    Values of different lengths are filled up at their ends: with NaN, -1 for whole numbers, and False.
    """
    names = dict.fromkeys(name for part in parts for name in part.variables)
    variables = {name: _side_by_side(axis, [part.variables.get(name) for part in parts]) for name in names}
    coordinates: dict[str, Variable] = {axis: ((axis,), np.asarray(labels))}
    for name in dict.fromkeys(name for part in parts for name in part.coordinates):
        own = [part.coordinates[name] for part in parts if name in part.coordinates]
        longest = max(own, key=lambda each: each[1].size)
        if all(np.array_equal(values, longest[1][: len(values)]) for _, values in own):
            coordinates[name] = longest
        else:  # each value has its own labels along this axis
            variables[parts[0].axes.index.get(name, name)] = _side_by_side(axis, own)
    shared = set.intersection(*(set(part.attributes.items()) for part in parts))
    rows = parts[0].axes.rows
    columns = frozenset().union(*(part.columns for part in parts))
    found = Labeled(Axes(axis, *rows), variables, coordinates, dict(shared), columns)
    sizes = found._sizes()
    present = np.zeros((len(parts), *(sizes.get(row, 1) for row in rows)), bool)
    for place, part in enumerate(parts):
        own_sizes = part._sizes()
        region: Any = (place, *(slice(own_sizes.get(row, 1)) for row in rows))
        present[region] = True
    return dataclasses.replace(found, present=present)


def spread(
    labels: Mapping[str, Sequence[str]], columns: Mapping[str, Any], more: Mapping[str, str] | None = None
) -> Labeled:
    """The rows of a long table in arrays with one axis per column of labels; what is no row is NaN, -1 or False.

    `columns` have the rows as their first axis. `more` names the second axis of those that have one.
    """
    known = {axis: list(dict.fromkeys(names)) for axis, names in labels.items()}
    places = tuple(np.array([known[axis].index(name) for name in names], int) for axis, names in labels.items())
    shape = tuple(map(len, known.values()))
    present = np.zeros(shape, bool)
    present[places] = True
    variables: dict[str, Variable] = {}
    for name, column in columns.items():
        values = _on_host(column)
        whole = np.full((*shape, *values.shape[1:]), _missing(values.dtype), values.dtype)
        whole[places] = values
        variables[name] = (*labels, *([more[name]] if more and name in more else [])), whole
    coordinates: dict[str, Variable] = {axis: ((axis,), np.array(names, str)) for axis, names in known.items()}
    return Labeled(Axes(*labels), variables, coordinates, present=present)


def variables_of(value: Any) -> Labeled:
    """The arrays of a dataclass whose annotations name their axes."""
    axes: Axes = value.named_axes
    variables: dict[str, Variable] = {}
    attributes: dict[str, Any] = {}
    columns: set[str] = set()
    kinds = {field.name: field.type for field in dataclasses.fields(value)}
    static = {field.name for field in dataclasses.fields(value) if field.metadata.get("static")}
    kinds |= {name: typing.get_type_hints(getattr(type(value), name).fget)["return"] for name in axes.also}
    for name, kind in kinds.items():
        part, names = getattr(value, name), dimensions(kind)
        if name in static:
            attributes |= {name: part} if isinstance(part, str | int | float) else {}
        elif part is not None and names is not None:
            variables[name] = _named(axes, names, _on_host(part), columns)
        elif part is not None:
            variables |= _inner(name, part)
    coordinates: dict[str, Variable] = {}
    for axis, name in axes.index.items():
        if name in variables:
            coordinates[axis] = variables.pop(name)
        elif any(axis in own for own, _ in variables.values()):
            coordinates[axis] = (axis,), np.asarray(getattr(value, name))
    if any("end" in own for own, _ in variables.values()):
        coordinates["end"] = ("end",), np.asarray(ENDS)
    return Labeled(axes, variables, coordinates, attributes, frozenset(columns))


def dimensions(annotation: Any) -> str | None:
    """The names of the axes in an annotation, such as "n *o k"; "" for a number, and None if it names none."""
    if annotation in (float, int):
        return ""
    shape = getattr(annotation, "dim_str", None)
    if shape is not None:
        return None if "..." in shape else shape
    options = [dimensions(option) for option in typing.get_args(annotation) if option is not type(None)]
    return options[0] if options and None not in options else None


def _named(axes: Axes, names: str, values: np.ndarray, columns: set[str]) -> Variable:
    """The values of one array with words for its axes. Adds its short axes to `columns`."""
    listed = names.split()
    free = values.ndim - len([name for name in listed if not name.startswith("*")])
    found: list[str] = []
    for name in listed:
        word = axes.words.get(name.lstrip("*"), name.lstrip("*"))
        if name.startswith("*"):
            own = [word] if free == 1 else [f"{word}_{place}" for place in range(free)]
            columns.update(set(own) - set(axes.rows))
        elif name == "2":
            own = ["end"]
            columns.add("end")
        else:
            own = [word]
        found += own
    return tuple(found), values


def _side_by_side(axis: str, parts: Sequence[Variable | None]) -> Variable:
    """One array of several values, of the largest shape among them."""
    known = [values for part in parts if part is not None for values in part[1:]]
    dtype = np.result_type(*known)
    shape = np.max([values.shape for values in known], 0).astype(int)
    whole = np.full((len(parts), *shape), _missing(dtype), dtype if dtype.kind != "u" else int)
    for place, part in enumerate(parts):
        if part is not None:
            region: Any = (place, *(slice(size) for size in part[1].shape))
            whole[region] = part[1]
    return (axis, *next(part[0] for part in parts if part is not None)), whole


def _missing(dtype: np.dtype) -> Any:
    return {"b": False, "i": -1, "u": -1}.get(dtype.kind, np.nan)


def _inner(name: str, part: Any) -> dict[str, Variable]:
    """The numbers of a value without rows inside another one, under joined names."""
    own = getattr(part, "named_axes", None)
    if own is None or own.rows:
        return {}
    return {f"{name}_{inner}": each for inner, each in variables_of(part).variables.items()}


def _on_host(part: Any) -> np.ndarray:
    array = np.asarray(part)
    return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"Expected {name} to be installed; it is not. pip install 'ntkbias[tables]'.") from error
