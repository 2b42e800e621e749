"""Several kernels on the same inputs, side by side.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(32)
>>> kernels = {f"depth {d}": nb.infinite_ntk(nb.nets.mlp(depth=d, b_std=0.1)) for d in (1, 3)}
>>> comparison = nb.compare(kernels, x, circle, weights=weights)
>>> comparison.names, [round(float(s.eigenvalues[0] / s.trace), 2) for s in comparison.spectra]
(('depth 1', 'depth 3'), [0.3, 0.4])
"""

from collections.abc import Mapping

import equinox as eqx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_finite, require_wide
from ntkbias.domains import Domain
from ntkbias.eigen import spectrum
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyMeasure, FrequencyRanking, measure_on, rank_by_frequency
from ntkbias.kernels import Kernel
from ntkbias.progress import progress
from ntkbias.spectra import Spectrum

__all__ = ["Comparison", "compare"]


class Comparison(eqx.Module):
    """The spectra and frequency rankings of several kernels on the same inputs, in the order of `names`."""

    names: tuple[str, ...] = eqx.field(static=True)
    spectra: tuple[Spectrum, ...]
    rankings: tuple[FrequencyRanking, ...]
    domain: Domain
    targets: Float[Array, "n *t"] | None = None


def compare(
    kernels: Mapping[str, Kernel],
    x: ArrayLike,
    domain: Domain,
    *,
    weights: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    measure: str | FrequencyMeasure | None = None,
    key: PRNGKeyArray | None = None,
) -> Comparison:
    """The spectrum and the frequency ranking of each of the named kernels on `x`.

    `targets` `(n,)` or `(n, t)`, functions of interest by their values on x, are kept for
    `Spectrum.cumulative_power`. The other arguments are those of `spectrum` and `rank_by_frequency`. Costs one
    spectrum a kernel, shown by a progress bar.
    """
    if not isinstance(kernels, Mapping) or not kernels:
        raise InputTypeError(f"Expected a dict of one kernel or more by name; got {type(kernels).__name__}.")
    for name in kernels:
        if not isinstance(name, str):
            raise InputTypeError(f"Expected names of kernels to be strings; got {name!r}.")
    inputs = require_wide(x, "x")
    values = None if targets is None else require_wide(targets, "targets")
    if values is not None and values.shape[:1] != inputs.shape[:1]:
        raise InputError(f"Expected one row of targets for each of {len(inputs)} inputs; got shape {values.shape}.")
    if values is not None:
        require_finite(values, "targets")
    chosen = measure_on(domain, measure)  # what can be refused is refused before the work
    domain.check(inputs)
    spectra, rankings = [], []
    for name in progress(kernels, "kernels"):
        spectra.append(spectrum(kernels[name], inputs, weights=weights))
        rankings.append(rank_by_frequency(spectra[-1], domain, measure=chosen, key=key))
    return Comparison(tuple(kernels), tuple(spectra), tuple(rankings), domain, values)
