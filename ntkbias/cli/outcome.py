"""The end of a command: write the results into the run folder, and then print them.

>>> import pathlib
>>> from ntkbias.cli.outcome import Outcome, print_outcome
>>> print_outcome(Outcome("mode  eigenvalue", pathlib.Path("runs/not-there")))
mode  eigenvalue
Results: runs/not-there
0
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from ntkbias import files, plots, report, results
from ntkbias.cli.folder import RunFolder
from ntkbias.comparison import Comparison
from ntkbias.progress import phase, progress
from ntkbias.report.sections import Sections, page_of
from ntkbias.tracking import History

__all__ = ["DIVERGED", "FAILED", "FAILURES", "NOT_PRINTED", "PAGE", "Outcome"]
__all__ += ["file_names", "fill", "found_again", "plain", "print_outcome", "write_outcome"]

NOT_PRINTED, DIVERGED, FAILED = 1, 3, 4  # exit codes
PAGE, FAILURES = "report.html", "failures.txt"


class Outcome(NamedTuple):
    """The text that a command prints once its results are in the folder `out`. `stopped` says why it ended early.

    `data` is the same as JSON. `again` says that the results were there before the command. `failed` are the parts of a
    command that failed while the others went on, such as studies.
    """

    text: str
    out: Path | None
    stopped: str | None = None
    data: Mapping[str, Any] = MappingProxyType({})
    again: bool = False
    failed: tuple[str, ...] = ()


def file_names(values: Iterable[str], figures: Iterable[str]) -> list[str]:
    """The names of all files of a run, given those of its values (such as "comparison") and of its figures."""
    fixed = ["settings.json", "result.json", "table.txt", "facts.json", PAGE, FAILURES]
    saved = [f"{value}{suffix}" for value in values for suffix in (".npz", ".json")]
    return [*fixed, *saved, *(f"{figure}{suffix}" for figure in figures for suffix in (".svg", ".png"))]


def fill(
    folder: Path,
    values: Mapping[str, Any],
    settings: dict[str, Any],
    outcome: Outcome,
    figures: Mapping[str, Figure] | None = None,
    sections: Sections | None = None,
) -> None:
    """Write the values by name, the settings, the table, the result as JSON, the figures and the report into a folder.

    A comparison or a history has its own figures, its facts and a report. Other values have the `figures` given, and a
    report of these `sections`.
    """
    for name, value in values.items():
        results.save(folder / name, value)
    write_outcome(folder, settings, outcome)
    first = next(iter(values.values()))
    paged = isinstance(first, Comparison | History)
    if paged:
        report.write_facts(folder / "facts.json", first)
    if paged or figures:
        phase("figures and page" if paged else "figures")
    drawn = progress((report.figures(first) if paged else figures or {}).items(), "figures")
    pictures = {figure: plots.save(folder / figure, picture) for figure, picture in drawn}
    title = f"ntkbias {settings['command']}: {settings['options']['data']}"
    if sections is not None:
        _write(folder / PAGE, page_of(sections, pictures, title, settings))
    if paged:
        report.write_report(folder / PAGE, first, title=title, settings=settings, pictures=pictures)


def write_outcome(folder: Path, settings: dict[str, Any], outcome: Outcome) -> None:
    """Write the settings, the result as JSON and the table into a folder."""
    _write(folder / "settings.json", json.dumps(settings, indent=1))
    _write(folder / "result.json", json.dumps(dict(outcome.data), indent=1))
    _write(folder / "table.txt", outcome.text)


def found_again(folder: RunFolder, settings: dict[str, Any], overwrite: bool) -> Outcome | None:
    """The outcome of the finished command with these settings in the folder; None if there is none.

    A model of the user's own is always computed again, because its code may have changed.
    """
    if overwrite or settings["options"].get("model"):
        return None
    found = folder.finished(settings)
    if found is None or not {"table.txt", "result.json"} <= found.keys():
        return None
    data = json.loads(found["result.json"])
    sentence = (
        f"Nothing was computed: {folder.path} holds the finished results of the same settings. --overwrite computes "
        "them again."
    )
    return Outcome(f"{found['table.txt'].rstrip()}\n\n{sentence}", folder.path, data.get("stopped"), data, True)


def plain(value: Any) -> Any:
    """The value with arrays as lists and numbers that are not finite as None, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return plain(np.asarray(value).tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_outcome(outcome: Outcome, as_json: bool = False) -> int:
    """Print the outcome and return the exit code.

    A reader that stops early, such as `head`, is not a failure. If standard output cannot be written, one sentence on
    standard error says so.
    """
    code = 0
    try:
        _print(_as_json(outcome) if as_json else f"{outcome.text}\n{_place(outcome)}")
    except BrokenPipeError:
        _close()
    except OSError as error:
        _close()
        place = "" if outcome.out is None else f" They are in {outcome.out}."
        print(f"ntkbias: Expected to print the results; got: {files.reason_of(error)}.{place}", file=sys.stderr)
        code = NOT_PRINTED
    if outcome.stopped is not None:
        print(
            f"ntkbias: Expected training to reach its last step; it ended early: {outcome.stopped}. The measurements "
            f"until then are in {outcome.out}.",
            file=sys.stderr,
        )
        code = DIVERGED
    if outcome.failed:
        print(
            f"ntkbias: Expected all studies to run; {len(outcome.failed)} failed: {', '.join(outcome.failed)}. "
            f"{outcome.out}/{FAILURES} has their messages; the same command runs these again.",
            file=sys.stderr,
        )
        code = FAILED
    return code


def _as_json(outcome: Outcome) -> str:
    place = {} if outcome.out is None else {"out": str(outcome.out), "computed": not outcome.again}
    return json.dumps({**outcome.data, **place}, indent=1) + "\n"


def _place(outcome: Outcome) -> str:
    if outcome.out is None:
        return ""
    page = outcome.out / PAGE
    return f"Report: {page}\n" if page.exists() else f"Results: {outcome.out}\n"


def _write(path: Path, text: str) -> None:
    files.write(path, lambda file: file.write((text + "\n").encode()))


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
