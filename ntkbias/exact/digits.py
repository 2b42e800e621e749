"""A kernel's values to any number of digits, for kernels with a closed form.

Differences of high order need more digits than float64 has: the eigenvalue of degree 64 on the 128-cube is 1e-38 of the
kernel's size. A layer's own dual is written for speed in float64, with polynomials for its functions. This module has
the same formulas in mpmath numbers, for dense networks with a few activations. It also runs the profile of a
`DotProductKernel` operation by operation. Hyperparameters keep their float64 values: sqrt 2 has a relative error of
1e-16, and eigenvalues of every degree have a few times that.

>>> import numpy as np, ntkbias as nb
>>> kernel = nb.infinite_nngp(nb.nets.mlp(depth=1))
>>> values = kernel_digits(kernel, np.array([[1, 0]]), np.array([[0, 1], [1, 0]]), digits=30)
>>> values[0, 1]
mpf('0.25')
"""

import operator
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import mpmath
import numpy as np

from ntkbias.kernels import Kernel
from ntkbias.kernels.dot_product import DotProductKernel
from ntkbias.kernels.infinite import InfiniteKernel
from ntkbias.kernels.kernel import Scaled, Sum
from ntkbias.kernels.reading import flat_jaxpr
from ntkbias.layers import (
    ABRelu,
    Abs,
    Activation,
    Dense,
    Dropout,
    Erf,
    Flatten,
    Identity,
    Layer,
    LeakyRelu,
    Rbf,
    Relu,
    Residual,
    Sequential,
    Sign,
    SinPlusCos,
    Step,
)
from ntkbias.layers.parameterizations import Scales

__all__ = ["UnknownFormula", "kernel_digits"]

GUARD = 8  # a cosine that differs from 1 only in its last 8 digits counts as 1


class UnknownFormula(Exception):
    """Raised for a kernel without a closed form, whose values are known only in float64."""


@singledispatch
def kernel_digits(kernel: Kernel, x0: np.ndarray, x: np.ndarray, digits: int) -> np.ndarray:
    """The kernel of `x0` `(n, d)` and `x` `(m, d)` as an object array `(n, m)` of mpmath numbers.

    `x0` and `x` hold ordinary or mpmath numbers. No input may consist of zeros only. Costs about 10 microseconds per
    operation. Raises `UnknownFormula` unless the kernel is made of layers with a closed form, of sums and multiples of
    such kernels, or of elementary functions of the cosine.
    """
    raise UnknownFormula(type(kernel).__name__)


@kernel_digits.register
def _(kernel: Sum, x0: np.ndarray, x: np.ndarray, digits: int) -> np.ndarray:
    with mpmath.workdps(digits):
        return kernel_digits(kernel.left, x0, x, digits) + kernel_digits(kernel.right, x0, x, digits)


@kernel_digits.register
def _(kernel: Scaled, x0: np.ndarray, x: np.ndarray, digits: int) -> np.ndarray:
    with mpmath.workdps(digits):
        return mpmath.mpf(float(kernel.factor)) * kernel_digits(kernel.kernel, x0, x, digits)


@kernel_digits.register
def _(kernel: DotProductKernel, x0: np.ndarray, x: np.ndarray, digits: int) -> np.ndarray:
    with mpmath.workdps(digits):
        moments = _moments(x0, x)
        cosine = _cosine(moments.nngp, moments.variance1, moments.variance2)
        with jax.enable_x64(True):
            closed = flat_jaxpr(kernel.profile, jnp.zeros(cosine.shape, float))
        return _run(closed.jaxpr, closed.consts, [cosine])[0]


@kernel_digits.register
def _(kernel: InfiniteKernel, x0: np.ndarray, x: np.ndarray, digits: int) -> np.ndarray:
    with mpmath.workdps(digits):
        after = _propagate(kernel.net, _moments(x0, x), x.shape[1:])
        factor = kernel.net.output_shape(x.shape[1:])[0] if kernel.outputs == "sum" else 1
        return factor * getattr(after, kernel.kind)


# ---- layers


class Moments(NamedTuple):
    """The covariance of one channel between two sets of inputs, like `layers.Covariance` for vectors."""

    nngp: np.ndarray  # (n, m); all four arrays hold mpmath numbers
    ntk: np.ndarray  # (n, m)
    variance1: np.ndarray  # (n, 1)
    variance2: np.ndarray  # (1, m)

    def __add__(self, other: tuple) -> "Moments":
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))


def _moments(x0: np.ndarray, x: np.ndarray) -> Moments:
    x0, x = (side.reshape(len(side), -1) for side in (_to_number(x0), _to_number(x)))
    size = x.shape[1]
    nngp = np.asarray(x0 @ x.T, object) / size
    variances = [np.asarray((side**2).sum(1), object) / size for side in (x0, x)]
    if not all(value > 0 for side in variances for value in side):
        raise UnknownFormula("an input of zeros")
    return Moments(nngp, 0 * nngp, variances[0][:, None], variances[1][None])


@singledispatch
def _propagate(layer: Layer, before: Moments, shape: tuple[int, ...]) -> Moments:
    raise UnknownFormula(type(layer).__name__)


@_propagate.register(Identity | Dropout | Flatten)
def _(layer: Layer, before: Moments, shape: tuple[int, ...]) -> Moments:
    if len(shape) != 1:
        raise UnknownFormula("inputs with positions")
    return before


@_propagate.register
def _(layer: Sequential, before: Moments, shape: tuple[int, ...]) -> Moments:
    for each in layer.layers:
        before, shape = _propagate(each, before, shape), each.output_shape(shape)
    return before


@_propagate.register
def _(layer: Residual, before: Moments, shape: tuple[int, ...]) -> Moments:
    return _propagate(layer.branch, before, shape) + _propagate(layer.shortcut, before, shape)


@_propagate.register
def _(layer: Dense, before: Moments, shape: tuple[int, ...]) -> Moments:
    if len(shape) != 1:
        raise UnknownFormula("inputs with positions")
    weight, bias, at_start = (mpmath.mpf(float(value)) for value in (layer.w_std, layer.b_std or 0.0, layer.b_init))
    scales = Scales(layer.parameterization, shape[0], layer.num_outputs, layer.readout)
    gain = scales.gain(weight)
    own = scales.trained(weight) * before.nngp + (0 if layer.b_std is None else scales.bias_trained(bias))
    constant = (bias * at_start) ** 2
    nngp, *variances = (gain * array + constant for array in (before.nngp, before.variance1, before.variance2))
    return Moments(nngp, gain * before.ntk + own, *variances)


@_propagate.register
def _(layer: Activation, before: Moments, shape: tuple[int, ...]) -> Moments:
    if type(layer) not in DUALS:  # a subclass may have another dual
        raise UnknownFormula(type(layer).__name__)

    def dual(covariance: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return DUALS[type(layer)](layer, covariance, first, second)

    nngp, derivative = dual(before.nngp, before.variance1, before.variance2)
    variances = [dual(value, value, value)[0] for value in (before.variance1, before.variance2)]
    return Moments(nngp, before.ntk * derivative, *variances)


def _cosine(covariance: np.ndarray, variance1: np.ndarray, variance2: np.ndarray) -> np.ndarray:
    """The cosine, set to +-1 where it is so up to its last `GUARD` digits; an angle has half as many digits."""
    near = mpmath.mpf(10) ** (GUARD - mpmath.mp.dps)
    cosine = covariance / (_SQRT(variance1) * _SQRT(variance2))
    return _elementwise(lambda value: mpmath.sign(value) if abs(value) > 1 - near else value, 1)(cosine)


def _step(covariance: np.ndarray, variance1: np.ndarray, variance2: np.ndarray) -> np.ndarray:
    """P(u > 0, v > 0)."""
    return (mpmath.pi - _ACOS(_cosine(covariance, variance1, variance2))) / (2 * mpmath.pi)


def _two_slopes(a: float, b: float, *moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The duals of a min(x, 0) + b max(x, 0) and of its derivative."""
    covariance, variance1, variance2 = moments
    left, right = mpmath.mpf(float(a)), mpmath.mpf(float(b))
    sine = _SQRT(1 - _cosine(*moments) ** 2)
    probability = _step(*moments)
    relu = covariance * probability + _SQRT(variance1) * _SQRT(variance2) * sine / (2 * mpmath.pi)
    gap, both = (right - left) ** 2, left * right
    return gap * relu + both * covariance, gap * probability + both


def _error_function(phi: Erf, *moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = (mpmath.mpf(float(value)) for value in (phi.a, phi.b, phi.c))
    covariance, spread1, spread2 = moments[0] * 2 * b**2, 1 + 2 * b**2 * moments[1], 1 + 2 * b**2 * moments[2]
    nngp = a**2 * 2 / mpmath.pi * _ASIN(covariance / _SQRT(spread1 * spread2)) + c**2
    return nngp, (2 * a * b) ** 2 / mpmath.pi / _SQRT(spread1 * spread2 - covariance**2)


def _exponential(scale: float, rate: float, *moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The dual scale^2 exp(-rate (variance1 + variance2 - 2 covariance) / 2), and that of the derivative."""
    covariance, variance1, variance2 = moments
    size, rate = mpmath.mpf(float(scale)) ** 2, mpmath.mpf(float(rate))
    nngp = size * _EXP(-rate * (variance1 + variance2 - 2 * covariance) / 2)
    return nngp, rate * nngp


def _untrained(nngp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The duals of a function whose derivative is zero except at one point."""
    return nngp, 0 * nngp


DUALS: dict[type, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    Relu: lambda phi, *moments: _two_slopes(0.0, 1.0, *moments),
    LeakyRelu: lambda phi, *moments: _two_slopes(phi.alpha, 1.0, *moments),
    ABRelu: lambda phi, *moments: _two_slopes(phi.a, phi.b, *moments),
    Abs: lambda phi, *moments: _two_slopes(-1.0, 1.0, *moments),
    Step: lambda phi, *moments: _untrained(_step(*moments)),
    Sign: lambda phi, *moments: _untrained(4 * _step(*moments) - 1),
    Erf: _error_function,
    SinPlusCos: lambda phi, *moments: _exponential(phi.a, phi.b**2, *moments),
    Rbf: lambda phi, *moments: _exponential(1.0, 2 * phi.gamma, *moments),
}


# ---- programs of elementary functions


def _elementwise(function: Callable, num_inputs: int) -> Callable:
    ufunc = np.frompyfunc(function, num_inputs, 1)
    return lambda *inputs: np.asarray(ufunc(*inputs), object)


def _real(function: Callable) -> Callable:
    """The function, which raises `UnknownFormula` at arguments for which its value is complex."""

    def real(value: Any) -> Any:
        result = function(value)
        if isinstance(result, mpmath.mpc):
            raise UnknownFormula(f"{function.__name__} of {value}")
        return result

    return real


_to_number = _elementwise(lambda value: mpmath.mpf(value.item() if isinstance(value, np.generic) else value), 1)
_SQRT, _ACOS, _ASIN, _LOG, _LOG1P = (
    _elementwise(_real(getattr(mpmath, name)), 1) for name in ("sqrt", "acos", "asin", "log", "log1p")
)
_EXP = _elementwise(mpmath.exp, 1)


def _compare(function: Callable) -> Callable:
    ufunc = np.frompyfunc(function, 2, 1)
    return lambda a, b: np.asarray(ufunc(a, b), bool)


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    if len(cases) != 2:
        raise UnknownFormula("select_n")
    return np.where(np.asarray(which, bool), cases[1], cases[0])


def _broadcast(array: np.ndarray, shape: Sequence[int], dimensions: Sequence[int]) -> np.ndarray:
    sizes = [1] * len(shape)
    for axis, place in enumerate(dimensions):
        sizes[place] = array.shape[axis]
    return np.broadcast_to(array.reshape(sizes), shape)


def _convert(array: np.ndarray, dtype: Any) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return _to_number(array)
    if array.dtype.kind != np.dtype(dtype).kind:
        raise UnknownFormula("convert_element_type")
    return array


ELEMENTWISE: dict[str, Callable] = {
    **{name: _elementwise(getattr(operator, name), 2) for name in ("add", "sub", "mul", "pow")},
    **{name: _elementwise(getattr(mpmath, name), 1) for name in ("exp", "sin", "cos", "tan", "tanh", "erf", "erfc")},
    **{name: _elementwise(getattr(mpmath, name), 1) for name in ("sinh", "cosh", "atan", "expm1", "sign")},
    **{name: _compare(getattr(operator, name)) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "sqrt": _SQRT,
    "log": _LOG,
    "log1p": _LOG1P,
    "asin": _ASIN,
    "acos": _ACOS,
    "div": _elementwise(operator.truediv, 2),
    "neg": _elementwise(operator.neg, 1),
    "abs": _elementwise(abs, 1),
    "max": _elementwise(max, 2),
    "min": _elementwise(min, 2),
    "square": _elementwise(lambda value: value * value, 1),
    "rsqrt": lambda array: 1 / _SQRT(array),
    "atan2": _elementwise(mpmath.atan2, 2),
    "clamp": _elementwise(lambda low, value, high: min(max(low, value), high), 3),
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "select_n": _select,
    "copy": lambda array: array,
    "stop_gradient": lambda array: array,
}
# These also take the parameters of their equation.
STRUCTURAL: dict[str, Callable] = {
    "integer_pow": lambda array, y, **_: array**y,
    "convert_element_type": lambda array, new_dtype, **_: _convert(array, new_dtype),
    "broadcast_in_dim": lambda array, shape, broadcast_dimensions, **_: _broadcast(array, shape, broadcast_dimensions),
}
# Primitives that call a program, and the parameter that holds this program.
CALLS = {"custom_jvp_call": "call_jaxpr", "jit": "jaxpr", "pjit": "jaxpr"}


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[np.ndarray]:
    """Evaluate a program on mpmath numbers."""
    values = dict(zip(jaxpr.constvars, map(_constant, consts), strict=True))
    values |= dict(zip(jaxpr.invars, args, strict=True))

    def read(variable: Any) -> Any:
        return _constant(variable.val) if isinstance(variable, jex.Literal) else values[variable]

    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, [read(variable) for variable in equation.invars]
        if name in ELEMENTWISE:
            results = [ELEMENTWISE[name](*inputs)]
        elif name in STRUCTURAL:
            results = [STRUCTURAL[name](*inputs, **equation.params)]
        elif name in CALLS:
            body = equation.params[CALLS[name]]
            results = _run(body.jaxpr, body.consts, inputs)
        else:
            raise UnknownFormula(name)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _constant(value: Any) -> np.ndarray:
    """A constant of a program, with floating-point values as mpmath numbers."""
    array = np.asarray(value)
    return _to_number(array) if array.dtype.kind == "f" else array
