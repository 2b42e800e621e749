"""Every fact about a result once: what it is called, its value, and the text that says it.

The table in a terminal, the page and `facts.json` in a run folder all read these. A new one is a line in the list of
its subject.

>>> import ntkbias as nb
>>> from ntkbias.report.facts import kernel_facts
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(32)
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp()), x, weights=weights)
>>> [fact.text for fact in kernel_facts(spectrum, nb.rank_by_frequency(spectrum, circle))][:3]
['0.750', '6.64', '2.77']
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from ntkbias.comparison import Comparison
from ntkbias.frequency import FrequencyRanking
from ntkbias.spectra import DecayExponent, Spectrum
from ntkbias.tracking import History

__all__ = ["Fact", "facts_as_data", "kernel_facts", "number", "on_host", "training_facts"]


class Fact(NamedTuple):
    """One fact; its value is data for JSON (None where it is not defined), its text is plain ASCII."""

    label: str
    value: Any
    text: str


def kernel_facts(spectrum: Spectrum, ranking: FrequencyRanking) -> list[Fact]:
    """What is to be known of a kernel as a whole."""
    spectrum, ranking = on_host((spectrum, ranking))
    modes = f"{spectrum.num_above_noise} of {len(spectrum.eigenvalues)}"
    return [
        _number("trace", spectrum.trace),
        _effective_rank(spectrum),
        _number("stable rank", spectrum.stable_rank()),
        Fact(
            "modes above the noise floor",
            spectrum.num_above_noise,
            modes if spectrum.method == "dense" else f"{modes} ({spectrum.method})",
        ),
        _interval("Spearman's rho", ranking.spearman, *ranking.spearman_interval, ranking.spearman_text),
        _decay(ranking.decay),
    ]


def on_host(value: Any) -> Any:
    """The value with NumPy's arrays in place of JAX's, of which each operation compiles at first."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, value)


def training_facts(history: History) -> list[Fact]:
    """What each measure with a column was at the first and at the last snapshot; of several runs medians."""
    found = []
    for name, label in history.columns:
        values = history.medians(name)
        ends = [float(values[0]), float(values[-1])]
        found.append(Fact(label, [_finite(end) for end in ends], " to ".join(number(end) for end in ends)))
    return found


def facts_as_data(value: Comparison | History) -> dict[str, Any]:
    """The facts of a comparison, by kernel, or of a history, by their labels, ready for JSON."""
    if isinstance(value, History):
        return {fact.label: fact.value for fact in training_facts(value)}
    kernels = zip(value.names, value.spectra, value.rankings, strict=True)
    return {
        name: {fact.label: fact.value for fact in kernel_facts(spectrum, ranking)}
        for name, spectrum, ranking in kernels
    }


def _effective_rank(spectrum: Spectrum) -> Fact:
    """The effective rank, or what the known modes and the trace leave open."""
    low, high = map(float, spectrum.effective_rank_bounds())
    if not spectrum.num_missing:
        return _number("effective rank", low)
    return Fact("effective rank", [_finite(low), _finite(high)], f"{number(low)} to {number(high)}")


def number(value: Any) -> str:
    """Three digits."""
    return f"{float(value):#.3g}".rstrip(".")


def _number(label: str, value: Any) -> Fact:
    return Fact(label, _finite(value), number(value))


def _interval(label: str, value: float, low: float, high: float, text: str) -> Fact:
    return Fact(label, {"value": _finite(value), "low": _finite(low), "high": _finite(high)}, text)


def _decay(decay: DecayExponent | None) -> Fact:
    if decay is None:
        return Fact("decay exponent", None, "not defined")
    return _interval("decay exponent", decay.exponent, decay.low, decay.high, str(decay))


def _finite(value: Any) -> float | None:
    """A number, None where it is none: JSON has no NaN."""
    return float(value) if math.isfinite(float(np.asarray(value))) else None
