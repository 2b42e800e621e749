"""Solutions of (K + noise) a = b: by a Cholesky factor, or by products alone with preconditioned conjugate gradients.

The preconditioner is (K_S + noise)^-1, where K_S is the Nystrom approximation from landmarks that pivoted Cholesky
chooses (Gardner et al. 2018 use the same idea). All right-hand sides share each product.

>>> import numpy as np
>>> from ntkbias.inference.solving import by_products
>>> matrix = np.diag([1.0, 2.0, 3.0])
>>> found, residuals = by_products(lambda v: matrix @ v, lambda v: v, np.ones((3, 1)), 1e-10, 10)
>>> found[:, 0].round(3).tolist()
[1.0, 0.5, 0.333]
"""

from collections.abc import Callable

import numpy as np

from ntkbias.eigen import NystromSpectrum
from ntkbias.progress import progress

__all__ = ["by_products", "preconditioner"]


def preconditioner(rough: NystromSpectrum, noise: float) -> Callable[[np.ndarray], np.ndarray]:
    """The product with noise (K_S + noise)^-1, whose largest eigenvalue is one."""
    n = len(rough.weights)
    vectors = np.asarray(rough.eigenfunctions, float).reshape(n, -1) / n**0.5
    values = n * np.maximum(np.asarray(rough.eigenvalues, float), 0.0)
    shrunk = values / (values + noise)
    return lambda residual: residual - vectors @ (shrunk[:, None] * (vectors.T @ residual))


def by_products(
    product: Callable[[np.ndarray], np.ndarray],
    precondition: Callable[[np.ndarray], np.ndarray],
    b: np.ndarray,
    tolerance: float,
    max_products: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The solution `(n, c)` of A a = b by conjugate gradients, and each column's relative residual.

    A column stops once its residual is at most `tolerance`. The residuals returned are those of a fresh product.
    """
    norms = np.linalg.norm(b, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    solution, residual = np.zeros_like(b), b.copy()
    scaled = precondition(residual)
    direction, energy = scaled, np.sum(residual * scaled, 0)
    with progress(None, "products", total=max_products) as bar:
        for _ in range(max_products):
            active = np.linalg.norm(residual, axis=0) > tolerance * norms
            if not active.any():
                break
            moved = product(direction)
            curvature = np.sum(direction * moved, 0)
            step = np.where(active & (curvature > 0), energy / np.where(curvature > 0, curvature, 1.0), 0.0)
            solution, residual = solution + step * direction, residual - step * moved
            scaled = precondition(residual)
            new = np.sum(residual * scaled, 0)
            direction = scaled + np.where(energy > 0, new / np.where(energy > 0, energy, 1.0), 0.0) * direction
            energy = new
            bar.update()
    return solution, np.linalg.norm(b - product(solution), axis=0) / norms
