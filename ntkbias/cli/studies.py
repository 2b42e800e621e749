"""`ntkbias study NAME`: run a paper's experiment, and print each claim beside what was measured."""

import datetime
import hashlib
import inspect
import shlex
import sys
from typing import Any

from ntkbias import plots
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import settings
from ntkbias.cli.options import StudyOptions
from ntkbias.cli.outcome import PAGE, Outcome, file_names, found_again, plain, write_outcome
from ntkbias.errors import InputError
from ntkbias.files import write
from ntkbias.studies import NAMES, Study, StudyResult, run_study, study_of
from ntkbias.studies.page import figures, page
from ntkbias.studies.settings import as_text, changed, changes_of
from ntkbias.tables import Table

__all__ = ["finished", "run"]


def run(options: StudyOptions) -> Outcome:
    """Run the study that the options name and fill the run folder, or list all studies."""
    if options.list:
        return _listed()
    if options.name is None:
        raise InputError("Expected the name of a study; got none. ntkbias study --list shows all.")
    study = study_of(options.name.replace("-", "_"))
    changes = _changes(options, study)
    described = _described(options, study)
    with RunFolder.claimed(options.out, file_names([], study.figures)) as folder:
        if (again := found_again(folder, described, options.overwrite)) is not None:
            return again
        result = run_study(study, options.scale, num_seeds=options.num_runs, seed=options.seed, **changes)
        outcome = Outcome(str(result), options.out, data=_data(result, changes))

        def fill(path: Any) -> None:
            write_outcome(path, described, outcome)
            pictures = {name: plots.save(path / name, figure) for name, figure in figures(study, result).items()}
            text = page(study, result, pictures, changes | {"command line": _command_line(options)})
            write(path / PAGE, lambda file: file.write(text.encode()))

        folder.fill(fill)
    return outcome


def finished(options: StudyOptions) -> Outcome | None:
    """The outcome that the run folder holds of the study with these options; None if it has to be computed."""
    study = study_of(str(options.name))
    with RunFolder.claimed(options.out, file_names([], study.figures)) as folder:
        return found_again(folder, _described(options, study), options.overwrite)


def _changes(options: StudyOptions, study: Study) -> dict[str, Any]:
    """The settings that the options change, by name; checked before anything is computed."""
    changes = changes_of(study, options.set)
    if options.weights is not None:
        if "weights" in changes:
            raise InputError("Expected --weights, or --set weights=, and not both.")
        changes["weights"] = str(options.weights)
    changed(study, options.scale, changes)
    return changes


def _described(options: StudyOptions, study: Study) -> dict[str, Any]:
    """Everything that the results depend on. A study whose file has been edited is another study."""
    source = inspect.getsource(sys.modules[study.run.__module__])
    found = settings(options, "study")
    found["options"]["name"] = study.name
    found["options"]["set"] = sorted(
        f"{name}={as_text(value)}" for name, value in changes_of(study, options.set).items()
    )
    return {**found, "source": hashlib.sha256(source.encode()).hexdigest()}


def _command_line(options: StudyOptions) -> str:
    """The command that gives the same numbers."""
    words = ["ntkbias", "study", str(options.name), "--scale", options.scale]
    if options.weights is not None:
        words += ["--weights", str(options.weights)]
    if options.num_runs is not None:
        words += ["--num-runs", str(options.num_runs)]
    words += [word for each in options.set for word in ("--set", each)]
    return shlex.join([*words, "--seed", str(options.seed)])


def _listed() -> Outcome:
    studies = [study_of(name) for name in NAMES]
    columns = {
        "study": list(NAMES),
        "paper": [study.source for study in studies],
        "claims": [str(len(study.claims)) for study in studies],
    }
    data = {name: [str(paper) for paper in study.papers] for name, study in zip(NAMES, studies, strict=True)}
    return Outcome(str(Table(f"{len(NAMES)} studies", columns)), None, data={"command": "study", "studies": data})


def _data(result: StudyResult, changes: dict[str, Any]) -> dict[str, Any]:
    claims = [
        {
            "claim": each.sentence,
            "expected": each.expected,
            "measured": each.text,
            "value": each.value,
            "low": each.low,
            "high": each.high,
            "holds": each.holds,
        }
        for each in result.claims
    ]
    return plain(
        {
            "command": "study",
            "study": result.name,
            "scale": result.scale,
            "seeds": result.num_seeds,
            "seconds": result.seconds,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "holds": result.holds,
            "changed": changes,
            "settings": result.settings,
            "claims": claims,
        }
    )
