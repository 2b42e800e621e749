"""A comparison or a history as one self-contained HTML page, as figures, as a table for a terminal, and as JSON.

The page begins with a question, its answer and what is uncertain. Figures follow, each with a caption that explains how
to read it, then tables, and how the page was made: date, command, versions, settings and papers. It loads no other
files. The script of a comparison only adds switches, and the numbers of a mode under the pointer: the page is complete
without it.

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
from ntkbias.report.making import how_made
from ntkbias.report.page import framed
from ntkbias.report.papers import papers_of
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
    """Write the page to `path`, completely or not at all, and return the path.

    `settings` are the settings of the run, possibly nested; the page lists them at the end. It shows the command that
    "command_line", or "command" with "options", names. `pictures` are the SVG texts of the value's `figures` by name,
    if you have drawn them already; drawing costs about a second per figure. The page begins with the question, its
    answer in two sentences (`Comparison.answer`), and what is uncertain (`Comparison.uncertainty`).

    Raises `InputError` if the file cannot be written.

    >>> import tempfile, ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
    >>> found = nb.compare(kernels, x, nb.domains.Circle(), weights=weights)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = nb.report.write_report(f"{folder}/page.html", found, title="One kernel", settings={"depth": 2})
    ...     print(page.name, page.read_text().count("<h1>"))
    page.html 1
    """
    path = files.checked_path(path)
    sections, value = _sections_for(value)
    if pictures is None:
        pictures = {name: plots.svg(figure) for name, figure in sections.figures(value).items()}
    page = framed([*sections.body(value, pictures), how_made(papers_of(value), settings)], title, sections.SCRIPT)
    files.write(path, lambda file: file.write(page.encode()))
    return path


def write_facts(path: str | Path, value: Comparison | History) -> Path:
    """Write the facts that the table and the page show as JSON to `path`, completely or not at all; return the path.

    The JSON maps labels to numbers; a comparison has one such dictionary per kernel. A number that is not defined is
    null. An interval is {"value", "low", "high"}, and a change over a history is [first, last]. Raises `InputError` if
    the file cannot be written.

    >>> import json, tempfile, ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
    >>> found = nb.compare(kernels, x, nb.domains.Circle(), weights=weights)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     facts = json.loads(nb.report.write_facts(f"{folder}/facts.json", found).read_text())
    >>> list(facts)
    ['mlp']
    """
    path = files.checked_path(path)
    text = json.dumps(facts_as_data(_sections_for(value)[1]), indent=1) + "\n"
    files.write(path, lambda file: file.write(text.encode()))
    return path


def figures(value: Comparison | History) -> dict[str, Figure]:
    """All figures of the page for a comparison or a history, by file name without suffix.

    A comparison has "spectra", "frequency", "cumulative_power" if there are targets, "energy_<kernel>" if the domain
    has harmonics, and "eigenfunctions_<kernel>". <kernel> is the kernel's name in lower-case letters, digits and
    underscores. A history has "evolution", and "eigenvalues", "alignments", "residual_spectrum" and "output_spectrum"
    if they were measured. The figures belong to no window and need not be closed.

    >>> import ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
    >>> found = nb.compare(kernels, x, nb.domains.Circle(), weights=weights)
    >>> list(nb.report.figures(found))
    ['spectra', 'frequency', 'energy_mlp', 'eigenfunctions_mlp']
    """
    sections, value = _sections_for(value)
    return sections.figures(value)


def figure_names(kernels: list[str] | None) -> list[str]:
    """The names that `figures` may return for a comparison of these kernels, or for a history if `kernels` is None.

    >>> import ntkbias as nb
    >>> nb.report.figure_names(["an MLP"])
    ['spectra', 'frequency', 'cumulative_power', 'energy_an_mlp', 'eigenfunctions_an_mlp']
    """
    return history.figure_names() if kernels is None else comparison.figure_names(kernels)


def table(value: Comparison | History, num_rows: int = 10) -> str:
    """A comparison's table of kernels and of each one's first modes, or snapshots, as text of about 100 columns.

    >>> import ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(16)
    >>> kernels = {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=2))}
    >>> found = nb.compare(kernels, x, nb.domains.Circle(), weights=weights)
    >>> print(nb.report.table(found, num_rows=2).splitlines()[0])
    mlp
    """
    sections, value = _sections_for(value)
    return sections.table(value, num_rows)


def _sections_for(value: Any) -> tuple[ModuleType, Any]:
    """The module that reports this kind of value, and the value in the form that the module takes."""
    if isinstance(value, Comparison):
        return comparison, on_host(value)
    if isinstance(value, History):
        return history, value
    raise InputTypeError(f"Expected a Comparison or a History; got {type(value).__name__}. Use compare or track.")


def __dir__() -> list[str]:
    return sorted(__all__)
