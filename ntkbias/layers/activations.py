r"""Elementwise nonlinearities and their dual activations.

For centred Gaussians (u, v) with variances a, b and covariance c, the dual of phi is E[phi(u) phi(v)] and the dual of
its derivative E[phi'(u) phi'(v)] (Daniely et al. 2016; Han et al. 2022, arXiv 2209.04121). With t the angle between u
and v, cos t = c / sqrt(a b):

    relu    E = sqrt(a b) (sin t + (pi - t) cos t) / (2 pi)       E' = (pi - t) / (2 pi)     (Cho and Saul 2009)
    erf     E = (2 / pi) arcsin(2 c / sqrt((1 + 2 a)(1 + 2 b)))   E' = (4 / pi) / sqrt((1 + 2 a)(1 + 2 b) - 4 c^2)
                                                                                             (Williams 1997)
    sin, cos   E = exp(-(a + b) / 2) sinh c, ... cosh c           E' the other one           (Rahimi and Recht 2007)
    sin + cos  E = exp(c - (a + b) / 2)                           E' = E
    exp        E = exp(c + (a + b) / 2)                           E' = E                     (Mairal et al. 2014)
    exp(-x^2)  E = 1 / sqrt((1 + 2 a)(1 + 2 b) - 4 c^2)           E' = 4 c E^3
    He_k       E = c^k at a = b = 1                               E' = k c^(k - 1)           (O'Donnell 2014)

Both are exact but for rounding, unless a class says otherwise. Functions without a closed form, tanh among them, are
`Expansion`s, whose error can be measured. All are finite with finite derivatives, also at equal and opposite inputs, at
variance zero, and by hyperparameters.

>>> from ntkbias.layers import Relu
>>> nngp, derivative = Relu().dual(*(jax.numpy.asarray(z) for z in (1.0, 1.0, 1.0)))
>>> float(nngp), float(derivative)
(0.5, 0.5)
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import require_array, require_choice, require_finite, require_positive, require_scale
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers.arc_cosine import arc_cosine, smoothed_angle
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.hermite import expansion_dual, polynomial_dual, polynomial_slope
from ntkbias.layers.layer import Layer
from ntkbias.layers.orthant import linear_spline_dual
from ntkbias.types import Params

NUM_TERMS = 64  # of a Hermite expansion, unless told otherwise

__all__ = [
    "ACTIVATIONS",
    "ABRelu",
    "Abs",
    "Activation",
    "Cos",
    "Elementwise",
    "Erf",
    "Exp",
    "Gaussian",
    "Gelu",
    "Hat",
    "Hermite",
    "LeakyRelu",
    "Monomial",
    "Polynomial",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "SinPlusCos",
    "Softplus",
    "Step",
    "Tanh",
    "activation",
]


class Activation(Layer):
    """An elementwise function with a dual. A new one says `apply` and `dual`."""

    # The variance of the inputs at which `gain` is critical: one, or zero for functions like tanh, through the origin
    # and flatter away from it, whose signals tend to zero without biases (Roberts et al. 2022, chapter 5).
    critical_variance: ClassVar[float] = 1.0

    @property
    def gain(self) -> Any:
        """The w_std that keeps gradients from growing or dying with depth: 1 / sqrt(E[phi'(z)^2]).

        For z of variance `critical_variance`. Piecewise linear functions through the origin have one gain at all
        variances. A float, or an array where hyperparameters are traced.
        """
        leaves = jax.tree.leaves(self)
        if not all(isinstance(leaf, int | float) for leaf in leaves):
            return self._slope(jnp.asarray(self.critical_variance)) ** -0.5
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            return float(self._slope(jnp.asarray(self.critical_variance))) ** -0.5

    def _slope(self, variance: Array) -> Array:
        """E[phi'(z)^2], as one program: an expansion has hundreds of steps."""
        return eqx.filter_jit(lambda phi, v: phi.dual(v, v, v)[1])(self, variance)

    @abc.abstractmethod
    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)]; the arrays broadcast against each other."""

    def moment(self, variance: Array) -> Array:
        """E[phi(u)^2]: the dual at equal arguments, for which a class may know a shorter way."""
        return self.dual(variance, variance, variance)[0]

    def decorrelates(self, before: bool) -> bool:
        return False

    def needs(self, after: Needs) -> Needs:
        """The variances, beside what comes after."""
        return after | Needs(own=Positions.EQUAL)

    def propagate(self, covariance: Covariance) -> Covariance:
        if not covariance.gaussian:
            raise InputError(
                f"Expected a Dense or Conv layer before {type(self).__name__}; got an input that is not Gaussian at "
                "infinite width. Put a linear layer between the input, or the activation before, and this one."
            )
        return covariance.activate(self.dual, self.moment)


# -- piecewise linear functions, and steps -----------------------------------------------------------------------------


class Relu(Activation):
    """max(x, 0)."""

    gain = math.sqrt(2.0)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        moments = covariance, variance1, variance2
        return arc_cosine(1, *moments), arc_cosine(0, *moments)

    def moment(self, variance: Array) -> Array:
        return variance / 2


class ABRelu(Activation):
    """a min(x, 0) + b max(x, 0); its slope at zero is a."""

    a: float
    b: float

    def __check_init__(self):
        _require_numbers(self)

    @property
    def gain(self) -> Any:
        return ((self.a**2 + self.b**2) / 2) ** -0.5

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.where(x > 0, self.b * x, self.a * x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _two_slopes(self.a, self.b, covariance, variance1, variance2)


class LeakyRelu(Activation):
    """alpha min(x, 0) + max(x, 0)."""

    alpha: float = 0.01

    def __check_init__(self):
        _require_numbers(self)

    @property
    def gain(self) -> Any:
        return ((1 + self.alpha**2) / 2) ** -0.5

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.where(x > 0, x, self.alpha * x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _two_slopes(self.alpha, 1.0, covariance, variance1, variance2)


class Abs(Activation):
    """|x|; its slope at zero is -1."""

    gain = 1.0

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.where(x > 0, x, -x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _two_slopes(-1.0, 1.0, covariance, variance1, variance2)


class RectifiedMonomial(Activation):
    """max(x, 0)^degree: ReLU, squared ReLU, and so on (Cho and Saul 2009)."""

    degree: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require_positive("degree of RectifiedMonomial (for degree 0 use Step)", self.degree)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x) ** self.degree

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        moments = covariance, variance1, variance2
        return arc_cosine(self.degree, *moments), self.degree**2 * arc_cosine(self.degree - 1, *moments)


class Step(Activation):
    """1 where x > 0 and 0 elsewhere.

    Its derivative is zero but at the origin, so gradient descent does not train what comes before it: the dual of the
    derivative is 0, as in neural-tangents, and the NTK is that of the last layer. The NNGP is the arc-cosine kernel of
    degree 0, which Bietti and Bach (2021) study. The `gain` keeps E[phi^2] at one.
    """

    gain = math.sqrt(2.0)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return (x > 0).astype(x.dtype)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        nngp = arc_cosine(0, covariance, variance1, variance2)
        return nngp, jnp.zeros_like(nngp)


class Sign(Activation):
    """-1, 0 or 1 as x is below, at or above zero; E = (2 / pi) arcsin rho. Derivatives and `gain` are as for `Step`."""

    gain = 1.0

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.sign(x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        probability = arc_cosine(0, covariance, variance1, variance2)
        nngp = jnp.where((variance1 > 0) & (variance2 > 0), 4 * probability - 1, 0.0)
        return nngp, jnp.zeros_like(nngp)


class Hat(Activation):
    """x on [0, 1], 2 - x on [1, 2], and 0 elsewhere: the finite-element basis function of Hong et al. 2022.

    arXiv 2208.04924. Absolute error 5 eps (1 + sqrt(a b)). A pair costs three hundred times what it does for ReLU.
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.relu(x) - 2 * jax.nn.relu(x - 1) + jax.nn.relu(x - 2)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return linear_spline_dual((0.0, 1.0, 2.0), (1.0, -2.0, 1.0), covariance, variance1, variance2)


# -- sigmoids ----------------------------------------------------------------------------------------------------------


class Erf(Activation):
    """a erf(b x) + c, with erf(x) = 2 / sqrt(pi) times the integral of exp(-s^2) from 0 to x.

    neural-tangents' Sigmoid_like is Erf(0.5, 1 / 2.4020563531719796, 0.5).
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    critical_variance = 0.0

    def __check_init__(self):
        _require_numbers(self)

    @property
    def gain(self) -> Any:
        return math.sqrt(math.pi) / 2 / abs(self.a * self.b)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jax.scipy.special.erf(self.b * x) + self.c

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        scale = 2 * self.b**2
        noise1, noise2 = (1 / jnp.sqrt(1 + scale * v) for v in (variance1, variance2))
        _, sine, turns = smoothed_angle(scale * covariance, scale * variance1, scale * variance2)
        return 4 * self.a**2 * turns + self.c**2, (2 / math.pi * self.a**2 * scale) * (noise1 * noise2) / sine


class Gelu(Activation):
    """x Phi(x), with Phi the distribution function of the standard normal (Hendrycks and Gimpel 2016).

    The dual is that of Tsuchida et al. 2020 (arXiv 2002.08517).
    """

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.gelu(x, approximate=False)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        noise1, noise2 = 1 / (1 + variance1), 1 / (1 + variance2)
        signal1, signal2 = variance1 * jnp.sqrt(noise1), variance2 * jnp.sqrt(noise2)
        cosine, sine, turns = smoothed_angle(covariance, variance1, variance2)
        noise = jnp.sqrt(noise1) * jnp.sqrt(noise2) / sine
        nngp = covariance * (0.25 + turns) + (cosine**2 * noise + signal1 * signal2 * sine) / (2 * math.pi)
        return nngp, 0.25 + turns + cosine / sine * (noise**2 + noise1 + noise2) / (2 * math.pi)


# -- waves and bells ---------------------------------------------------------------------------------------------------


class Sin(Activation):
    """a sin(b x + c). Its `gain` is for vanishing variance, 1 / |a b cos c|."""

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    critical_variance = 0.0

    def __check_init__(self):
        _require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.sin(self.b * x + self.c)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        odd, even = _waves(self.b, covariance, variance1, variance2)
        sine, cosine = (self.a * jnp.sin(self.c)) ** 2, (self.a * jnp.cos(self.c)) ** 2
        return cosine * odd + sine * even, self.b**2 * (cosine * even + sine * odd)


class Cos(Activation):
    """a cos(b x + c). Without a phase it is even: constant where the variance vanishes."""

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __check_init__(self):
        _require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.cos(self.b * x + self.c)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        odd, even = _waves(self.b, covariance, variance1, variance2)
        sine, cosine = (self.a * jnp.sin(self.c)) ** 2, (self.a * jnp.cos(self.c)) ** 2
        return cosine * even + sine * odd, self.b**2 * (cosine * odd + sine * even)


class SinPlusCos(Activation):
    """a (sin(b x) + cos(b x)), whose dual is a^2 exp(b^2 (c - (variance1 + variance2) / 2)).

    At variance one it is exp(t - 1) of the correlation t, with no Taylor coefficient zero.
    """

    a: float = 1.0
    b: float = 1.0

    def __check_init__(self):
        _require_numbers(self)

    @property
    def gain(self) -> Any:
        return 1 / abs(self.a * self.b)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * (jnp.sin(self.b * x) + jnp.cos(self.b * x))

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        distance = (variance1 - covariance) + (variance2 - covariance)  # exact where inputs are near
        nngp = self.a**2 * jnp.exp(-0.5 * self.b**2 * distance)
        return nngp, self.b**2 * nngp


class Rbf(Activation):
    """sqrt(2) sin(sqrt(2 gamma) x + pi / 4), whose dual is the Gaussian kernel exp(-gamma E[(u - v)^2])."""

    gamma: float = 1.0

    def __check_init__(self):
        _require_numbers(self)
        require_scale("gamma of Rbf", self.gamma)

    @property
    def gain(self) -> Any:
        return (2 * self.gamma) ** -0.5

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return math.sqrt(2.0) * jnp.sin((2 * self.gamma) ** 0.5 * x + math.pi / 4)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        nngp = jnp.exp(-self.gamma * ((variance1 - covariance) + (variance2 - covariance)))
        return nngp, 2 * self.gamma * nngp


class Gaussian(Activation):
    """a exp(b x^2), with b not above zero."""

    a: float = 1.0
    b: float = -1.0

    def __check_init__(self):
        _require_numbers(self)
        require_scale("-b of Gaussian", -self.b)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.exp(self.b * x**2)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        scale = -2 * self.b
        noise1, noise2 = (1 / jnp.sqrt(1 + scale * v) for v in (variance1, variance2))
        cosine, sine, _ = smoothed_angle(scale * covariance, scale * variance1, scale * variance2)
        root = noise1 * noise2 / sine
        return self.a**2 * root, scale * self.a**2 * (cosine / sine) * root**2


class Exp(Activation):
    """a exp(b x). The dual overflows where b^2 times the variance does in an exponential, at 44 in float32."""

    a: float = 1.0
    b: float = 1.0

    def __check_init__(self):
        _require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.a * jnp.exp(self.b * x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        nngp = self.a**2 * jnp.exp(self.b**2 * (covariance + 0.5 * (variance1 + variance2)))
        return nngp, self.b**2 * nngp


# -- polynomials -------------------------------------------------------------------------------------------------------


class Polynomial(Activation):
    """coefficients[0] + coefficients[1] x + ..., as numpy.polynomial.Polynomial has it."""

    coefficients: tuple[float, ...]

    def __check_init__(self):
        if not isinstance(self.coefficients, tuple) or not self.coefficients:
            raise InputTypeError(
                "Expected the coefficients of Polynomial as a tuple of numbers, that of x^0 first; "
                f"got {self.coefficients!r}."
            )
        _require_numbers(self)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.polyval(jnp.stack([jnp.asarray(value, x.dtype) for value in self.coefficients[::-1]]), x)

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _polynomial_duals(self.coefficients, covariance, variance1, variance2)


class Monomial(Activation):
    """x^degree."""

    degree: int = eqx.field(static=True)

    def __check_init__(self):
        require_positive("degree of Monomial", self.degree)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return x**self.degree

    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        return _polynomial_duals((0.0,) * self.degree + (1.0,), covariance, variance1, variance2)


class Hermite(Activation):
    """The probabilists' Hermite polynomial of a degree, divided by sqrt(degree!): of mean square one at variance one.

    The dual holds at all variances; at variance one it is correlation^degree.
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


# -- any other function ------------------------------------------------------------------------------------------------


class Expansion(Activation):
    """An activation whose dual is a Hermite expansion of what `apply` computes; see `Elementwise` for its error."""

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
        """How far the two duals are from those with twice as many terms; the arrays broadcast against each other."""
        moments = covariance, variance1, variance2
        finer = dataclasses.replace(self, num_terms=2 * self.num_terms)
        coarse, fine = self.dual(*moments), finer.dual(*moments)
        return jnp.abs(coarse[0] - fine[0]), jnp.abs(coarse[1] - fine[1])


class Elementwise(Expansion):
    """Any elementwise JAX function, its dual from the first `num_terms` terms of its Hermite expansion.

    `derivative` is JAX's own unless given. The dual is most wrong at equal or opposite inputs and at large variances;
    `quadrature_error` measures it. With 64 terms the larger error of the two, relative to its value at equal inputs, is

        variance      0.1      1        3        10
        tanh          2e-15    1e-8     6e-5     1e-2
        sigmoid       2e-15    2e-15    4e-10    2e-5
        SiLU          2e-15    2e-15    2e-10    7e-6
        softplus      2e-15    2e-15    2e-12    2e-7

    float32 adds its own rounding. At a correlation rho it is |rho|^64 times as large, or less. A function with a kink
    converges slowly: with 64 terms ReLU is 5e-4 off, and its derivative 1e-2; `ABRelu` and its kin are exact. A pair
    costs four operations a term, an input eight evaluations of the function a term. Compiled programs are kept per
    function: a fresh lambda compiles again.
    """

    function: Callable[[Array], Array] = eqx.field(static=True)  # type: ignore[misc]  # AbstractVar is no field
    derivative: Callable[[Array], Array] | None = eqx.field(static=True, default=None)
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
    """The hyperbolic tangent."""

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    critical_variance = 0.0
    gain = 1.0

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jnp.tanh(x)


class Sigmoid(Expansion):
    """1 / (1 + exp(-x))."""

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.sigmoid(x)


class Silu(Expansion):
    """x / (1 + exp(-x)), also called swish."""

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.silu(x)


class Softplus(Expansion):
    """log(1 + exp(x))."""

    num_terms: int = eqx.field(static=True, default=NUM_TERMS)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return jax.nn.softplus(x)


ACTIVATIONS: dict[str, Callable[[], Activation]] = {
    "relu": Relu,
    "erf": Erf,
    "leaky_relu": LeakyRelu,
    "abs": Abs,
    "squared_relu": RectifiedMonomial,
    "step": Step,
    "sign": Sign,
    "hat": Hat,
    "gelu": Gelu,
    "sin": Sin,
    "cos": Cos,
    "sin_plus_cos": SinPlusCos,
    "gaussian": Gaussian,
    "exp": Exp,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "silu": Silu,
    "softplus": Softplus,
}


def activation(name: str | Activation) -> Activation:
    """The activation called `name`, one of `ACTIVATIONS`; an activation is returned as it is."""
    if isinstance(name, Activation):
        return name
    require_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def _two_slopes(
    a: float | Array, b: float | Array, covariance: Array, variance1: Array, variance2: Array
) -> tuple[Array, Array]:
    """The duals of a min(x, 0) + b max(x, 0), which is a x + (b - a) relu(x)."""
    moments = covariance, variance1, variance2
    nngp = (b - a) ** 2 * arc_cosine(1, *moments) + a * b * covariance
    derivative = (b - a) ** 2 * arc_cosine(0, *moments) + a * b
    # At variance zero the slope is a, as autodiff has it, on one side or on both.
    live = (variance1 > 0).astype(int) + (variance2 > 0)
    at_zero = jnp.where(live == 0, a**2, a * (a + b) / 2)
    return nngp, jnp.where(live == 2, derivative, at_zero)


def _waves(scale: float | Array, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
    """E[sin(b u) sin(b v)] and E[cos(b u) cos(b v)] for b = scale; none overflows, and small ones keep all digits."""
    sign = jnp.where(covariance > 0, -1.0, 1.0)  # from here on as for opposite inputs, of covariance -|c|
    opposite = sign * covariance
    nearer = jnp.exp(-0.5 * scale**2 * ((variance1 + opposite) + (variance2 + opposite)))
    rest = jnp.expm1(2 * scale**2 * opposite)
    return 0.5 * sign * nearer * rest, 0.5 * nearer * (2 + rest)


def _polynomial_duals(
    coefficients: Sequence[float | Array], covariance: Array, spread1: Array, spread2: Array
) -> tuple[Array, Array]:
    moments = covariance, spread1, spread2
    return polynomial_dual(coefficients, *moments), polynomial_dual(polynomial_slope(coefficients), *moments)


def _require_numbers(phi: Activation) -> None:
    """Raise an `InputError` unless all hyperparameters are finite numbers."""
    for field in dataclasses.fields(phi):
        name, value = f"{field.name} of {type(phi).__name__}", getattr(phi, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            require_finite(require_array(part, name), name)
