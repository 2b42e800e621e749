"""Learnability on the circle, for a kernel whose eigenvalues are known: r_0 = 1/2, and r_k = k^-2 for both waves of k.

The population's numbers follow from the definitions with these eigenvalues. Targets are waves of known power.
"""

import functools

import numpy as np
import scipy
from covering import Case, holds

from ntkbias.kernels import as_operator
from ntkbias.learning import Contrast, learnability

NUM = 120
DEGREES = np.arange(1, 4_001.0)
TARGETS = {"one wave": {2: 1.0}, "four waves": {1: 1.0, 2: 0.6, 4: 0.8, 7: 0.7}}


def circle(seed, n=NUM):
    return np.random.default_rng(seed).uniform(0, 2 * np.pi, n)


def matrix(angles):
    """1/2 + sum_k 2 k^-2 cos(k (a - b)), from the Fourier series of a parabola."""
    apart = np.abs(angles[:, None] - angles) % (2 * np.pi)
    return 0.5 + 2 * (np.pi**2 / 6 - np.pi * apart / 2 + apart**2 / 4)


def target(waves, angles):
    return sum(size * np.cos(degree * angles + degree) for degree, size in waves.items())


def numbers(waves, ridge):
    """The Rayleigh quotient, the learning time and the samples needed, for infinitely many examples."""
    power = np.array([size**2 for size in waves.values()])
    power, rates = power / power.sum(), np.array([float(degree) for degree in waves]) ** -2
    time = scipy.optimize.brentq(lambda t: power @ np.exp(-rates * t) - 0.5, 0, 1e4) / np.log(2)
    kappa = scipy.optimize.brentq(lambda k: power @ (rates / (rates + k)) - 0.5, 1e-6, 1e3)
    all_rates = DEGREES**-2
    samples = 0.5 / (0.5 + kappa) + 2 * np.sum(all_rates / (all_rates + kappa)) + ridge / kappa
    return power @ rates, time, samples


FIELDS = "rayleigh_quotient", "learning_time", "samples_needed"
RIDGE = 0.1
MANY = range(10_000, 10_400)  # the seeds of the samples over which the mean of the logarithms is taken
FEW = 10


def _found(seed, **options):
    angles = circle(seed)
    return learnability(matrix(angles), _values(angles), centered=False, ridge=RIDGE, **options)


def _values(angles):
    return {name: target(waves, angles) for name, waves in TARGETS.items()}


@functools.cache
def mean_over_samples():
    """The mean of each number's logarithm over samples of `NUM` examples, as a number."""
    logs = [
        [[np.log(getattr(found[name], field).value) for field in FIELDS] for name in TARGETS]
        for found in map(_found, MANY)
    ]
    return dict(zip(TARGETS, np.exp(np.mean(logs, 0)), strict=True))


def _held(found, truths):
    return {
        f"{field.replace('_', ' ')}, {name}": holds(*_ends(found[name], field), truth)
        for name in truths
        for field, truth in zip(FIELDS, truths[name], strict=True)
    }


def _ends(readiness, field):
    number = getattr(readiness, field)
    return number.low, number.high


def on_samples(seed):
    return _held(_found(seed), mean_over_samples())


def of_contrasts(seed):
    """A contrast of two independent outputs has the numbers of one output."""
    angles = circle(seed)
    whole = np.einsum("nm,op->nomp", matrix(angles), np.eye(2))
    contrasts = {name: Contrast(0, 1, values) for name, values in _values(angles).items()}
    found = learnability(whole, contrasts, centered=False, ridge=RIDGE)
    return _held(found, {name: mean_over_samples()[name] for name in contrasts})


def of_few_modes(seed):
    """With ten modes, intervals are bounds: they hold the numbers that all modes give, also of random labels."""
    angles = circle(seed)
    K, values = (
        matrix(angles),
        _values(angles) | {"random labels": np.random.default_rng(seed).choice([-1.0, 1.0], NUM)},
    )
    whole = learnability(K, values, centered=False, ridge=RIDGE)
    few = learnability(as_operator(K) * 1.0, values, centered=False, ridge=RIDGE, modes=FEW)
    return _held(few, {name: [getattr(whole[name], field).value for field in FIELDS] for name in values})


CASES = [
    Case("learnability", f"waves on {NUM} random angles", "geometric mean over samples of as many", on_samples),
    Case("learnability, few modes", f"{NUM} angles, {FEW} modes", "value with all modes", of_few_modes, nominal=1.0),
    Case("learnability of contrasts", f"waves on {NUM} random angles", "geometric mean over samples", of_contrasts),
]
