"""Scaling laws and tail indices of synthetic data, and learning curves on all inputs of a cube."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import scipy
from covering import Case, holds

import ntkbias as nb
from ntkbias.complexity import hill_tail_index, kesten_tail_index, stable_tail_index
from ntkbias.learning import MeasuredLearningCurve, measured_learning_curve
from ntkbias.scaling import exponent_difference, scaling_law

SIZES = 2.0 ** np.arange(5, 14)
BEYOND = 4 * SIZES[-1]
LEARNING_SIZES = [8, 24]
TWO_OF_20 = scipy.special.stdtr(19, 2) - scipy.special.stdtr(19, -2)  # of two standard errors
NUM_RESAMPLES = 200  # as few as keep the t interval: its half width is known to 5 %


def power(n: np.ndarray) -> np.ndarray:
    return 2 * n**-0.5


def with_offset(n: np.ndarray) -> np.ndarray:
    return 2 * n**-0.5 + 0.02


def broken(n: np.ndarray) -> np.ndarray:
    return 3 * n**-0.2 * (1 + (n / 400) ** 2.5) ** (-0.6 / 2.5)


LAWS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, dict[str, float]]] = {
    "power": (power, 0.1, {"coefficient": 2.0, "exponent": -0.5}),
    "offset": (with_offset, 0.05, {"coefficient": 2.0, "exponent": -0.5, "offset": 0.02}),
    "broken": (
        broken,
        0.03,
        {"coefficient": 3.0, "exponent": -0.8, "first_exponent": -0.2, "break_size": 400.0, "break_width": 0.4},
    ),
}


def measured(curve: np.ndarray, scatter: float, seeds: int, seed: int) -> np.ndarray:
    """The curve with independent errors in its logarithm: `(seeds, n)`, or `(n,)` for one seed."""
    values = curve * np.exp(scatter * np.random.default_rng(seed).normal(size=(seeds, len(curve))))
    return values if seeds > 1 else values[0]


def of_law(form: str, seeds: int, seed: int) -> dict[str, bool]:
    curve, scatter, truths = LAWS[form]
    law = scaling_law(SIZES, measured(curve(SIZES), scatter, seeds, seed), form, num_resamples=NUM_RESAMPLES)
    band = law.extrapolate(np.array([BEYOND]))
    return {name: truth in law.parameters[name] for name, truth in truths.items()} | {
        "error at four times the size": holds(float(band.low[0]), float(band.high[0]), curve(np.array([BEYOND]))[0])
    }


def of_difference(seed: int) -> dict[str, bool]:
    """Two laws whose exponents differ by 0.1; the pairs share half of their scatter."""
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(size=(5, 9)), rng.normal(size=(2, 5, 9))
    steep, flat = (
        scaling_law(SIZES, SIZES**b * np.exp(0.1 * (shared + noise)), num_resamples=NUM_RESAMPLES)
        for b, noise in zip((-0.5, -0.4), own, strict=True)
    )
    apart = scaling_law(SIZES, SIZES**-0.4 * np.exp(0.1 * rng.normal(size=(5, 9))), num_resamples=NUM_RESAMPLES)
    return {
        "paired": -0.1 in exponent_difference(steep, flat, paired=True),
        "independent": -0.1 in exponent_difference(steep, apart),
    }


def of_tails(seed: int) -> dict[str, bool]:
    """Exact Pareto and stable samples, and multipliers exp(normal(-0.25, 0.5)), whose index is 2 * 0.25 / 0.5^2."""
    rng = np.random.default_rng(seed)
    angle, wait = rng.uniform(-np.pi / 2, np.pi / 2, 4_000), rng.exponential(size=4_000)
    alpha = 1.5
    stable = (  # Chambers, Mallows and Stuck 1976
        np.sin(alpha * angle)
        / np.cos(angle) ** (1 / alpha)
        * (np.cos((1 - alpha) * angle) / wait) ** ((1 - alpha) / alpha)
    )
    return {
        "Hill, 10 samples": 2.0 in hill_tail_index(rng.pareto(2.0, 500) + 1),
        "Hill, 100 samples": 2.0 in hill_tail_index(rng.pareto(2.0, 5_000) + 1),
        "Kesten": 2.0 in kesten_tail_index(np.exp(rng.normal(-0.25, 0.5, 2_000))),
        "stable, 63 blocks": 1.5 in stable_tail_index(stable),
        "stable, 8 blocks": 1.5 in stable_tail_index(stable[:400], block=50),
    }


@functools.cache
def _cube() -> tuple[np.ndarray, np.ndarray]:
    x = np.asarray(nb.domains.Hypercube(6).quadrature(64)[0], float)
    return np.exp(x @ x.T / 6), x[:, 0] * x[:, 1]


@functools.cache
def _mean_errors() -> tuple[np.ndarray, np.ndarray]:
    K, y = _cube()
    found = measured_learning_curve(K, y, LEARNING_SIZES, num_draws=8_000, ridge=0.01)
    return np.asarray(found.errors), np.asarray(found.learned)


def _measured(seed: int) -> MeasuredLearningCurve:
    return measured_learning_curve(*_cube(), LEARNING_SIZES, num_draws=20, ridge=0.01, key=jax.random.key(seed))


def of_test_errors(seed: int) -> dict[str, bool]:
    found, truths = _measured(seed), _mean_errors()[0]
    values, halves = np.asarray(found.errors), found.half_widths()
    return {
        f"error from {size} examples": holds(value - half, value + half, truth)
        for size, value, half, truth in zip(LEARNING_SIZES, values, halves, truths, strict=True)
    }


def of_learned_shares(seed: int) -> dict[str, bool]:
    found, truths = _measured(seed), _mean_errors()[1]
    values, errors = np.asarray(found.learned), np.asarray(found.learned_standard_errors)
    return {
        f"learned from {size} examples": holds(value - 2 * error, value + 2 * error, truth)
        for size, value, error, truth in zip(LEARNING_SIZES, values, errors, truths, strict=True)
    }


CASES = [
    *(
        Case(
            f"scaling law, {form}",
            "one curve" if seeds == 1 else f"{seeds} seeds",
            "the law",
            functools.partial(of_law, form, seeds),
        )
        for form, counts in (("power", (1, 2, 5, 20)), ("offset", (1, 3, 6)), ("broken", (6,)))
        for seeds in counts
    ),
    Case("exponent difference", "5 seeds", "the difference", of_difference),
    Case("tail index", "independent samples", "the index", of_tails),
    Case("measured learning curve", "20 draws", "mean over 8,000 draws", of_test_errors),
    Case("measured learning curve, 2 se", "20 draws", "mean over 8,000 draws", of_learned_shares, nominal=TWO_OF_20),
]
