"""Quadratic losses 1/2 (u - y)^T P (u - y): the matrix P weights the errors.

With P = diag(c) and quadrature weights c, the loss is the mean over the domain instead of the mean over the sample.
The Sobolev loss of order s,

    P_s = sum over degrees l of (1 + l)^{2 s} sum over Y of degree l of a a^T,    a_i = c_i Y(x_i),

weights an error of degree l by (1 + l)^{2 s}. On a kernel with eigenvalues mu_l, gradient flow then learns that error
at the rate mu_l (1 + l)^{2 s}. An order s > 0 can reverse a bias towards low degrees (Yu, Yang and Townsend 2022,
arXiv 2205.14300).

>>> import jax.numpy as jnp
>>> from ntkbias.domains import Circle
>>> from ntkbias.losses import sobolev
>>> x, weights = Circle().quadrature(16)
>>> loss = sobolev(Circle(), x, 1, max_degree=3, weights=weights)
>>> zero, waves = jnp.zeros(16), Circle().harmonics(x, 3)
>>> [round(float(loss(waves[:, i], zero)), 3) for i in (0, 1, 3, 5)]    # (1 + l)^2 / 2
[0.5, 2.0, 4.5, 8.0]
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_finite, require_positive, require_weights, require_wide, widened
from ntkbias.domains import FromHarmonics, HarmonicDomain, Torus, quadrature_weights
from ntkbias.errors import InputError, InputTypeError
from ntkbias.losses.loss import at_least_float32, targets_shaped_like
from ntkbias.tables import Described, counted

__all__ = ["ImageSobolev", "Quadratic", "sobolev", "weighted_mse"]


class Quadratic(Described):
    """1/2 the sum over outputs of (u - y)^T P (u - y), on n given inputs, with P = diag(diagonal) + factor factor^T.

    It needs the outputs of all n inputs in their order, so it does not work with batches. A product with P costs n r
    multiplications. With P = I / n, it is `mse`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> isinstance(nb.losses.weighted_mse(jnp.full(2, 0.5)), nb.losses.Quadratic)
    True
    """

    diagonal: Float[Array, " n"]
    factor: Float[Array, "n r"]

    def described(self) -> str:
        """The line that printing shows."""
        return f"Quadratic loss of {counted(self.diagonal.shape[0], 'input')}"

    # Compiled programs are kept by the hash of the loss. Arrays have no hash, so identity stands in, as for a function.
    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, outputs: Float[Array, "n *o"], targets: Array) -> Float[Array, ""]:
        """The loss. Raises `InputError` if there are not n outputs."""
        n = len(self.diagonal)
        if len(outputs) != n:
            raise InputError(
                f"Expected outputs of all {n} inputs that the loss was made for, in their order; got {len(outputs)}. "
                "Train on full batches."
            )
        errors = (at_least_float32(outputs) - targets_shaped_like(outputs, targets)).reshape(n, -1)
        parts = jnp.matmul(self.factor.T, errors, precision="highest")
        return (jnp.sum(self.diagonal[:, None] * errors**2) + jnp.sum(parts**2)) / 2

    @property
    def matrix(self) -> Float[Array, "n n"]:
        """P. Under gradient flow on a kernel with Gram matrix K, the outputs u follow du/dt = -K P (u - y)."""
        return jnp.diag(self.diagonal) + jnp.matmul(self.factor, self.factor.T, precision="highest")


def weighted_mse(weights: ArrayLike) -> Quadratic:
    """`mse` with weights `(n,)` instead of 1 / n, so that P = diag(weights). Weights are not negative and sum to one.

    With `domains.quadrature_weights` or `domains.density_weights`, an error counts as much where inputs are rare as
    where they are dense.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> loss = nb.losses.weighted_mse(jnp.array([0.75, 0.25]))
    >>> float(loss(jnp.array([1.0, 0.0]), jnp.zeros(2)))
    0.375
    """
    values = require_array(weights, "weights")
    checked = _checked_weights(values, values.shape[0] if values.ndim else 0)
    return Quadratic(checked, jnp.zeros((len(checked), 0), checked.dtype))


def sobolev(
    domain: HarmonicDomain, x: ArrayLike, order: float, *, max_degree: int, weights: ArrayLike | None = None
) -> Quadratic:
    """The Sobolev loss of order s on inputs x: an error of degree l has the weight (1 + l)^{2 s}.

    Errors of degree above `max_degree` have the weight zero.

    `weights` c are by default `domains.quadrature_weights`, exact to degree 2 `max_degree`: degrees then do not mix.
    With other weights of sum one, degrees mix by the error of that quadrature. If a domain has tuples of degrees, l is
    their sum. On a torus, and with `FromHarmonics`, l is the frequency times the radius. Order 0 is the mean squared
    error in degrees up to `max_degree`; s may be negative. In float32, high orders lose digits: keep (1 + l)^{2 s}
    below 1e6. A call costs n h multiplications for h harmonics.

    Raises `InputError` if no such weights exist, if there are more harmonics than inputs, or if (1 + l)^{2 s}
    overflows.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> loss = nb.losses.sobolev(circle, x, 1, max_degree=2, weights=weights)
    >>> float(loss(circle.harmonics(x, 2)[:, 3], 0 * x[:, 0]).round(3))  # (1 + 2)^2 / 2
    4.5
    """
    if not isinstance(domain, HarmonicDomain):
        raise InputTypeError(f"Expected a domain with harmonics, e.g. Circle(); got {type(domain).__name__}.")
    points = require_wide(x, "x")
    domain.check(points)
    _require_order(order)
    require_positive("max_degree", max_degree)
    degree = _degrees(domain, max_degree)
    if len(degree) > len(points):
        raise InputError(
            f"Expected a max_degree with at most as many harmonics as the {len(points)} inputs; got {len(degree)}."
        )
    values = (
        quadrature_weights(domain, points, 2 * max_degree) if weights is None else require_array(weights, "weights")
    )
    measure = _checked_weights(values, len(points))
    harmonics = domain.harmonics(points, max_degree)
    _require_no_overflow(1 + degree, 2 * order, harmonics.dtype)
    factor = measure[:, None] * harmonics * jnp.asarray((1 + degree) ** order, harmonics.dtype)
    return Quadratic(jnp.zeros_like(measure), factor)


class ImageSobolev(eqx.Module):
    """The Sobolev loss of images: an error of wave number k has the weight (1 + |k|^2)^order.

    Outputs and targets are `(n, height, width)` or `(n, height, width, channels)`. k counts waves across the image, up
    to half its pixels. The Fourier transform is unitary, so order 0 is `mse`. This loss works with batches.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> loss = nb.losses.ImageSobolev(1.0)
    >>> round(float(loss(jnp.ones((1, 4, 4, 1)), jnp.zeros((1, 4, 4, 1)))), 3)
    8.0
    """

    order: float

    def __check_init__(self):
        _require_order(self.order)

    def __call__(self, outputs: Float[Array, "n h w *c"], targets: Array) -> Float[Array, ""]:
        """The loss. Raises `InputError` if the outputs are not images."""
        if outputs.ndim not in (3, 4):
            raise InputError(
                f"Expected outputs that are images, (n, height, width) or with channels; got shape {outputs.shape}."
            )
        waves = jnp.fft.fft2(
            at_least_float32(outputs) - targets_shaped_like(outputs, targets), axes=(1, 2), norm="ortho"
        )
        power = jnp.real(waves) ** 2 + jnp.imag(waves) ** 2
        weight = self._weight(*outputs.shape[1:3]).reshape(*outputs.shape[1:3], *(1,) * (outputs.ndim - 3))
        return jnp.sum(weight * power) / (2 * len(outputs))

    def matrix(self, height: int, width: int) -> Float[Array, "p p"]:
        """P `(p, p)` of one image with p = height x width pixels, row by row. Its loss is 1/2 (u - y)^T P (u - y)."""
        pixels = jnp.eye(height * width).reshape(-1, height, width)
        waves = jnp.fft.fft2(pixels, axes=(1, 2), norm="ortho") * self._weight(height, width)
        return jnp.real(jnp.fft.ifft2(waves, axes=(1, 2), norm="ortho")).reshape(height * width, -1)

    def _weight(self, height: int, width: int) -> Float[Array, "h w"]:
        squares = (np.fft.fftfreq(height, 1 / height)[:, None]) ** 2 + np.fft.fftfreq(width, 1 / width) ** 2
        _require_no_overflow(1 + squares, self.order, jnp.result_type(float))
        return (1 + jnp.asarray(squares)) ** self.order


def _require_order(order: Any) -> None:
    """Raise an `InputTypeError` unless the order is a finite number; a traced one passes."""
    if isinstance(order, jax.Array) and order.ndim == 0:
        require_finite(order, "the order")
    elif isinstance(order, bool) or not isinstance(order, int | float | np.number) or not np.isfinite(order):
        raise InputTypeError(f"Expected the order to be a finite number; got {order!r}.")


def _require_no_overflow(bases: np.ndarray, power: Any, dtype: Any) -> None:
    """Raise an `InputError` if bases^power overflows the dtype. A traced power passes."""
    largest = float(np.max(bases))
    if isinstance(power, int | float | np.number) and power * np.log(largest) > np.log(float(jnp.finfo(dtype).max)):
        raise InputError(
            f"Expected an order whose weights fit {dtype}; got {largest:g}^{power:g} at the highest frequency. "
            "Choose a lower order, or a lower max_degree."
        )


def _degrees(domain: HarmonicDomain, max_degree: int) -> Float[np.ndarray, " h"]:
    """The degree l of each harmonic, as the Sobolev loss counts it."""
    degrees = domain.degrees(max_degree)
    if isinstance(domain, Torus | FromHarmonics):
        return np.asarray(domain.frequency(degrees), float) * getattr(domain, "radius", 1.0)
    return degrees.reshape(len(degrees), -1).sum(1).astype(float)


def _checked_weights(values: Array, n: int) -> Float[Array, " n"]:
    """Weights checked as in `require_weights`, except that zeros are allowed: quadrature may leave inputs out."""
    if values.shape != (n,) or not bool(jnp.any(values == 0)) or bool(jnp.any(values < 0)):
        return require_weights(values, n)
    require_weights(values[values > 0], int(jnp.sum(values > 0)))
    return widened(values)
