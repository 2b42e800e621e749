"""Measures of a network's kernel in training, by name. `track` takes a dictionary of them.

A measure is a function of a `Snapshot`, plain or a `Measure`. It returns a number, or an array that has the same shape
at all snapshots. The measures are taken in the order of the dictionary, each after those that it needs. A measure finds
the values of earlier ones in `snapshot.values`, and all values of the previous snapshot in `snapshot.before`.

A measure that returns None at the first snapshot does not apply, and is left out. One that raises there ends the call.
A measure may also fail later: it raises, returns None or changes its shape. Then its value there is NaN, or -1 for
whole numbers, a warning names it, and training continues.

`measures.loss` is the measure "loss". `ALL` holds all measures, and `DEFAULT` those that are not `costly`. Each family
of measures has its own file, which lists them in `MEASURES`. `preconditioned` makes measures of the kernel of
preconditioned training.

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
from ntkbias.tracking.measures.by_preconditioner import preconditioned
from ntkbias.tracking.measures.measure import Measure, measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["ALL", "DEFAULT", "Measure", "checked", "chosen", "measured", "preconditioned"]

FAMILIES = (fit, spectra, alignments, drift, modes, by_frequency, watched, frozen, paths, networks)
ALL: dict[str, Measure] = {measure.name: measure for family in FAMILIES for measure in family.MEASURES}
DEFAULT: dict[str, Measure] = {name: measure for name, measure in ALL.items() if not measure.costly}
RESERVED = ("(step)", "(time)", "(learning rate)")  # the keys of a snapshot's own step, time and learning rate


def __getattr__(name: str) -> Measure:
    if name in ALL:
        return ALL[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def chosen(*names: str) -> dict[str, Measure]:
    """A dictionary of the measures with these names, from `ALL`. Raises `InputError` on an unknown name."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise InputError(f"Expected names of measures; got {', '.join(unknown)}. There are {', '.join(ALL)}.")
    return {name: ALL[name] for name in names}


def checked(measures: Mapping[str, Callable[[Snapshot], Any]] | None) -> dict[str, Measure]:
    """Check a dictionary of measures (None: `DEFAULT`), and put each after those that it needs, which are added.

    Raises `InputError` if it is empty or uses the key of a needed measure for another one.
    """
    if measures is None:
        return dict(DEFAULT)
    if not isinstance(measures, Mapping) or not all(isinstance(key, str) for key in measures):
        raise InputTypeError(
            f"Expected measures to be a dictionary from names to functions; got {type(measures).__name__}. "
            "Use measures.chosen('loss', 'trace') | {'mine': function}."
        )
    if not measures:
        raise InputError("Expected one measure or more; got none.")
    if taken := [key for key in measures if key in RESERVED]:
        raise InputError(f"Expected another name than {taken[0]!r} for a measure; that name is reserved.")
    given = {key: _measure(key, measure) for key, measure in measures.items()}
    keys = {measure: key for key, measure in given.items()}
    ordered: dict[str, Measure] = {}

    def add(key: str, measure: Measure) -> None:
        for needed in measure.needs:
            add(keys.get(needed, needed.name), needed)
        if given.get(key, measure) is not measure:
            raise InputError(
                f"Expected {key!r} to be the measure with that name, which others need; got another measure. Give it "
                "another key."
            )
        ordered.setdefault(key, measure)

    for key, measure in given.items():
        add(key, measure)
    return ordered


def _measure(key: str, measure: Any) -> Measure:
    if not callable(measure):
        raise InputTypeError(f"Expected the measure {key!r} to be a function; got {type(measure).__name__}.")
    return measure if isinstance(measure, Measure) else Measure(key, measure)
