"""`ntkbias report`: the page of saved results again, as this version of the package writes it.

The results are those of a run folder, or a comparison or a history that `ntkbias.save` wrote.
"""

from pathlib import Path
from typing import Any

from ntkbias import report, results
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import settings
from ntkbias.cli.options import ReportOptions
from ntkbias.cli.outcome import Outcome, file_names, fill
from ntkbias.cli.spectra import comparison_data
from ntkbias.cli.tracking import history_data, stopped_early
from ntkbias.comparison import Comparison
from ntkbias.errors import InputError
from ntkbias.files import Unreadable, read_json
from ntkbias.tracking import History

__all__ = ["run"]

VALUES = ("comparison", "history")
NUM_MODES = 10  # in the table of a saved comparison, whose settings are not known


def run(options: ReportOptions) -> Outcome:
    """Load the results, and write their page, figures and tables."""
    path = _saved(options.run)
    value = results.load(path)
    if not isinstance(value, Comparison | History):
        raise InputError(f"Expected a comparison or a history at {path}; got {type(value).__name__}.")
    out = options.out or (options.run if options.run.is_dir() else Path("runs/latest"))
    described = _settings(options)
    kernels = list(value.names) if isinstance(value, Comparison) else None
    name = "history" if kernels is None else "comparison"
    with RunFolder.claimed(out, file_names([name], report.figure_names(kernels))) as folder:
        if isinstance(value, Comparison):
            num_modes = described["options"].get("num_modes") or NUM_MODES
            table = report.table(value, num_modes)
            data = comparison_data(value, described["command"], num_modes)
        else:
            table = report.table(value)
            data = history_data(value, described.get("learning rate"), stopped_early(value))
        outcome = Outcome(table, out, data=data)
        folder.fill(lambda place: fill(place, {name: value}, described, outcome))
    return outcome


def _saved(path: Path) -> Path:
    """The path of the value without a suffix, in a run folder or by itself."""
    if path.is_dir():
        found = [path / name for name in VALUES if (path / f"{name}.json").exists()]
        if not found:
            raise InputError(
                f"Expected the run folder of spectrum, compare or track at {path}; got one without a comparison or a "
                "history."
            )
        return found[0]
    stem = path.with_suffix("") if path.suffix in (".json", ".npz") else path
    if not stem.with_name(f"{stem.name}.json").exists():
        raise InputError(f"Expected a run folder or a saved value at {path}; there is none.")
    return stem


def _settings(options: ReportOptions) -> dict[str, Any]:
    """The settings of the run, or of this command for a value without a run folder."""
    try:
        found = read_json(options.run / "settings.json", "the settings of a run")
    except Unreadable:
        found = None
    if isinstance(found, dict) and isinstance(found.get("options"), dict) and isinstance(found.get("command"), str):
        found["options"].setdefault("data", str(options.run))
        return found
    own = settings(options, "report")
    own["options"]["data"] = str(options.run)
    return own
