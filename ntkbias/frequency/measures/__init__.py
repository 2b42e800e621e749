"""The measures of frequency: power in harmonics, differences along a graph, difference quotients, derivatives.

All four are one number, sqrt(E |grad phi|^2 / E phi^2), where their conditions hold. A harmonic of degree l has it
exactly, since its Laplacian eigenvalue is frequency^2: of a mode that is one, the *harmonic* measure gives this number
without error. Of a mode that mixes degrees with power p_l it gives the frequency of most power, and the others the root
mean square, sqrt(sum p_l frequency_l^2). The *graph* measure takes the gradient from differences between neighboring
inputs, and the *Dirichlet* measure from difference quotients of the extension at a stated scale; both are calibrated on
plane waves (`domains.plane_wave`), so that steps need not be short, and saturate at the wavelength of two steps. On
circle and sphere they agree with the degree within 5 % up to a fifth of the highest degree that the inputs tell apart.
The *gradient* measure is the limit of short steps, by automatic differentiation.

>>> import ntkbias as nb
>>> from ntkbias.frequency import dirichlet_frequency, gradient_frequency, graph_frequency
>>> circle = nb.domains.Circle()
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, activation="erf", b_std=1.0)), circle.grid(64))
>>> measures = graph_frequency, dirichlet_frequency, gradient_frequency
>>> [round(float(measure(spectrum, circle)[4]), 1) for measure in measures]
[2.0, 2.0, 2.0]
"""

from ntkbias.checks import require_choice
from ntkbias.domains import Domain
from ntkbias.errors import InputTypeError
from ntkbias.frequency.measures.by_derivatives import gradient_frequency
from ntkbias.frequency.measures.by_harmonics import harmonic, harmonic_energy
from ntkbias.frequency.measures.differences import dirichlet, dirichlet_frequency, graph, graph_frequency
from ntkbias.frequency.measures.measure import FrequencyMeasure, Measured, require_domain, require_inputs, shared

__all__ = [
    "MEASURES",
    "FrequencyMeasure",
    "Measured",
    "dirichlet_frequency",
    "gradient_frequency",
    "graph_frequency",
    "harmonic_energy",
    "measure_on",
    "require_inputs",
    "shared",
]

# Those that `rank_by_frequency` knows; on a domain it takes the first that applies, unless told which.
MEASURES = {measure.name: measure for measure in (harmonic, graph, dirichlet)}


def measure_on(domain: Domain, measure: str | FrequencyMeasure | None = None) -> FrequencyMeasure:
    """The measure of frequency on a domain: the one asked for, or the first of `MEASURES` that applies.

    Raises `InputError` on an unknown name, and `InputTypeError` on a domain that lacks what the measure needs.
    """
    require_domain(domain)
    if measure is None:
        return next(known for known in MEASURES.values() if known.applies_to(domain))
    if not isinstance(measure, FrequencyMeasure):
        require_choice("measure", measure, MEASURES)
        measure = MEASURES[measure]
    if not measure.applies_to(domain):
        others = " or ".join(f"{name!r}" for name, known in MEASURES.items() if known.applies_to(domain))
        raise InputTypeError(f"Expected {measure.needs}; got {type(domain).__name__}. Use measure={others}.")
    return measure
