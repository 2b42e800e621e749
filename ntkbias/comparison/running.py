"""`compare`: the spectra and frequency rankings of several networks or kernels on the same inputs."""

from collections.abc import Mapping

from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from ntkbias.checks import key_or_default, require_finite, require_known, require_wide
from ntkbias.comparison.value import Comparison
from ntkbias.domains import Domain
from ntkbias.eigen import spectrum
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import FrequencyMeasure, measure_on, rank_by_frequency
from ntkbias.kernels import Kernel
from ntkbias.kernels.kernel import require_kernel
from ntkbias.mistaken import require_no_labels
from ntkbias.progress import progress

__all__ = ["compare"]


def compare(
    kernels: Mapping[str, Kernel],
    x: ArrayLike,
    domain: Domain | None = None,
    *,
    weights: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    measure: str | FrequencyMeasure | None = None,
    key: PRNGKeyArray | None = None,
) -> Comparison:
    """Compute the spectrum and the frequency ranking of each named kernel on `x` `(n, ...)`.

    `targets`, `(n,)` or `(n, t)`, are values on x of functions of interest. The result keeps them for
    `Spectrum.cumulative_power`. The other arguments are those of `spectrum` and `rank_by_frequency`. Costs one spectrum
    per kernel; a progress bar counts kernels.

    Raises `InputTypeError` on kernels that are not a dict by name, and `InputError` on targets that do not have one
    finite row per input or are labels, on inputs outside the domain, and on whatever `spectrum` and `rank_by_frequency`
    refuse.
    """
    if not isinstance(kernels, Mapping) or not kernels:
        got = "an empty dict" if isinstance(kernels, Mapping) else type(kernels).__name__
        raise InputTypeError(f"Expected a dict of one or more kernels by name; got {got}.")
    for name in kernels:
        if not isinstance(name, str):
            raise InputTypeError(f"Expected the names of kernels to be strings; got {name!r}.")
        require_kernel(kernels[name])
    if domain is None:
        raise InputTypeError(
            "Expected compare(kernels, x, domain), with the domain of the inputs; got no domain. Give domain=, e.g. "
            "nb.domains.PointCloud() for data."
        )
    require_known((kernels, x, weights, targets), "compare")
    key = key_or_default(key)
    inputs = require_wide(x, "x")
    values = None if targets is None else require_wide(targets, "targets")
    if values is not None and values.shape[:1] != inputs.shape[:1]:
        raise InputError(f"Expected one row of targets for each of {len(inputs)} inputs; got shape {values.shape}.")
    if values is not None:
        require_finite(values, "targets")
        require_no_labels(values)
    chosen = measure_on(domain, measure)  # refuse bad input before the expensive work
    domain.check(inputs)
    spectra, rankings = [], []
    for name in progress(kernels, "kernels"):
        spectra.append(spectrum(kernels[name], inputs, weights=weights))
        rankings.append(rank_by_frequency(spectra[-1], domain, measure=chosen, key=key))
    return Comparison(tuple(kernels), tuple(spectra), tuple(rankings), domain, values)
