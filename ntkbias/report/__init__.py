"""A comparison or a history as one self-contained HTML page, as figures, as a table for a terminal, and as JSON.

The page holds what a reader needs to judge it: a summary in words, tables, figures with a text each that tells how to
read it, and the settings and versions behind it all. It has no scripts and loads nothing.

>>> import ntkbias as nb
>>> x, weights = nb.domains.Circle().quadrature(32)
>>> found = nb.compare({"mlp": nb.infinite_ntk(nb.nets.mlp())}, x, nb.domains.Circle(), weights=weights)
>>> list(figures(found))
['spectra', 'frequency', 'energy_mlp', 'eigenfunctions_mlp']
>>> print(table(found, 3).splitlines()[0])
mlp
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from matplotlib.figure import Figure

from ntkbias import files, plots
from ntkbias.comparison import Comparison
from ntkbias.errors import InputTypeError
from ntkbias.report import comparison, history
from ntkbias.report.facts import facts_as_data, on_host
from ntkbias.report.page import framed
from ntkbias.tracking import History

__all__ = ["figure_names", "figures", "table", "write_facts", "write_report"]


def write_report(
    path: str | Path,
    value: Comparison | History,
    *,
    title: str,
    settings: dict[str, Any],
    pictures: dict[str, str] | None = None,
) -> Path:
    """Write the page to `path`, whole or not at all, and return the path.

    `settings`, which may be nested, are what the run depended on; they stand at the end. `pictures` are the SVG texts
    of the value's `figures`, by name, where they were drawn before: each costs a second or so. Raises `InputError` if
    the file cannot be written.
    """
    path = files.checked_path(path)
    room, value = _room(value)
    if pictures is None:
        pictures = {name: plots.svg(figure) for name, figure in room.figures(value).items()}
    page = framed(room.body(value, pictures), title, settings)
    files.write(path, lambda file: file.write(page.encode()))
    return path


def write_facts(path: str | Path, value: Comparison | History) -> Path:
    """Write the facts that table and page show as JSON to `path`, whole or not at all, and return the path.

    Of a comparison a dictionary by kernel, of a history one: from labels to numbers, None where one is not defined;
    of intervals {"value", "low", "high"}, of a history [first, last]. Raises `InputError` if it cannot be written.
    """
    path = files.checked_path(path)
    text = json.dumps(facts_as_data(_room(value)[1]), indent=1) + "\n"
    files.write(path, lambda file: file.write(text.encode()))
    return path


def figures(value: Comparison | History) -> dict[str, Figure]:
    """All figures of a comparison or a history by file name, without suffix: what the page shows.

    Of a comparison "spectra", "frequency"; "cumulative_power" if there are targets; "energy_<kernel>" where there are
    harmonics, and "eigenfunctions_<kernel>", with the kernel's name in lower-case letters, digits and underscores. Of a
    history "evolution", and "eigenvalues", "alignments", "residual_spectrum" and "output_spectrum" where they were
    measured. They belong to no window, and need no closing.
    """
    room, value = _room(value)
    return room.figures(value)


def figure_names(kernels: list[str] | None) -> list[str]:
    """The names that `figures` may give: of a comparison of these kernels, or of a history where there are none."""
    return history.figure_names() if kernels is None else comparison.figure_names(kernels)


def table(value: Comparison | History, num_rows: int = 10) -> str:
    """The first modes of each kernel, or snapshots from first to last, as text of some 100 columns."""
    room, value = _room(value)
    return room.table(value, num_rows)


def _room(value: Any) -> tuple[ModuleType, Any]:
    """The module for this kind of value, and the value as that takes it."""
    if isinstance(value, Comparison):
        return comparison, on_host(value)
    if isinstance(value, History):
        return history, value
    raise InputTypeError(f"Expected a Comparison or a History; got {type(value).__name__}. Use compare or track.")


def __dir__() -> list[str]:
    return sorted(__all__)
