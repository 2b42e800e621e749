"""Run a study over seeds, and compare each claim with what was measured.

>>> from ntkbias.studies import run_study
>>> result = run_study("hypercube", "smoke")
>>> result.holds
'yes'
"""

import dataclasses
import time
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.stats

from ntkbias.checks import require_positive, require_seed
from ntkbias.errors import InputError
from ntkbias.progress import progress
from ntkbias.studies.settings import as_text, changed
from ntkbias.studies.study import Claim, Findings, Study
from ntkbias.studies.table import study_of
from ntkbias.tables import Labeled, Printed, Table, interval, number, spread

__all__ = ["Measured", "StudyResult", "measured", "run_study"]

CONFIDENCE = 0.95


class Measured(Printed):
    """What one claim expects and what was measured: the mean over runs with its 95 % interval, and each run's number.

    `holds` is "yes", "no", "unclear" if an end of the interval lies beyond the bound and the other does not, or "tie"
    if the whole interval is so near to the bound that the claim counts it as equal.
    """

    sentence: str = eqx.field(static=True)
    quantity: str = eqx.field(static=True)
    expected: str = eqx.field(static=True)
    text: str = eqx.field(static=True)
    holds: str = eqx.field(static=True)
    value: float
    low: float
    high: float

    def _table(self, num_rows: int) -> Table:
        return Table(f"{self.sentence} Expected {self.expected}; measured {self.text}. It holds: {self.holds}.")


class StudyResult(Printed):
    """The claims of a study beside what was measured. It prints as a table with one row per claim.

    `findings` has what each run found: the numbers of the claims, and the values for the figures. `settings` are those
    that it ran with, by name.
    """

    name: str = eqx.field(static=True)
    scale: str = eqx.field(static=True)
    num_seeds: int = eqx.field(static=True)
    seconds: float
    claims: tuple[Measured, ...]
    findings: list[Findings]
    settings: dict[str, Any] = eqx.field(default_factory=dict)

    @property
    def holds(self) -> str:
        """One word for all claims: "yes" if all hold, "no" if one does not, else "unclear", or "tie"."""
        found = {claim.holds for claim in self.claims}
        return next((answer for answer in ("no", "unclear", "tie") if answer in found), "yes")

    def _labeled(self) -> Labeled:
        """The numbers of each claim, one per row."""
        numbers = {end: np.array([getattr(claim, end) for claim in self.claims]) for end in ("value", "low", "high")}
        return spread({"claim": [claim.quantity for claim in self.claims]}, numbers)

    def _table(self, num_rows: int) -> Table:
        columns = {
            "claim": [str(place + 1) for place in range(len(self.claims))],
            "expected": [claim.expected for claim in self.claims],
            "measured": [claim.text for claim in self.claims],
            "holds": [claim.holds for claim in self.claims],
        }
        runs = "one run" if self.num_seeds == 1 else f"{self.num_seeds} seeds"
        title = f"{self.name}, {self.scale} scale, {runs}, {self.seconds:.0f} s"
        sentences = [f"{place + 1}. {claim.sentence}" for place, claim in enumerate(self.claims)]
        return Table(title, columns, sentences)


def run_study(
    study: str | Study,
    scale: str = "small",
    *,
    num_seeds: int | None = None,
    seed: int = 0,
    **changes: Any,
) -> StudyResult:
    """Run a study by name, or one of your own, and compare its claims with what was measured.

    `num_seeds` is the number of runs (default: the study's own). `changes` replace settings of the scale by name. Takes
    seconds at "smoke" scale, at most five minutes per study at "small", and what the study's `cost` says at "paper".

    Raises `InputError` on an unknown study, scale or setting, on a setting whose value makes no sense, such as a number
    of steps below 1, and on changed settings with which the study fails because they do not fit together;
    `InputTypeError` on a setting of another type than its field.
    """
    study = study_of(study) if isinstance(study, str) else study
    settings = changed(study, scale, changes)
    require_seed("seed", seed)
    if study.needs and scale != "smoke" and not getattr(settings, study.needs):
        raise InputError(
            f"Expected the setting {study.needs} (--{study.needs} on the command line) for {study.name} at the {scale} "
            "scale; got none. At smoke scale a small model with random weights stands in."
        )
    count = study.num_seeds if num_seeds is None else num_seeds
    require_positive("num_seeds", count)
    started = time.perf_counter()
    keys = list(jax.random.split(jax.random.key(seed), count))
    try:
        found = [study.run(settings, key) for key in progress(keys, "seeds")]
    except InputError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if not changes:
            raise
        values = ", ".join(f"{name}={as_text(getattr(settings, name))}" for name in changes)
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected settings of {study.name} that fit together; with {values} it failed: {type(error).__name__}: "
            f"{reason}"
        ) from error
    claims = tuple(measured(claim, found) for claim in study.claims)
    seconds = time.perf_counter() - started
    return StudyResult(study.name, scale, count, seconds, claims, found, dataclasses.asdict(settings))


def measured(claim: Claim, findings: list[Findings]) -> Measured:
    """Compare a claim with the numbers of all runs."""
    values = np.concatenate([np.ravel(np.asarray(found[claim.quantity], float)) for found in findings])
    value = float(np.mean(values))
    half = 0.0
    if len(values) > 1:
        error = np.std(values, ddof=1) / len(values) ** 0.5
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)
    low, high = value - half, value + half
    inside = [claim.bound.holds(each) for each in values.tolist()]
    if claim.of == "each":
        holds = "yes" if all(inside) else "no"
        text = f"{number(values.min())} to {number(values.max())}, {sum(inside)} of {len(values)} within"
    else:
        ends = [claim.bound.holds(end) for end in (low, high)]
        wholly_outside = not claim.bound.holds(value) and (high < claim.bound.low or low > claim.bound.high)
        holds = "yes" if all(ends) else "no" if wholly_outside or not np.isfinite(value) else "unclear"
        edges = [edge for edge in (claim.bound.low, claim.bound.high) if np.isfinite(edge)]
        if claim.tie and any(max(abs(low - edge), abs(high - edge)) <= claim.tie for edge in edges):
            holds = "tie"
        text = interval(value, low, high) if len(values) > 1 else number(value)
    if missing := int(np.isnan(values).sum()):  # what the claim is about did not happen in these runs
        failed = claim.of == "each" and any(not claim.bound.holds(each) for each in values[~np.isnan(values)].tolist())
        holds, text = "no" if failed else "unclear", f"not reached in {missing} of {len(values)}"
    expected = f"{claim.bound}{' in each run' if claim.of == 'each' and len(values) > 1 else ''}"
    return Measured(claim.sentence, claim.quantity, expected, text, holds, value, low, high)
