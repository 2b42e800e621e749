"""Frequency by differences: along the edges of a graph, or along short steps between the inputs.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, activation="erf", b_std=1.0)), circle.grid(64))
>>> for measure in (nb.frequency.graph_frequency, nb.frequency.dirichlet_frequency):
...     print(round(float(measure(spectrum, circle)[4]), 1))
2.0
2.0
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_positive
from ntkbias.domains import Domain
from ntkbias.domains.plane_wave import plane_wave_frequency
from ntkbias.errors import InputError
from ntkbias.frequency.measures.measure import FrequencyMeasure, Measured, require_inputs, shared
from ntkbias.spectra import Spectrum

__all__ = ["dirichlet", "dirichlet_frequency", "graph", "graph_frequency"]


def graph_frequency(spectrum: Spectrum, domain: Domain) -> Float[Array, " k"]:
    """The frequency of each mode, `(k,)`, from the Laplacian of the neighborhood graph of the inputs.

    It computes the Rayleigh quotient phi^T L phi / phi^T M phi with edge weights (w_i + w_j) / d_ij^2, and returns the
    frequency of the plane wave with the same quotient. It needs no kernel. At best, it resolves wavelengths of two
    neighbor distances. Costs the neighbor search and k multiplications per edge.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, weights=weights)
    >>> [round(value.item(), 1) for value in nb.frequency.graph_frequency(spectrum, circle)[:3]]
    [0.0, 1.0, 1.0]
    """
    weights = np.asarray(spectrum.weights, float)[None]
    return jnp.asarray(
        measured_on_graph(spectrum, domain, weights).frequencies,
        jax.dtypes.canonicalize_dtype(spectrum.eigenvalues.dtype),
    )


def dirichlet_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    num_modes: int | None = None,
    scale: float | None = None,
    num_steps: int = 512,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " k"]:
    """The frequency of each mode above the noise floor, from difference quotients of its extension between the inputs.

    The domain draws `num_steps` random steps of length `scale` with `key` (default: a fixed key). The result is the
    frequency of the plane wave with the same mean squared difference over these steps. By default the domain chooses
    the scale; for most domains it is two median nearest-neighbor distances. The relative standard error is about
    1 / sqrt(2 num_steps) for a single mode. Costs the kernel between 2 `num_steps` and n inputs.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x, weights=weights)
    >>> [round(value.item(), 1) for value in nb.frequency.dirichlet_frequency(spectrum, circle, num_modes=3)]
    [0.0, 1.0, 1.0]
    """
    weights = np.asarray(spectrum.weights, float)[None]
    measured = measured_by_steps(
        spectrum, domain, weights, num_modes=num_modes, scale=scale, num_steps=num_steps, key=key
    )
    return jnp.asarray(measured.frequencies, jax.dtypes.canonicalize_dtype(spectrum.eigenvalues.dtype))


def measured_on_graph(
    spectrum: Spectrum,
    domain: Domain,
    weights: Float[np.ndarray, "b n"],
    num_modes: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Measured:
    """The graph frequency for each row of weights. Row 0 has the inputs' own weights.

    The weight of an edge is multiplied by the resampled weights of both ends: if inputs i and j are drawn a and b
    times, the edge between them occurs a b times.
    """
    x = require_inputs(spectrum, domain)
    first, second, distance = domain.neighbors(x)
    functions = np.asarray(spectrum.eigenfunctions)
    times = weights / weights[0]
    coefficients = (weights[0, first] + weights[0, second]) / distance**2 * times[:, first] * times[:, second]
    ratios = ratios_along(functions, first, functions, second, coefficients, distance, np.asarray(spectrum.eigenspace))
    return calibrated(ratios, distance, coefficients[0], domain, x)


def measured_by_steps(
    spectrum: Spectrum,
    domain: Domain,
    weights: Float[np.ndarray, "b n"],
    num_modes: int | None = None,
    key: PRNGKeyArray | None = None,
    *,
    scale: float | None = None,
    num_steps: int = 512,
) -> Measured:
    """The Dirichlet frequency for each row of weights. Row 0 has the inputs' own weights."""
    x = require_inputs(spectrum, domain)
    require_positive("num_steps", num_steps)
    scale = domain.step_length(x) if scale is None else scale
    if not scale > 0:
        raise InputError(f"Expected a scale above zero; got {scale!r}.")
    key = key_or_default(key)
    nodes, start, end = domain.steps(x, scale, num_steps, key=key)
    count = len(nodes)
    functions = np.asarray(spectrum.extend(jnp.concatenate([start, end]), num_modes))
    distance = np.full(count, scale)
    coefficients = weights[:, np.asarray(nodes)] / distance**2
    each = np.arange(count)
    ratios = ratios_along(
        functions[:count], each, functions[count:], each, coefficients, distance, np.asarray(spectrum.eigenspace)
    )
    return calibrated(ratios, distance, coefficients[0], domain, x)


graph = FrequencyMeasure("graph", measured_on_graph, "estimated on the graph of neighboring inputs")
dirichlet = FrequencyMeasure(
    "dirichlet", measured_by_steps, "estimated from difference quotients along short steps between the inputs"
)


def ratios_along(
    starts: np.ndarray,
    first: np.ndarray,
    ends: np.ndarray,
    second: np.ndarray,
    coefficients: Float[np.ndarray, "b e"],
    distance: np.ndarray,
    eigenspace: np.ndarray,
) -> Float[np.ndarray, "b k"]:
    """The mean squared difference over the mean square along edges, for each mode, averaged over its eigenspace."""
    num_modes = starts.shape[-1]
    differences, squares = np.zeros((2, len(coefficients), num_modes))
    for part in np.array_split(np.arange(len(first)), -(-len(first) // 1_024)):  # bounds the memory
        a, b = starts[first[part]], ends[second[part]]
        outputs = tuple(range(1, a.ndim - 1))
        differences += coefficients[:, part] @ np.sum((a - b) ** 2, outputs)
        squares += (coefficients * distance**2)[:, part] @ np.sum(a**2 + b**2, outputs) / 2
    eigenspace = eigenspace[:num_modes]
    return shared(differences.T, eigenspace).T / shared(squares.T, eigenspace).T


def calibrated(
    ratios: Float[np.ndarray, "b k"], distance: np.ndarray, coefficients: np.ndarray, domain: Domain, x: Array
) -> Measured:
    """The frequencies of the plane waves that have these ratios.

    A mode is resolved unless the upper end of its interval comes within 1 % of the frequency at which this measure
    saturates.
    """
    dimension = domain.intrinsic_dimension(x)
    all_ratios = np.append(ratios.ravel(), np.inf)
    *found, limit = plane_wave_frequency(all_ratios, distance, coefficients, dimension, domain.correlation)
    frequencies, *resamples = np.reshape(found, ratios.shape)
    spread = 1.96 * np.std(resamples, 0) if resamples else 0.0
    return Measured(frequencies, np.reshape(resamples, (-1, len(frequencies))), frequencies + spread < 0.99 * limit)
