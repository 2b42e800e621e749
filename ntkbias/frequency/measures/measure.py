"""The type of a measure of frequency: a function, and the class of domains that it needs.

>>> from ntkbias.domains import Circle, PointCloud
>>> from ntkbias.frequency import MEASURES
>>> [name for name, measure in MEASURES.items() if measure.applies_to(PointCloud())]
['graph', 'dirichlet']
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkbias.domains import Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.packing import are_several
from ntkbias.spectra import Spectrum

__all__ = ["FrequencyMeasure", "Measured", "require_domain", "require_inputs", "shared"]


class Measured(NamedTuple):
    """The frequencies of modes, their frequencies under b resamples of the inputs, and whether the inputs resolve them.

    A measure by harmonics also gives `levels` and `energy`, the power of each mode in each level.
    """

    frequencies: Float[np.ndarray, " k"]
    resamples: Float[np.ndarray, "b k"]
    resolved: Bool[np.ndarray, " k"]
    energy: Float[Array, "k levels"] | None = None
    levels: Int[Array, "levels *c"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class FrequencyMeasure:
    """A definition of the frequency of a mode, for `rank_by_frequency`.

    `function(spectrum, domain, weights, num_modes, key)` returns the frequencies of at least the first `num_modes`
    modes (None: as many as possible) for each row of weights `(b, n)`. Row 0 has the inputs' own weights. `domain` is
    the class of domains that the measure needs, and `needs` describes it in words. `text` completes the sentence "the
    frequency of a mode is ...".

    >>> import ntkbias as nb
    >>> sorted(nb.frequency.MEASURES)
    ['dirichlet', 'graph', 'harmonic']
    """

    name: str
    function: Callable[[Spectrum, Domain, Float[np.ndarray, "b n"], int | None, PRNGKeyArray | None], Measured]
    text: str
    domain: type = Domain
    needs: str = "a domain, e.g. Circle() or PointCloud()"

    def applies_to(self, domain: Domain) -> bool:
        """Whether the measure works on this domain."""
        return isinstance(domain, self.domain)


def require_inputs(spectrum: Spectrum, domain: Domain) -> Array:
    """The inputs of a spectrum. Raises `InputError` if it has none, or if they do not lie in the domain."""
    if not isinstance(spectrum, Spectrum):
        raise InputTypeError(f"Expected a Spectrum; got {type(spectrum).__name__}. Use spectrum(kernel, x).")
    spectrum.require_one()
    require_domain(domain)
    if spectrum.x is None:
        raise InputError(
            "Expected a spectrum that knows its inputs; got one of a bare matrix. Use spectrum(kernel, x)."
        )
    if are_several(spectrum.inputs):
        raise InputError(
            f"Expected inputs as one array of coordinates, which {type(domain).__name__} needs; got several arrays."
        )
    domain.check(spectrum.x)
    return spectrum.x


def require_domain(domain: Domain) -> None:
    """Raise an `InputTypeError` unless `domain` is a domain."""
    if not isinstance(domain, Domain):
        got = f"the class {domain.__name__}" if isinstance(domain, type) else type(domain).__name__
        raise InputTypeError(f"Expected a domain, e.g. Circle() or PointCloud(); got {got}.")


def shared(values: np.ndarray, eigenspace: Int[np.ndarray, " k"]) -> np.ndarray:
    """The values `(k, ...)`, with each replaced by the mean over its eigenspace."""
    _, members, counts = np.unique(eigenspace, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), *values.shape[1:]), values.dtype)
    np.add.at(sums, members, values)
    return (sums / counts.reshape(-1, *(1,) * (values.ndim - 1)).astype(values.dtype))[members]
