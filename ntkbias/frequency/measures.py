"""The measures of frequency: power in harmonics, differences along a graph, difference quotients, derivatives.

All four are one number, sqrt(E |grad phi|^2 / E phi^2), where their conditions hold. A harmonic of degree l has it
exactly, since its Laplacian eigenvalue is frequency^2: of a mode that is one, the *harmonic* measure gives this number
without error. Of a mode that mixes degrees with power p_l it gives the frequency of most power, and the others the root
mean square, sqrt(sum p_l frequency_l^2). The *graph* measure takes the gradient from differences between neighbouring
inputs, and the *Dirichlet* measure from difference quotients of the extension at a stated scale; both are calibrated on
plane waves (`domains.domain`), so that steps need not be short, and saturate at the wavelength of two steps. On circle
and sphere they agree with the degree within 5 % up to a fifth of the highest degree that the inputs tell apart. The
*gradient* measure is the limit of short steps, by automatic differentiation.

>>> import ntkbias as nb
>>> from ntkbias.frequency import dirichlet_frequency, gradient_frequency, graph_frequency
>>> circle = nb.domains.Circle()
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, activation="erf", b_std=1.0)), circle.grid(64))
>>> measures = graph_frequency, dirichlet_frequency, gradient_frequency
>>> [round(float(measure(spectrum, circle)[4]), 1) for measure in measures]
[2.0, 2.0, 2.0]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.domains import Domain, HarmonicDomain, Hypercube
from ntkbias.domains.domain import plane_wave_frequency
from ntkbias.errors import InputError, InputTypeError
from ntkbias.spectra import Spectrum

__all__ = [
    "dirichlet_frequency",
    "gradient_frequency",
    "graph_frequency",
    "harmonic_energy",
    "require_inputs",
]

_CHANCE = 0.01  # that an unresolved mode passes for one of some degree
_BLOCK_BYTES = 2**26  # of resampled functions at a time


class Measured(NamedTuple):
    """The frequencies of modes, the same under each resample of the inputs, and which of them the inputs resolve."""

    frequencies: Float[np.ndarray, " k"]
    resamples: Float[np.ndarray, "b k"]
    resolved: Bool[np.ndarray, " k"]


def harmonic_energy(spectrum: Spectrum, domain: Domain, max_degree: int | None = None) -> Float[Array, "k degrees"]:
    """The power of each mode in each level up to `max_degree` (default: the most that n inputs tell apart).

    `domain.levels(max_degree)` says which: the degrees 0 .. `max_degree` of a circle, sphere or cube, the degrees that
    there are of a torus, tuples of degrees of a product of spheres.

    Shared by the members of an eigenspace, whose mean is the same for every basis of it. Costs n k h multiplications
    for h harmonics.
    """
    x = require_inputs(spectrum, domain)
    if not isinstance(domain, HarmonicDomain):
        raise InputTypeError(f"Expected a domain with harmonics, e.g. Circle(); got {type(domain).__name__}.")
    max_degree = domain.max_degree(len(x)) if max_degree is None else max_degree
    energy = domain.energy(spectrum.eigenfunctions, x, spectrum.weights, max_degree)
    return jnp.asarray(shared(np.asarray(energy), np.asarray(spectrum.eigenspace)))


def graph_frequency(spectrum: Spectrum, domain: Domain) -> Float[Array, " k"]:
    """The frequency of each mode from the Laplacian of the neighbourhood graph of the inputs.

    The Rayleigh quotient phi^T L phi / phi^T M phi with edge weights (w_i + w_j) / d_ij^2, turned into the frequency
    of the plane wave that has the same one. Needs no kernel, and resolves wavelengths of about two neighbour
    distances at best. Costs k multiplications an edge, and the neighbour search.
    """
    weights = np.asarray(spectrum.weights, float)[None]
    return jnp.asarray(measured_on_graph(spectrum, domain, weights).frequencies, spectrum.eigenvalues.dtype)


def dirichlet_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    num_modes: int | None = None,
    scale: float | None = None,
    num_steps: int = 512,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " k"]:
    """The frequency of each resolved mode from difference quotients of its extension, between the inputs.

    `num_steps` steps of length `scale` (default: the domain's, mostly two median nearest-neighbour distances) are taken
    where the domain draws them; the mean squared difference over them is turned into the frequency of the plane wave
    that has the same one. The relative standard error is about 1 / sqrt(2 num_steps) for a single mode. Costs the
    kernel of 2 `num_steps` inputs with n.
    """
    weights = np.asarray(spectrum.weights, float)[None]
    measured = measured_by_steps(
        spectrum, domain, weights, num_modes=num_modes, scale=scale, num_steps=num_steps, key=key
    )
    return jnp.asarray(measured.frequencies, spectrum.eigenvalues.dtype)


def gradient_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    num_modes: int | None = None,
    num_points: int = 512,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " k"]:
    """The frequency of each resolved mode by automatic differentiation of its extension: for smooth activations only.

    Warning: the kernel of a finite ReLU network jumps in x, and its derivative misses the jumps (degree 12 reads as
    0.5); that of the infinite one has no limit at the nodes. `dirichlet_frequency` holds for both.

    sqrt(m E (d phi / d u)^2 / E phi^2) over `num_points` points between the inputs and random directions u along the
    domain, m its dimension, weights those of the nodes. Agrees with `dirichlet_frequency` for short steps, without a
    limit of its own. Costs the kernel of `num_points` inputs with n, and its derivative.

    Raises `InputError` on the cube, whose functions have no derivative.
    """
    x = require_inputs(spectrum, domain)
    require_positive("num_points", num_points)
    if isinstance(domain, Hypercube):
        raise InputError(
            "Expected a domain with directions; got Hypercube, whose inputs flip. Use dirichlet_frequency."
        )
    key = jax.random.key(0) if key is None else require_key(key)
    step = 0.01 * domain.spacing(x)  # a chord that is a tangent to within 1e-4 of the spacing, and far above rounding
    nodes, start, end = domain.steps(x, step, num_points, key=key)
    direction = end - start
    lengths = np.linalg.norm(np.asarray(direction, float).reshape(len(nodes), -1), axis=1)
    direction = direction / jnp.asarray(lengths, x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    modes = spectrum._first_modes(num_modes).stop
    values, slopes = jax.jvp(lambda points: spectrum.extend(points, modes), (start,), (direction,))
    weights = np.asarray(spectrum.weights, float)[np.asarray(nodes)]
    squares, slopes = (np.asarray(part, float).reshape(len(nodes), -1, modes) for part in (values, slopes))
    eigenspace = np.asarray(spectrum.eigenspace)[:modes]
    ratio = [shared(weights @ np.sum(part**2, 1), eigenspace) for part in (slopes, squares)]
    frequencies = np.sqrt(domain.intrinsic_dimension(x) * ratio[0] / ratio[1])
    return jnp.asarray(frequencies, spectrum.eigenvalues.dtype)


def measured_on_graph(spectrum: Spectrum, domain: Domain, weights: Float[np.ndarray, "b n"]) -> Measured:
    """The graph frequency under each row of weights, the first row the inputs' own.

    An edge is there as often as both of its ends are: resampled weights enter as a product.
    """
    x = require_inputs(spectrum, domain)
    first, second, distance = domain.neighbors(x)
    functions = np.asarray(spectrum.eigenfunctions)
    times = weights / weights[0]
    coefficients = (weights[0, first] + weights[0, second]) / distance**2 * times[:, first] * times[:, second]
    ratios = _ratios(functions, first, functions, second, coefficients, distance, spectrum)
    return _calibrated(ratios, distance, coefficients[0], domain, x)


def measured_by_steps(
    spectrum: Spectrum,
    domain: Domain,
    weights: Float[np.ndarray, "b n"],
    *,
    num_modes: int | None = None,
    scale: float | None = None,
    num_steps: int = 512,
    key: PRNGKeyArray | None = None,
) -> Measured:
    """The Dirichlet frequency under each row of weights, the first row the inputs' own."""
    x = require_inputs(spectrum, domain)
    require_positive("num_steps", num_steps)
    scale = domain.step_length(x) if scale is None else scale
    if not scale > 0:
        raise InputError(f"Expected a scale above zero; got {scale!r}.")
    key = jax.random.key(0) if key is None else require_key(key)
    nodes, start, end = domain.steps(x, scale, num_steps, key=key)
    count = len(nodes)
    functions = np.asarray(spectrum.extend(jnp.concatenate([start, end]), num_modes))
    distance = np.full(count, scale)
    coefficients = weights[:, np.asarray(nodes)] / distance**2
    each = np.arange(count)
    ratios = _ratios(functions[:count], each, functions[count:], each, coefficients, distance, spectrum)
    return _calibrated(ratios, distance, coefficients[0], domain, x)


def measured_by_harmonics(
    spectrum: Spectrum, domain: HarmonicDomain, energy: Float[Array, "k levels"], weights: Float[np.ndarray, "b n"]
) -> Measured:
    """The frequency that holds most of each mode's power, under each row of weights, the first row the inputs' own.

    Where more lies beyond the levels than in any frequency it is the largest one, and not resolved; nor is a mode whose
    power in its frequency is no more than a random function's, with a chance of 1 % over all frequencies.
    """
    max_degree = domain.max_degree(len(spectrum.weights))
    known = np.asarray(domain.frequency(jnp.asarray(domain.levels(max_degree), energy.dtype)))
    frequencies, group = np.unique(known, return_inverse=True)
    members = (group[:, None] == np.arange(len(frequencies))).astype(float)
    counts = np.array([domain.multiplicity(level) for level in _levels(domain, max_degree)]) @ members

    def dominant(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        power = energy @ members
        beyond = 1 - power.sum(-1) > power.max(-1)
        return np.where(beyond, len(frequencies) - 1, power.argmax(-1)), power.max(-1), beyond

    place, power, beyond = dominant(np.asarray(energy, float))
    resolved = ~beyond & (power > _power_by_chance(counts, spectrum)[place])
    resamples = np.tile(place, (len(weights) - 1, 1))  # an unresolved mode has its lower bound in all
    if len(resamples) and resolved.any():
        chosen = np.flatnonzero(resolved)
        resamples[:, chosen] = dominant(_resampled_energy(spectrum, domain, chosen, weights[1:], max_degree))[0]
    return Measured(frequencies[place], frequencies[resamples], resolved)


def require_inputs(spectrum: Spectrum, domain: Domain) -> Array:
    """The inputs of a spectrum; raises an `InputError` unless it has some, in this domain."""
    if not isinstance(spectrum, Spectrum):
        raise InputTypeError(f"Expected a Spectrum; got {type(spectrum).__name__}. Use spectrum(kernel, x).")
    require_domain(domain)
    if spectrum.x is None:
        raise InputError(
            "Expected a spectrum that knows its inputs; got one of a bare matrix. Use spectrum(kernel, x)."
        )
    domain.check(spectrum.x)
    return spectrum.x


def require_domain(domain: Domain) -> None:
    """Raise an `InputTypeError` unless this is a domain."""
    if not isinstance(domain, Domain):
        got = f"the class {domain.__name__}" if isinstance(domain, type) else type(domain).__name__
        raise InputTypeError(f"Expected a domain, e.g. Circle() or PointCloud(); got {got}.")


def shared(values: np.ndarray, eigenspace: Int[np.ndarray, " k"]) -> np.ndarray:
    """The values `(k, ...)`, each replaced by the mean over its eigenspace."""
    _, members, counts = np.unique(eigenspace, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), *values.shape[1:]), values.dtype)
    np.add.at(sums, members, values)
    return (sums / counts.reshape(-1, *(1,) * (values.ndim - 1)).astype(values.dtype))[members]


def _ratios(
    starts: np.ndarray,
    first: np.ndarray,
    ends: np.ndarray,
    second: np.ndarray,
    coefficients: Float[np.ndarray, "b e"],
    distance: np.ndarray,
    spectrum: Spectrum,
) -> Float[np.ndarray, "b k"]:
    """Mean squared difference over mean square along edges, of each mode, its eigenspace taken together."""
    num_modes = starts.shape[-1]
    differences, squares = np.zeros((2, len(coefficients), num_modes))
    for part in np.array_split(np.arange(len(first)), -(-len(first) // 1_024)):  # bounds the memory
        a, b = starts[first[part]], ends[second[part]]
        outputs = tuple(range(1, a.ndim - 1))
        differences += coefficients[:, part] @ np.sum((a - b) ** 2, outputs)
        squares += (coefficients * distance**2)[:, part] @ np.sum(a**2 + b**2, outputs) / 2
    eigenspace = np.asarray(spectrum.eigenspace)[:num_modes]
    return shared(differences.T, eigenspace).T / shared(squares.T, eigenspace).T


def _calibrated(
    ratios: Float[np.ndarray, "b k"], distance: np.ndarray, coefficients: np.ndarray, domain: Domain, x: Array
) -> Measured:
    """The frequencies of plane waves of these ratios; not resolved where the interval comes within 1 % of the last."""
    dimension = domain.intrinsic_dimension(x)
    edges = (distance, coefficients, dimension, domain.correlation)
    limit = plane_wave_frequency(np.array([np.inf]), *edges)[0]
    frequencies, *resamples = plane_wave_frequency(ratios.ravel(), *edges).reshape(ratios.shape)
    spread = 1.96 * np.std(resamples, 0) if resamples else 0.0
    return Measured(frequencies, np.reshape(resamples, (-1, len(frequencies))), frequencies + spread < 0.99 * limit)


def _resampled_energy(
    spectrum: Spectrum,
    domain: HarmonicDomain,
    modes: Int[np.ndarray, " k"],
    weights: Float[np.ndarray, "b n"],
    max_degree: int,
) -> Float[np.ndarray, "b k levels"]:
    """The energy of these modes in each level under other weights, its power there one.

    Of weights w' it is that of the function phi w' / w under w, so that many resamples are functions of one call.
    """
    assert spectrum.x is not None
    own, eigenspace = np.asarray(spectrum.weights), np.asarray(spectrum.eigenspace)[modes]
    functions = np.asarray(spectrum.eigenfunctions)[..., modes]
    outputs = tuple(range(1, functions.ndim - 1))
    at_once = max(1, _BLOCK_BYTES // functions.nbytes)
    rows: list[np.ndarray] = []
    for some in (weights[i : i + at_once] for i in range(0, len(weights), at_once)):
        ratio = (some / own).astype(functions.dtype).T.reshape(len(own), *(1,) * len(outputs), -1, 1)
        scaled = (ratio * functions[..., None, :]).reshape(*functions.shape[:-1], -1)
        energy = np.asarray(domain.energy(jnp.asarray(scaled), spectrum.x, spectrum.weights, max_degree), np.float64)
        power = some @ np.sum(functions**2, outputs)
        each = energy.reshape(len(some), len(modes), -1)
        rows += [shared(e, eigenspace) / shared(p, eigenspace)[:, None] for e, p in zip(each, power, strict=True)]
    return np.stack(rows)


def _power_by_chance(counts: Float[np.ndarray, " f"], spectrum: Spectrum) -> Float[np.ndarray, " f"]:
    """The power in N of n orthonormal functions that a random one has in one of a hundred cases, over all frequencies.

    It is a Beta variable of N / 2 and (n - N) / 2; inputs of unequal weights count as 1 / sum w^2. At most 0.99: a
    basis of all functions on few inputs leaves nothing to chance.
    """
    outputs = int(np.prod(spectrum.eigenfunctions.shape[1:-1]))
    n = outputs / np.sum(np.asarray(spectrum.weights, float) ** 2)
    free = np.minimum(counts * outputs, n - 1e-3)
    return np.minimum(scipy.stats.beta.ppf(1 - _CHANCE / len(counts), free / 2, (n - free) / 2), 0.99)


def _levels(domain: HarmonicDomain, max_degree: int) -> list:
    return [tuple(level) if isinstance(level, list) else level for level in domain.levels(max_degree).tolist()]
