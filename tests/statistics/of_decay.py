"""Decay exponents: of ReLU networks on a circle, whose exponent in the limit is -2, and of exact power laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from covering import Case, holds
from of_learnability import circle, matrix

import ntkbias as nb
from ntkbias.spectra import Spectrum

CIRCLE = nb.domains.Circle()
NODES = 64, 128, 256, 512
DEPTHS = 1, 2, 3, 4
SAMPLE = 100
MANY = range(20_000, 20_200)


def _profile(depth: int, n: int, b_std: float) -> np.ndarray:
    """The first row of the kernel on n nodes, which determines the matrix; every node is one of 512."""
    x, _ = CIRCLE.quadrature(NODES[-1])
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=depth, b_std=b_std))
    return np.asarray(kernel(x[:1], x), float)[0][:: NODES[-1] // n]


def on_nodes(seed: int) -> dict[str, bool]:
    """A ReLU network of random depth and bias, on one of four numbers of nodes."""
    rng = np.random.default_rng(seed)
    depth, n, b_std = rng.choice(DEPTHS), rng.choice(NODES), float(np.exp(rng.uniform(np.log(0.05), 0)))
    row = _profile(int(depth), int(n), b_std)
    places = np.arange(n)
    spectrum = nb.eigen.eigh(jnp.asarray(row[(places - places[:, None]) % n]))
    degrees = (np.arange(n) + 1) // 2
    found = spectrum.decay_exponent("frequency", frequencies=degrees, num_resamples=20)
    by_index = spectrum.decay_exponent(num_resamples=20)
    return {"range, against degree": -2 in found, "range, against index": -2 in by_index}


def _sample(seed: int) -> Spectrum:
    return nb.eigen.eigh(jnp.asarray(matrix(circle(seed, SAMPLE))))


@functools.cache
def _mean_slope() -> float:
    return float(np.mean([_sample(seed).decay_exponent(num_resamples=1).exponent for seed in MANY]))


def on_samples(seed: int) -> dict[str, bool]:
    """The kernel with eigenvalues 1/2 and 1 / k^2 on random angles."""
    found = _sample(seed).decay_exponent(num_resamples=50, key=jax.random.key(seed))
    return {
        "range, limit": -2 in found,
        "sample interval, mean slope": holds(found.sample_low, found.sample_high, _mean_slope()),
    }


def of_power_laws(seed: int) -> dict[str, bool]:
    """A matrix whose eigenvalues are an exact power of their index, with random eigenvectors."""
    rng = np.random.default_rng(seed)
    exponent, n = float(rng.uniform(-3, -0.5)), 80
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    found = nb.eigen.eigh(jnp.asarray((n * basis * np.arange(1.0, n + 1) ** exponent) @ basis.T))
    decay = found.decay_exponent(num_resamples=20, key=jax.random.key(seed))
    return {"range": exponent in decay, "sample interval": holds(decay.sample_low, decay.sample_high, exponent)}


CASES = [
    Case("decay exponent", "ReLU networks, nodes of a circle", "limit, -2", on_nodes),
    Case("decay exponent", f"{SAMPLE} random angles", "limit -2; mean slope", on_samples),
    Case("decay exponent", "exact power laws", "the power", of_power_laws),
]
