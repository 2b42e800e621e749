"""The end of a command: write the results into the run folder, and then print them.

>>> import pathlib
>>> from ntkbias.cli.outcome import Outcome, print_outcome
>>> print_outcome(Outcome("mode  eigenvalue", pathlib.Path("runs/latest")))
mode  eigenvalue
Report: runs/latest/report.html
0
"""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ntkbias import files, plots, report, results
from ntkbias.comparison import Comparison
from ntkbias.progress import phase, progress
from ntkbias.tracking import History

__all__ = ["DIVERGED", "NOT_PRINTED", "Outcome", "file_names", "fill", "print_outcome"]

NOT_PRINTED, DIVERGED = 1, 3  # exit codes


class Outcome(NamedTuple):
    """The text that a command prints once its results are in the folder `out`. `stopped` says why it ended early."""

    text: str
    out: Path
    stopped: str | None = None


def file_names(value: str, figures: Iterable[str]) -> list[str]:
    """The names of all files of a run, given the name of its value ("comparison" or "history") and of its figures."""
    fixed = ["settings.json", f"{value}.npz", f"{value}.json", "table.txt", "facts.json", "report.html"]
    return [*fixed, *(f"{figure}{suffix}" for figure in figures for suffix in (".svg", ".png"))]


def fill(folder: Path, name: str, value: Comparison | History, settings: dict[str, Any], table: str) -> None:
    """Write the value, its settings, the table, the facts, the figures and the report into a folder."""
    results.save(folder / name, value)
    text = json.dumps(settings, indent=1) + "\n"
    files.write(folder / "settings.json", lambda file: file.write(text.encode()))
    files.write(folder / "table.txt", lambda file: file.write((table + "\n").encode()))
    report.write_facts(folder / "facts.json", value)
    phase("figures and page")
    figures = progress(report.figures(value).items(), "figures")
    pictures = {figure: plots.save(folder / figure, drawn) for figure, drawn in figures}
    title = f"ntkbias {settings['command']}: {settings['options']['data']}"
    report.write_report(folder / "report.html", value, title=title, settings=settings, pictures=pictures)


def print_outcome(outcome: Outcome) -> int:
    """Print the outcome and return the exit code.

    A reader that stops early, such as `head`, is not a failure. If standard output cannot be written, one sentence on
    standard error says so.
    """
    code = 0
    try:
        _print(f"{outcome.text}\nReport: {outcome.out / 'report.html'}\n")
    except BrokenPipeError:
        _close()
    except OSError as error:
        _close()
        sentence = f"Expected to print the results; got: {files.reason_of(error)}. They are in {outcome.out}."
        print(f"ntkbias: {sentence}", file=sys.stderr)
        code = NOT_PRINTED
    if outcome.stopped is not None:
        print(
            f"ntkbias: Expected training to reach its last step; it ended early: {outcome.stopped}. The measurements "
            f"until then are in {outcome.out}.",
            file=sys.stderr,
        )
        code = DIVERGED
    return code


def _print(text: str) -> None:
    if sys.stdout is None:  # it was closed before the command started
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _close() -> None:
    """Redirect standard output to the null device: when Python exits, it would try to print the rest again."""
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())
