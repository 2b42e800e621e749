"""Frequency by automatic differentiation: the limit of short steps, if it exists.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, activation="erf", b_std=1.0)), circle.grid(64))
>>> round(float(nb.frequency.gradient_frequency(spectrum, circle)[4]), 1)
2.0
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_positive
from ntkbias.domains import Domain, Hypercube
from ntkbias.errors import InputError
from ntkbias.frequency.measures.measure import require_inputs, shared
from ntkbias.spectra import Spectrum

__all__ = ["gradient_frequency"]


def gradient_frequency(
    spectrum: Spectrum,
    domain: Domain,
    *,
    num_modes: int | None = None,
    num_points: int = 512,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " k"]:
    """The frequency of each mode above the noise floor, by automatic differentiation. Only for smooth activations.

    Warning: the kernel of a finite ReLU network jumps in x, and its derivative misses the jumps (degree 12 reads as
    0.5). The derivative of the infinite-width ReLU kernel has no limit at the nodes. In both cases, use
    `dirichlet_frequency`.

    The frequency is sqrt(m E (d phi / d u)^2 / E phi^2), where m is the dimension of the domain. The mean runs over
    `num_points` random points between the inputs, drawn with `key` (default: a fixed key). Each point has a random
    direction u along the domain, and the weight of the input that it belongs to. The result agrees with
    `dirichlet_frequency` for short steps, and does not saturate. Costs the kernel between `num_points` and n inputs,
    and its derivative.

    Raises `InputError` on the cube, whose functions have no derivative.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> net = nb.nets.mlp(depth=1, b_std=0.1, activation="erf")
    >>> spectrum = nb.spectrum(nb.infinite_ntk(net), x, weights=weights)
    >>> [round(value.item(), 1) for value in nb.frequency.gradient_frequency(spectrum, circle, num_modes=3)]
    [1.0, 1.0, 0.0]
    """
    x = require_inputs(spectrum, domain)
    require_positive("num_points", num_points)
    if isinstance(domain, Hypercube):
        raise InputError(
            "Expected a domain with derivatives; got Hypercube, which is discrete. Use dirichlet_frequency."
        )
    key = key_or_default(key)
    step = 0.01 * domain.spacing(x)  # so short that the chord is a tangent to 1e-4 of the spacing; far above rounding
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
    return jnp.asarray(frequencies, jax.dtypes.canonicalize_dtype(spectrum.eigenvalues.dtype))
