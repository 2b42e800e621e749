"""The marginal likelihood of a Gaussian process, as a JAX function that can be differentiated.

>>> import jax.numpy as jnp
>>> from ntkbias.inference import log_marginal_likelihood
>>> round(float(log_marginal_likelihood(jnp.eye(2), jnp.array([1.0, -1.0]), noise=1.0)), 4)  # two normals, variance 2
-3.031
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import are_known, require_scale
from ntkbias.errors import InputError

__all__ = ["log_marginal_likelihood"]


def log_marginal_likelihood(K: Float[Array, "n n"], y: Float[Array, "n *o"], noise: ArrayLike) -> Float[Array, ""]:
    """log p(y) under a Gaussian process with the Gram matrix K and independent noise of variance `noise`.

    With C = K + noise I it is -1/2 y^T C^-1 y - 1/2 log det C - n/2 log 2 pi, summed over the columns of y, which share
    K (Rasmussen and Williams 2006, equation 2.30). It is a plain JAX function: take its gradient in the noise, or in
    whatever K depends on, by `jax.grad`. It is NaN if C is not positive definite to rounding; use float64 for small
    noise. Costs n^3 / 3 operations.

    Raises `InputError` on shapes that do not fit and on negative noise.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> x = nb.domains.Circle().grid(16)
    >>> def evidence(b_std, noise):
    ...     return log_marginal_likelihood(nb.infinite_nngp(nb.nets.mlp(b_std=b_std))(x), x[:, 0], noise)
    >>> gradient = jax.grad(evidence, (0, 1))(0.5, 0.1)
    >>> bool(jnp.isfinite(jnp.stack(gradient)).all())
    True
    """
    if K.ndim != 2 or K.shape[0] != K.shape[1] or y.ndim not in (1, 2) or len(y) != len(K):
        raise InputError(f"Expected K (n, n) and y (n,) or (n, o); got shapes {K.shape} and {y.shape}.")
    if are_known(noise):
        require_scale("noise", noise)
    factor = jnp.linalg.cholesky(K + noise * jnp.eye(len(K), dtype=K.dtype))
    whitened = jax.scipy.linalg.solve_triangular(factor, y.reshape(len(y), -1).astype(K.dtype), lower=True)
    columns, n = whitened.shape[1], len(K)
    log_determinant = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * jnp.sum(whitened**2) - columns / 2 * (log_determinant + n * jnp.log(2 * jnp.pi))
