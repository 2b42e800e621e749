"""Estimates from random probes and projections, for matrices with known eigenvalues; and bounds of exact spectra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from covering import Case, holds

import ntkbias as nb
from ntkbias.eigen import spectral_density

NUM, NUM_PROBES, DIM = 150, 16, 200
RIDGE = 0.5
TWO = scipy.special.stdtr(NUM_PROBES - 1, 2) - scipy.special.stdtr(NUM_PROBES - 1, -2)  # of two standard errors


@functools.cache
def _matrix(exponent: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """A matrix with the eigenvalues n index^a, and these divided by n."""
    values = np.arange(1.0, NUM + 1) ** exponent
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(NUM, NUM)))[0]
    return ((NUM * basis * values) @ basis.T).astype(np.float32), values


def _within(estimate: nb.eigen.Estimate, truth: float) -> bool:
    reach = 2 * float(estimate.standard_error) + float(estimate.numerical_error)
    return holds(float(estimate) - reach, float(estimate) + reach, truth)


def of_density(seed: int) -> dict[str, bool]:
    K, values = _matrix()
    density = spectral_density(K, num_probes=NUM_PROBES, num_steps=16, key=jax.random.key(seed))
    return {
        "trace": _within(density.moment(1), values.sum()),
        "squared norm": _within(density.moment(2), np.sum(values**2)),
        "eigenvalues above 0.02": _within(density.cumulative(0.02), np.sum(values > 0.02)),
        "log determinant": _within(density.log_determinant(RIDGE), np.sum(np.log(NUM * values + RIDGE))),
        "effective dimension": _within(
            density.effective_dimension(RIDGE), np.sum(NUM * values / (NUM * values + RIDGE))
        ),
    }


@functools.cache
def _alignments() -> tuple[np.ndarray, np.ndarray, list[float]]:
    rng = np.random.default_rng(1)
    y, other = rng.normal(size=NUM), _matrix(-0.5)[0]
    return y, other, [float(nb.alignment(_matrix()[0], each)) for each in (y, other)]


def of_alignments(seed: int) -> dict[str, bool]:
    y, other, truths = _alignments()
    return {
        name: _within(nb.alignment(_matrix()[0], each, num_probes=NUM_PROBES, key=jax.random.key(seed)), truth)
        for name, each, truth in zip(("with targets", "of two kernels"), (y, other), truths, strict=True)
    }


@functools.cache
def _network() -> tuple[nb.Kernel, jax.Array, np.ndarray]:
    net = nb.nets.mlp(width=16, depth=1)
    kernel, x = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (3,))), jnp.eye(3) + 0.5
    return kernel, x, np.asarray(kernel(x))


def of_sketches(seed: int) -> dict[str, bool]:
    kernel, x, gram = _network()
    found = nb.kernels.sketch(kernel, x, DIM, key=jax.random.key(seed))
    apart, error = np.abs(np.asarray(found.gram()) - gram), 2 * np.asarray(found.standard_error())
    return {"diagonal entry": apart[0, 0] <= error[0, 0], "other entry": apart[0, 1] <= error[0, 1]}


def of_exact_spectra(seed: int) -> dict[str, bool]:
    """The kernel exp(s <x, y>): modified Bessel functions of s, on the circle and on the sphere in R^3."""
    scale = float(np.random.default_rng(seed).uniform(0.5, 4))
    kernel = nb.kernels.DotProductKernel(lambda t: jnp.exp(scale * t))
    degrees = np.arange(9)
    found = {
        "circle": (nb.domains.Circle(), scipy.special.iv(degrees, scale)),
        "sphere": (nb.domains.Sphere(3), scipy.special.spherical_in(degrees, scale)),
    }
    held = {}
    for name, (domain, truth) in found.items():
        exact = nb.exact_spectrum(kernel, domain, max_degree=8)
        held[name] = bool(np.all(np.abs(exact.eigenvalues - truth) <= exact.errors + 1e-15))
    return held


CASES = [
    Case("spectral density, 2 se", f"{NUM_PROBES} probes", "sum over eigenvalues", of_density, nominal=TWO),
    Case("alignment, 2 se", f"{NUM_PROBES} probes", "alignment of matrices", of_alignments, nominal=TWO),
    Case("sketch, 2 se", f"{DIM} projections", "the kernel", of_sketches, nominal=0.954),
    Case("errors of exact spectra", "exp(s <x, y>)", "Bessel functions", of_exact_spectra, nominal=1.0),
]
