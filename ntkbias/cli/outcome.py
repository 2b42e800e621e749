"""What a command leaves: its results in the run folder first, then what it says.

>>> import pathlib
>>> from ntkbias.cli.outcome import Outcome
>>> say(Outcome("mode  eigenvalue", pathlib.Path("runs/latest")))
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

__all__ = ["DIVERGED", "UNSAID", "Outcome", "fill", "names", "say"]

UNSAID, DIVERGED = 1, 3  # exit codes: what was found could not be printed; training diverged


class Outcome(NamedTuple):
    """What a command has to say when its results are in the folder `out`; `stopped` is why it ended early."""

    text: str
    out: Path
    stopped: str | None = None


def names(value: str, figures: Iterable[str]) -> list[str]:
    """The files of a run with these figures, whose value has this name."""
    fixed = ["settings.json", f"{value}.npz", f"{value}.json", "table.txt", "facts.json", "report.html"]
    return [*fixed, *(f"{figure}{suffix}" for figure in figures for suffix in (".svg", ".png"))]


def fill(folder: Path, name: str, value: Comparison | History, settings: dict[str, Any], table: str) -> None:
    """Write the value, the settings that it comes from, the table, the facts, the figures and the page."""
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


def say(outcome: Outcome) -> int:
    """Print what was found; the exit code.

    A reader that has seen enough, as `head`, is no failure. Where the terminal's log is full, that is said.
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
        code = UNSAID
    if outcome.stopped is not None:
        print(
            f"ntkbias: Expected training to reach its last step; it ended early: {outcome.stopped}. What was measured "
            f"until then is in {outcome.out}.",
            file=sys.stderr,
        )
        code = DIVERGED
    return code


def _print(text: str) -> None:
    if sys.stdout is None:  # it was closed before we began
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _close() -> None:
    """Send what is left nowhere: at its end Python would try to print it again."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
