"""Frequencies and their rank correlation, for functions whose frequencies are known, on samples of a sphere."""

import jax
import jax.numpy as jnp
import numpy as np
from covering import Case, holds

import ntkbias as nb
from ntkbias.domains import PointCloud, Sphere

NUM = 100
SPHERE = Sphere(3)
SHARES = np.array([0.0, 0.2, 0.4, 0.6, 0.8])  # of the squared function of degree 3; the rest has degree 2
MEASURES = {"harmonic": SPHERE, "graph": PointCloud(dimension=2)}


def ranked(seed: int, measure: str, functions: np.ndarray, x: jax.Array) -> nb.FrequencyRanking:
    functions = functions / np.sqrt(np.mean(functions**2, 0))
    count = functions.shape[1]
    bare = nb.eigen.eigh(jnp.eye(NUM), num_modes=count)
    fields = {"eigenvalues": jnp.linspace(2, 1, count), "eigenfunctions": jnp.asarray(functions), "x": x}
    spectrum = nb.Spectrum(**{**vars(bare), **fields, "eigenspace": jnp.arange(count)})
    return nb.rank_by_frequency(spectrum, MEASURES[measure], measure=measure, key=jax.random.key(seed))


def of_degrees(seed: int) -> dict[str, bool]:
    """One function each of degrees 1 to 3."""
    x = SPHERE.sample(NUM, key=jax.random.key(seed))
    functions = np.asarray(SPHERE.harmonics(x, 3), float)[:, [2, 5, 10]]
    held = {}
    for measure in MEASURES:
        ends = np.asarray(ranked(seed, measure, functions, x).interval, float)
        for degree, (low, high) in zip((1, 2, 3), ends, strict=True):
            held[f"degree {degree}, {measure}"] = holds(low, high, (degree * (degree + 1)) ** 0.5)
    return held


def of_rank_correlation(seed: int) -> dict[str, bool]:
    """Five functions whose frequencies lie so close that samples confuse their order; the truth is -1."""
    x = SPHERE.sample(NUM, key=jax.random.key(seed))
    low, high = (np.asarray(SPHERE.harmonics(x, 3), float)[:, [place]] for place in (5, 10))
    functions = np.sqrt(1 - SHARES) * low + np.sqrt(SHARES) * high
    return {"graph": holds(*ranked(seed, "graph", functions, x).spearman_interval, -1.0)}


CASES = [
    Case("frequency of a fixed mode", f"{NUM} points on a sphere", "its degree", of_degrees),
    Case("Spearman's rho of fixed modes", f"{NUM} points on a sphere", "their order", of_rank_correlation),
]
