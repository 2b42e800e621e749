"""The answer of a comparison in two sentences: which functions each learns first, and how sure that is.

>>> import numpy as np
>>> from ntkbias.comparison.answers import answer_of
>>> from ntkbias.comparison.evidence import Evidence, Sample
>>> noise = np.array([[-0.02], [0.0], [0.02]])
>>> evidence = Evidence([Sample(noise * [1, 2, 1] + [1.0, 2.0, 2.1], None)])
>>> columns = tuple(("learning time", target) for target in ("sine", "parity", "bump"))
>>> first, sure = answer_of(evidence, ("mlp",), columns, "over new initializations")
>>> print(first)
The function learned first is sine in mlp.
>>> print(sure.partition(", the next ")[2])
function takes longer: in mlp, parity takes 2.72 times as long (2.49 to 2.97).
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from ntkbias.comparison.estimates import estimate_of, exactly
from ntkbias.comparison.evidence import LEVEL, Evidence, Term
from ntkbias.tables import counted

__all__ = ["answer_of", "listed", "population_of", "uncertainty_of"]

TIME, SAMPLES, RHO = "learning time", "samples needed", "Spearman's rho"
TIES = 'names joined by "or" are ties, which differ by less than their error'


def answer_of(
    evidence: Evidence, names: Sequence[str], columns: Sequence[tuple[str, str]], population: str
) -> tuple[str, str]:
    """The two sentences: about targets if there are any, otherwise about frequencies."""
    names, columns = _quoted(names), [(quantity, _quoted([of])[0]) for quantity, of in columns]
    targets = [of for quantity, of in columns if quantity == TIME]
    if len(targets) > 1:
        return _about_targets(evidence, names, columns, population)
    if targets:
        return _about_one_target(evidence, names, columns, population)
    return _about_frequencies(evidence, names, columns, population)


def _about_targets(
    evidence: Evidence, names: Sequence[str], columns: Sequence[tuple[str, str]], population: str
) -> tuple[str, str]:
    """Which targets each may learn first. The intervals hold at once for all pairs of targets in all kernels."""
    times = {of: place for place, (quantity, of) in enumerate(columns) if quantity == TIME}
    level = LEVEL / (len(names) * _num_pairs(len(times)))
    first: dict[tuple[str, ...], list[str]] = {}
    leads = []
    for thing, name in enumerate(names):
        learned = [of for of, place in times.items() if _is_known(evidence, thing, place)]
        kept = [learned[at] for at in evidence.least([(thing, times[of]) for of in learned], level)]
        first.setdefault(tuple(kept), []).append(name)
        if len(kept) == 1 < len(learned):
            gaps = {of: evidence.difference((thing, times[of]), (thing, times[kept[0]])) for of in learned}
            following = min((of for of in learned if of != kept[0]), key=lambda of: gaps[of].value)
            ratio = str(estimate_of(TIME, gaps[following], level))
            leads.append(f"in {name}, {following} takes {ratio.replace(' (', ' times as long (', 1)}")
    clauses = [f"{listed(kept, 'or') if kept else 'none of them'} in {listed(own)}" for kept, own in first.items()]
    said = [f"the next function takes longer: {'; '.join(leads)}"] if leads else []
    said += [TIES] if any(len(kept) > 1 for kept in first) else []
    sure = f"How sure: at 95 % confidence {population} for all of this at once, "
    return (
        f"The function learned first is {'; '.join(clauses)}.",
        f"{sure}{'; '.join(said) or 'there is no difference to judge'}.",
    )


def _about_one_target(
    evidence: Evidence, names: Sequence[str], columns: Sequence[tuple[str, str]], population: str
) -> tuple[str, str]:
    """Which kernels may learn the only target from the fewest examples."""
    place = next(place for place, (quantity, _) in enumerate(columns) if quantity == SAMPLES)
    target = columns[place][1]
    known = [thing for thing in range(len(names)) if _is_known(evidence, thing, place)]
    level = LEVEL / _num_pairs(len(known))
    kept = [names[known[at]] for at in evidence.least([(thing, place) for thing in known], level)]
    numbers = "; ".join(f"{_number(evidence, thing, place, SAMPLES)} in {names[thing]}" for thing in known)
    if not known:
        return (
            f"None of these learns {target} from these inputs.",
            "How sure: half of it lies where the kernels are zero.",
        )
    sentence = f"The fewest examples of {target} are needed by {listed(kept, 'or')}."
    tie = f"; {TIES}" if len(kept) > 1 else ""
    return (
        sentence,
        f"How sure: half of it is learned from this many, with 95 % intervals {population}: {numbers}{tie}.",
    )


def _about_frequencies(
    evidence: Evidence, names: Sequence[str], columns: Sequence[tuple[str, str]], population: str
) -> tuple[str, str]:
    """Whether low frequencies come first in each kernel, and in which of them more than in others."""
    place = list(columns).index((RHO, ""))
    kinds: dict[str, list[str]] = {}
    for thing, name in enumerate(names):
        found, number = evidence.sum([Term(thing, place)]), _number(evidence, thing, place, RHO)
        if not np.isfinite(found.value):
            kinds.setdefault("have no order to speak of", []).append(name)
            continue
        order = "come first" if found.value < 0 else "come last"
        if found.is_unsure:  # without an error, nothing is claimed
            kinds.setdefault(f"seem to {order}, without an error to judge by,", []).append(f"{name} ({number})")
            continue
        kind = order if found.differs(LEVEL / len(names)) else "come neither first nor last"
        kinds.setdefault(kind, []).append(f"{name} ({number.replace(' (', ', ').rstrip(')')})")
    clauses = [f"{kind} in {listed(own)}" for kind, own in kinds.items()]
    sentence = f"Functions of low frequency {'; they '.join(clauses)}."
    sure = f"How sure: in brackets is Spearman's rho of eigenvalue and frequency, with 95 % intervals {population}"
    known = [thing for thing in range(len(names)) if _is_known(evidence, thing, place)]
    pairs = list(itertools.combinations(known, 2))
    if not pairs:
        return sentence, f"{sure}."
    level = LEVEL / len(pairs)
    contrasts = {pair: evidence.difference((pair[0], place), (pair[1], place)) for pair in pairs}
    ties = [pair for pair, found in contrasts.items() if found.is_unsure or not found.differs(level)]
    if any(found.is_unsure for found in contrasts.values()) and len(ties) == len(pairs):
        return sentence, f"{sure}; the differences between them are not judged, or ties."
    if len(ties) == len(pairs):
        return sentence, f"{sure}; the differences between them are ties."
    kept = [names[known[at]] for at in evidence.least([(thing, place) for thing in known], level)]
    verdict = f"the preference is strongest in {listed(kept, 'or')}" + (f", where {TIES}" if len(kept) > 1 else "")
    return sentence, f"{sure}; {verdict}."


def population_of(runs: Sequence[int], networks: Sequence[bool], resampled: int | None, sampled: bool) -> str:
    """What the intervals are over, as in "over new initializations and new draws of 512 inputs"."""
    parts = ["new initializations"] if any(count > 1 for count in runs) else []
    parts += [f"new draws of {counted(resampled, 'input')}"] if resampled else []
    single = any(net and count == 1 for count, net in zip(runs, networks, strict=True))
    one = (
        "of one initialization of each network"
        if all(count == 1 for count in runs)
        else "of one initialization of some"
    )
    if parts:
        return f"over {listed(parts)}{f', {one},' if single else ''}"
    if sampled:
        return "(of no width: the inputs are too few to judge a difference)"
    return f"(of no width, {one if single else 'since nothing is random'})"


def uncertainty_of(
    names: Sequence[str], runs: Sequence[int], networks: Sequence[bool], resampled: int | None, sampled: bool
) -> str:
    """What the intervals of a comparison include, and what they do not."""
    names = _quoted(names)
    many = [name for name, count in zip(names, runs, strict=True) if count > 1]
    single = [name for name, count, net in zip(names, runs, networks, strict=True) if net and count == 1]
    given = [name for name, count, net in zip(names, runs, networks, strict=True) if not net and count == 1]
    if resampled:
        sentences = [
            f"Intervals count which {counted(resampled, 'input')} were drawn, by a jackknife over groups of them: they "
            "are for the expected value at this number of inputs."
        ]
    elif sampled:
        sentences = ["The inputs are too few to be left out in groups, and count as fixed."]
    else:
        sentences = ["The inputs are weighted nodes and count as fixed."]
    if many:
        counts = " or ".join(map(str, sorted({count for count in runs if count > 1})))
        sentences.append(f"They count initializations by {counts} runs of {listed(many)}.")
    if single:
        which = "this network" if len(single) == 1 else "these networks"
        sentences.append(
            f"They leave out how much initializations differ, of which {listed(single)} "
            f"{'has' if len(single) == 1 else 'have'} one: they are about {which}, not about architectures."
        )
    if not resampled and not many:
        if sampled or single:
            return " ".join([*sentences, "Differences without an error are not judged."])
        return " ".join([*sentences, f"Nothing is random in {listed(names)}: differences are exact."])
    if given:
        sentences.append(f"Beyond that, nothing is random in {listed(given)}.")
    return " ".join(sentences)


def listed(names: Iterable[str], word: str = "and") -> str:
    """The names with commas, and a word before the last: "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def _quoted(names: Iterable[str]) -> list[str]:
    """The names, in quotation marks if they have a comma."""
    return [f'"{name}"' if "," in name else name for name in names]


def _is_known(evidence: Evidence, thing: int, place: int) -> bool:
    return bool(np.isfinite(evidence.sum([Term(thing, place)]).value))


def _number(evidence: Evidence, thing: int, place: int, quantity: str) -> str:
    found = estimate_of(quantity, evidence.sum([Term(thing, place)]))
    return exactly(found.value, found.low, found.high)


def _num_pairs(count: int) -> int:
    return max(count * (count - 1) // 2, 1)
