"""How the spectral bias depends on the activation (Hong, Siegel, Tan and Xu 2022, arXiv 2208.04924): ReLU and Hat."""

import numpy as np
import pytest

from ntkbias.studies import run_study
from ntkbias.studies.hat_activation import condition


def hat(z):
    return np.maximum(0, np.minimum(z, 2 - z))


def relu(z):
    return np.maximum(0, z)


def mass_matrix(activation, n):
    """The inner products on [0, 1] of a shallow network's functions activation(n x - i), n of them with support there.

    Piecewise quadratic products on a grid of 1 / n: Simpson's rule on each interval is exact.
    """
    shift = np.arange(-1, n - 1) if activation is hat else np.arange(n)
    ends, middle = np.arange(n + 1) / n, (np.arange(n) + 0.5) / n
    at_ends, at_middle = (activation(n * x[:, None] - shift) for x in (ends, middle))
    at_ends, at_middle = at_ends / (n if activation is relu else 1), at_middle / (n if activation is relu else 1)
    total = at_ends[:-1].T @ at_ends[:-1] + 4 * at_middle.T @ at_middle + at_ends[1:].T @ at_ends[1:]
    return total / (6 * n)


@pytest.mark.parametrize("activation", [relu, hat])
def test_a_shallow_network_has_the_condition_number_of_finite_elements(activation):
    found = condition(activation.__name__, 32)
    assert found == pytest.approx(np.linalg.cond(mass_matrix(activation, 32)), rel=1e-6)


def test_eigenvalues_of_relus_mass_matrix():
    """n / ((k - 1/2) pi)^4 for the first k, those of the fourfold integral; the last are of order n^-3."""
    n = 256
    eigenvalues = np.linalg.eigvalsh(mass_matrix(relu, n))[::-1]
    k = np.arange(3, 9)
    np.testing.assert_allclose(eigenvalues[k - 1], n / ((k - 0.5) * np.pi) ** 4, rtol=0.05)
    assert eigenvalues[-1] < 1 / n**3


@pytest.mark.slow
def test_the_claims_of_the_paper():
    """Condition numbers, spectra on the circle, and the training of deep networks."""
    result = run_study("hat_activation")
    assert result.holds == "yes", result
