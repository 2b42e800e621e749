"""Activations without a closed form: their duals are Hermite expansions, whose error can be measured."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import require_positive
from ntkbias.compilation import held
from ntkbias.errors import InputTypeError
from ntkbias.layers.activations.contract import Activation
from ntkbias.layers.hermite import expansion_dual
from ntkbias.types import Params

__all__ = ["Elementwise", "Expansion", "Sigmoid", "Silu", "Softplus", "Tanh"]


NUM_TERMS = 64  # default number of terms of a Hermite expansion


class Expansion(Activation):
    """An activation whose dual is a Hermite expansion of `apply`. `Elementwise` states its error."""

    num_terms: eqx.AbstractVar[int]

    def __check_init__(self):
        require_positive(f"num_terms of {type(self).__name__}", self.num_terms)

    def value(self, x: Array) -> Array:
        return self.apply((), x)

    def slope(self, x: Array) -> Array:
        return jax.jvp(self.value, (x,), (jnp.ones_like(x),))[1]

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        moments = covariance, variance1, variance2
        return expansion_dual(self.value, self.num_terms, *moments), expansion_dual(
            self.slope, self.num_terms, *moments
        )

    def quadrature_error(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        """The absolute change of both duals when the number of terms doubles; the arrays broadcast."""
        moments = covariance, variance1, variance2
        finer = dataclasses.replace(self, num_terms=2 * self.num_terms)
        coarse, fine = self.dual(*moments), finer.dual(*moments)
        return jnp.abs(coarse[0] - fine[0]), jnp.abs(coarse[1] - fine[1])


class Elementwise(Expansion):
    """Any elementwise JAX function, with a dual from the first `num_terms` terms of its Hermite expansion.

    JAX differentiates the function unless you give its `derivative`. The error of the dual is largest at equal or
    opposite inputs and at large variances; `quadrature_error` measures it. With 64 terms the larger error of the two
    duals, relative to the value at equal inputs, is

        variance      0.1      1        3        10
        tanh          2e-15    1e-8     6e-5     1e-2
        sigmoid       2e-15    2e-15    4e-10    2e-5
        SiLU          2e-15    2e-15    2e-10    7e-6
        softplus      2e-15    2e-15    2e-12    2e-7

    At correlation rho the error is at most |rho|^64 times as large. float32 adds its own rounding. A function with a
    kink converges slowly: with 64 terms the dual of ReLU is off by 5e-4 and that of its derivative by 1e-2, so use
    exact activations such as `ABRelu`. Each term costs four operations per pair of inputs and eight evaluations of the
    function per input. Compiled programs are kept per function: a fresh lambda compiles again.

    >>> import jax, jax.numpy as jnp
    >>> from ntkbias.layers import Elementwise
    >>> Elementwise(jax.numpy.tanh).apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.762, 0.462]]
    """

    function: Callable[[Array], Array] = eqx.field(converter=held)  # type: ignore[misc]  # AbstractVar is no field
    derivative: Callable[[Array], Array] | None = eqx.field(converter=held, default=None)
    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def __check_init__(self):
        for name in ("function", "derivative"):
            function = getattr(self, name)
            if not callable(function) and not (name == "derivative" and function is None):
                raise InputTypeError(f"Expected {name} of Elementwise to be a function of an array; got {function!r}.")

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.function(x)

    def slope(self, x: Array) -> Array:
        return super().slope(x) if self.derivative is None else self.derivative(x)


class Tanh(Expansion):
    """The hyperbolic tangent.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Tanh
    >>> Tanh().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.762, 0.462]]
    """

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    critical_variance = 0.0
    gain = 1.0

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.tanh(x)


class Sigmoid(Expansion):
    """1 / (1 + exp(-x)).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Sigmoid
    >>> Sigmoid().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.269, 0.622]]
    """

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.sigmoid(x)


class Silu(Expansion):
    """x / (1 + exp(-x)), also called swish.

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Silu
    >>> Silu().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[-0.269, 0.311]]
    """

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.silu(x)


class Softplus(Expansion):
    """log(1 + exp(x)).

    >>> import jax.numpy as jnp
    >>> from ntkbias.layers import Softplus
    >>> Softplus().apply((), jnp.array([[-1.0, 0.5]])).round(3).tolist()
    [[0.313, 0.974]]
    """

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.softplus(x)
