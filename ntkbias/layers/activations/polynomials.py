r"""Polynomials, in powers or in Hermite polynomials. Their duals are polynomials in the covariance and the variances.

He_k       E = c^k at a = b = 1                               E' = k c^(k - 1)           (O'Donnell 2014)
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import require_positive
from ntkbias.errors import InputTypeError
from ntkbias.layers.activations.contract import Activation, require_numbers
from ntkbias.layers.hermite import polynomial_dual, polynomial_slope
from ntkbias.types import Params

__all__ = ["Hermite", "Monomial", "Polynomial"]


class Polynomial(Activation):
    """coefficients[0] + coefficients[1] x + ..., in the order of numpy.polynomial.Polynomial.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Polynomial
    >>> Polynomial((1.0, 0.0, 2.0)).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[3.0, 1.5]]
    """

    coefficients: tuple[float, ...]

    def __check_init__(self):
        if not isinstance(self.coefficients, tuple) or not self.coefficients:
            raise InputTypeError(
                "Expected the coefficients of Polynomial as a tuple of numbers, lowest power first; "
                f"got {self.coefficients!r}."
            )
        require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.polyval(jnp.stack([jnp.asarray(value, x.dtype) for value in self.coefficients[::-1]]), x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _polynomial_duals(self.coefficients, covariance, variance1, variance2)


class Monomial(Activation):
    """x^degree.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Monomial
    >>> Monomial(3).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-1.0, 0.125]]
    """

    degree: int = eqx.field(static=True)

    def __check_init__(self):
        require_positive("degree of Monomial", self.degree)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return x**self.degree

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _polynomial_duals((0.0,) * self.degree + (1.0,), covariance, variance1, variance2)


class Hermite(Activation):
    """The probabilists' Hermite polynomial of a degree, divided by sqrt(degree!).

    Its mean square is one at variance one. The dual holds at all variances; at variance one it is correlation^degree.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Hermite
    >>> Hermite(2).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.0, -0.53]]
    """

    degree: int = eqx.field(static=True)

    def __check_init__(self):
        require_positive("degree of Hermite", self.degree)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        before, value = jnp.ones_like(x), x
        for k in range(1, self.degree):
            before, value = value, (x * value - k**0.5 * before) / (k + 1) ** 0.5
        return value

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        coefficients = (0.0,) * self.degree + (math.factorial(self.degree) ** -0.5,)
        return _polynomial_duals(coefficients, covariance, variance1 - 1, variance2 - 1)


def _polynomial_duals(
    coefficients: Sequence[float | Array], covariance: Array, spread1: Array, spread2: Array
) -> tuple[Array, Array]:
    moments = covariance, spread1, spread2
    return polynomial_dual(coefficients, *moments), polynomial_dual(polynomial_slope(coefficients), *moments)
