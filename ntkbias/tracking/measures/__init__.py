"""The measures by name: a plain dictionary, to choose from and to add to.

Each is a `Measure`, a function of a `Snapshot` that gives a number, or an array of one shape at all snapshots; a plain
function will do. They are taken in the dictionary's order, once what they need has been taken, and a later one finds
the values of earlier ones in `snapshot.values`, and those of the snapshot before in `snapshot.before`. One that gives
None at the first snapshot does not apply, and is left out; one that raises there ends the call. Later on, one that
raises, gives None or changes its shape has NaN there, or -1 for whole numbers, with a warning that names it, and
training goes on.

Each family has its file, whose table `MEASURES` lists its members; `measures.loss` is the measure of that name.

>>> from ntkbias.tracking import measures
>>> def ratio(at):
...     return at.spectrum.eigenvalues[0] / at.spectrum.eigenvalues[1]
>>> mine = measures.chosen("loss", "trace") | {"ratio": ratio, "everywhere": measures.train_loss}
>>> list(mine)
['loss', 'trace', 'ratio', 'everywhere']
"""

from collections.abc import Callable, Mapping
from typing import Any

from ntkbias.errors import InputError, InputTypeError
from ntkbias.tracking.measures import (
    alignments,
    by_frequency,
    drift,
    fit,
    frozen,
    modes,
    networks,
    paths,
    spectra,
    watched,
)
from ntkbias.tracking.measures.measure import Measure, measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["ALL", "DEFAULT", "Measure", "checked", "chosen", "measured"]

FAMILIES = (fit, spectra, alignments, drift, modes, by_frequency, watched, frozen, paths, networks)
ALL: dict[str, Measure] = {measure.name: measure for family in FAMILIES for measure in family.MEASURES}
DEFAULT: dict[str, Measure] = {name: measure for name, measure in ALL.items() if not measure.costly}
OWN = ("(step)", "(time)", "(learning rate)")  # the names under which snapshots hold where they are


def __getattr__(name: str) -> Measure:
    if name in ALL:
        return ALL[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def chosen(*names: str) -> dict[str, Measure]:
    """The measures of these names, from `ALL`; an `InputError` on a name that there is not."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise InputError(f"Expected names of measures; got {', '.join(unknown)}. There are {', '.join(ALL)}.")
    return {name: ALL[name] for name in names}


def checked(measures: Mapping[str, Callable[[Snapshot], Any]] | None) -> dict[str, Measure]:
    """The measures by key, `DEFAULT` for None, each after those that it needs, which are added; or an `InputError`."""
    if measures is None:
        return dict(DEFAULT)
    if not isinstance(measures, Mapping) or not all(isinstance(key, str) for key in measures):
        raise InputTypeError(
            f"Expected measures to be a dictionary from names to functions; got {type(measures).__name__}. "
            "Use measures.chosen('loss', 'trace') | {'mine': function}."
        )
    if not measures:
        raise InputError("Expected one measure or more; got none.")
    if taken := [key for key in measures if key in OWN]:
        raise InputError(f"Expected another name than {taken[0]!r} for a measure; a history itself has that one.")
    given = {key: _measure(key, measure) for key, measure in measures.items()}
    keys = {measure: key for key, measure in given.items()}
    ordered: dict[str, Measure] = {}

    def add(key: str, measure: Measure) -> None:
        for needed in measure.needs:
            add(keys.get(needed, needed.name), needed)
        if given.get(key, measure) is not measure:
            raise InputError(
                f"Expected at {key!r} the measure of that name, which others need; got another. Give it another key."
            )
        ordered.setdefault(key, measure)

    for key, measure in given.items():
        add(key, measure)
    return ordered


def _measure(key: str, measure: Any) -> Measure:
    if not callable(measure):
        raise InputTypeError(f"Expected the measure {key!r} to be a function; got {type(measure).__name__}.")
    return measure if isinstance(measure, Measure) else Measure(key, measure)
