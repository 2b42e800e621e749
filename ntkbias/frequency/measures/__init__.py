"""The measures of frequency: power in harmonics, differences along a graph, difference quotients, derivatives.

Each measures sqrt(E |grad phi|^2 / E phi^2), and the four agree where their conditions hold:

- *harmonic*: the frequency of the harmonics that hold most of the mode's power. A harmonic has the Laplacian eigenvalue
  frequency^2, so for a mode that is a harmonic the measure is exact. For a mode that mixes degrees with power p_l, the
  other measures give the root mean square instead, sqrt(sum p_l frequency_l^2).
- *graph*: takes the gradient from differences between neighboring inputs.
- *Dirichlet*: takes the gradient from difference quotients of the extension, at a given scale.
- *gradient*: takes the gradient by automatic differentiation, which is the limit of short steps.

The graph and Dirichlet measures are calibrated on plane waves (`domains.plane_wave`), so their steps need not be short.
They saturate at a wavelength of two steps. On the circle and the sphere, they agree with the degree within 5 % up to a
fifth of the highest degree that the inputs resolve.

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

# The measures that `rank_by_frequency` knows by name. By default it takes the first that applies to the domain.
MEASURES = {measure.name: measure for measure in (harmonic, graph, dirichlet)}


def measure_on(domain: Domain, measure: str | FrequencyMeasure | None = None) -> FrequencyMeasure:
    """The measure of frequency on a domain: `measure` itself, or by default the first of `MEASURES` that applies.

    Raises `InputError` on an unknown name, and `InputTypeError` if the measure does not apply to the domain.

    >>> import ntkbias as nb
    >>> nb.frequency.measure_on(nb.domains.Circle()).name, nb.frequency.measure_on(nb.domains.PointCloud()).name
    ('harmonic', 'graph')
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
