"""`ntkbias study all`: run every study in a process and a folder of its own, and write one page about all of them.

A study that is finished with the same settings is not computed again, so a run that was stopped goes on where it
stopped. A study that fails does not stop the others.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

from ntkbias.checks import require_positive
from ntkbias.cli import studies
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import settings
from ntkbias.cli.options import StudyOptions
from ntkbias.cli.outcome import FAILURES, PAGE, Outcome, file_names, write_outcome
from ntkbias.errors import InputError
from ntkbias.files import write
from ntkbias.progress import announce
from ntkbias.studies import NAMES, study_of
from ntkbias.studies.page import index_page
from ntkbias.tables import Table

__all__ = ["run"]

POLL = 0.1  # seconds between two looks at the running processes


def run(options: StudyOptions) -> Outcome:
    """Run all studies if the options say so, and otherwise the one that they name."""
    if options.name != "all" or options.list:
        return studies.run(options)
    require_positive("jobs", options.jobs)
    if options.set:
        raise InputError("Expected --set with the name of one study, whose settings it changes; got it with all.")
    with RunFolder.claimed(options.out, file_names([], ())) as folder:
        results, failures, computed = _results(options)
        outcome = Outcome(
            _text(results, failures, options, computed),
            options.out,
            data={"command": "study", "studies": list(results.values()), "failed": failures},
            again=not computed and not failures,
            failed=tuple(failures),
        )

        def fill(path: Any) -> None:
            write_outcome(path, settings(options, "study"), outcome)
            text = index_page(results, failures, options.scale)
            write(path / PAGE, lambda file: file.write(text.encode()))
            if failures:
                messages = "\n\n".join(f"{name}\n{message}" for name, message in failures.items())
                write(path / FAILURES, lambda file: file.write((messages + "\n").encode()))

        folder.fill(fill)
    return outcome


def _results(options: StudyOptions) -> tuple[dict[str, Any], dict[str, str], int]:
    """What each study found and the messages of those that failed, by name, and how many were computed."""
    names = [name for name in NAMES if options.scale == "smoke" or not study_of(name).needs]
    for name in NAMES:
        if name not in names:
            announce(f"{name} is left out: it needs --{study_of(name).needs}. Run it by its name.")
    own = {name: dataclasses.replace(options, name=name, out=options.out / name) for name in names}
    found: dict[str, Any] = {}
    failures: dict[str, Any] = {}
    waiting = []
    for name in names:
        try:
            outcome = studies.finished(own[name])
        except InputError as error:  # the folder is in use, or holds files of someone else
            failures[name] = str(error)
            continue
        if outcome is None:
            waiting.append(name)
        else:
            found[name] = outcome.data
    announce(f"{len(found)} of {len(names)} studies are finished already; {len(waiting)} will run.")
    computed = 0
    for name, message in _run_each({name: _command(own[name]) for name in waiting}, options.jobs):
        outcome = studies.finished(dataclasses.replace(own[name], overwrite=False)) if message is None else None
        if outcome is None:
            failures[name] = message or "It ended without results."
            announce(f"{name} failed: {failures[name].splitlines()[-1]}")
        else:
            computed += 1
            found[name] = outcome.data
            announce(f"{name}: holds: {outcome.data['holds']}, {outcome.data['seconds']:.0f} s.")
    found, failures = ({name: part[name] for name in NAMES if name in part} for part in (found, failures))
    return found, failures, computed


def _run_each(commands: dict[str, list[str]], jobs: int) -> Any:
    """Run the commands, `jobs` at once. Yield each name when its command ends, with its error output if it failed."""
    waiting, running = list(commands), dict[str, tuple[subprocess.Popen, IO]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                errors: IO = tempfile.TemporaryFile()
                quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
                running[name] = subprocess.Popen(commands[name], **quiet), errors
            time.sleep(POLL)
            for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                process, errors = running.pop(name)
                with errors:
                    errors.seek(0)
                    text = errors.read().decode(errors="replace").strip()
                yield name, None if process.returncode == 0 else text or f"exit code {process.returncode}"
    finally:
        for process, errors in running.values():
            process.terminate()
            process.wait()
            errors.close()


def _command(options: StudyOptions) -> list[str]:
    words = ["study", str(options.name), "--scale", options.scale, "--seed", str(options.seed)]
    words += ["--out", str(options.out)]
    if options.num_runs is not None:
        words += ["--num-runs", str(options.num_runs)]
    words += ["--overwrite"] * options.overwrite + ["--no-cache"] * (not options.cache)
    return [sys.executable, "-m", "ntkbias", *words]


def _text(results: dict[str, Any], failures: dict[str, str], options: StudyOptions, computed: int) -> str:
    """A row per study, and below it each claim that does not hold."""
    rows, notes = [], []
    for name in (name for name in NAMES if name in results or name in failures):
        first = [name, study_of(name).source]
        if name not in results:
            rows.append([*first, "-", "failed", "-"])
            notes.append(f"{name} failed: {failures[name].splitlines()[-1]}")
            continue
        claims = results[name]["claims"]
        holding = sum(claim["holds"] == "yes" for claim in claims)
        share, seconds = f"{holding} of {len(claims)}", f"{results[name]['seconds']:.0f}"
        rows.append([*first, share, results[name]["holds"], seconds])
        notes += [
            f"{name}: {claim['claim']} Expected {claim['expected']}; measured {claim['measured']}. It holds: "
            f"{claim['holds']}."
            for claim in claims
            if claim["holds"] != "yes"
        ]
    heads = ["study", "paper", "claims that hold", "holds", "seconds"]
    columns = dict(zip(heads, map(list, zip(*rows, strict=True)), strict=True))
    if not computed and not failures:
        notes.append("Nothing was computed: all studies are finished. --overwrite computes them again.")
    return str(Table(f"{len(rows)} studies at {options.scale} scale", columns, notes))
