"""Dual activations against quadrature, against each other, and at the edges. The table has one line per activation."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ACTIVATION_CASES, assert_near

from ntkbias import layers
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import ACTIVATIONS, Elementwise, activation
from ntkbias.layers.activations import Expansion
from ntkbias.layers.arc_cosine import arc_cosine, cosine_defect
from ntkbias.layers.hermite import expansion_dual, polynomial_dual


def _normal(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


OF_EACH_KIND = ("relu", "squared relu", "hat", "gelu", "sin", "polynomial", "tanh")  # for costly tests


def each(wanted=lambda case: True, slow=()):
    """The activations that pass. Expansions but tanh are marked slow; tests of the stated error cover all of them."""
    names = [name for name, case in ACTIVATION_CASES.items() if wanted(case)]
    slow = ("sigmoid", "silu", "softplus", *slow)
    marked = [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in names]
    return pytest.mark.parametrize("name", marked)


each_case = each()
each_quick_case = each(slow=("hat",))
each_trained = each(lambda case: not isinstance(case.phi, layers.Step | layers.Sign))

# The moments at which values are compared: (covariance, variance1, variance2)
COSINES = [-1.0, -0.9, -0.3, 0.0, 0.5, 0.99, 1 - 1e-6, 1.0]
VARIANCES = [(1.0, 1.0), (0.3, 2.0), (1e-3, 3.0), (1e-5, 1e-5)]
INSIDE = np.array([(r * (a * b) ** 0.5, a, b) for a, b in VARIANCES for r in COSINES])
EDGES = np.array(
    [(1, 1, 1), (-1, 1, 1), (0, 1, 1), (0, 0, 1), (0, 1, 0), (0, 0, 0), (2, 1, 4), (-2, 1, 4), (1e-15, 1e-15, 1e-15)]
)


def compiled(phi, function):
    """One program for a dual of many operations; the operations of other duals compile once for all cases."""
    return jax.jit(function) if isinstance(phi, Expansion | layers.Hat) else function


def padded(moments, dtype="float64"):
    """Moments `(n, 3)` as three arrays of 32, so that every operation has one shape and compiles once."""
    moments = np.asarray(moments, dtype)
    return tuple(map(jnp.asarray, np.concatenate([moments, np.ones((32 - len(moments), 3), dtype)]).T))


@functools.cache
def program(name, dtype, derivatives=False):
    """Moments `(n, 3)` -> both duals `(n, 2)` or their derivatives `(n, 2, 3)`, computed for 32 moments at a time."""
    dual = ACTIVATION_CASES[name].phi.dual

    def slopes(*moments):
        unit = jnp.ones(32, dtype)
        along = [tuple(unit if k == other else 0 * unit for k in range(3)) for other in range(3)]
        return [jnp.stack(parts, 1) for parts in zip(*(jax.jvp(dual, moments, d)[1] for d in along), strict=True)]

    wanted = compiled(ACTIVATION_CASES[name].phi, slopes if derivatives else dual)

    def run(moments):
        return np.stack(wanted(*padded(moments, dtype)), 1)[: len(moments)]

    return run


# -- against quadrature ------------------------------------------------------------------------------------------------

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
REACH = 14.0


def _panels(*breaks):
    """Nodes and weights, on axis 1, of Gauss-Legendre rules between consecutive breaks, each `(n,)` or a number."""
    breaks = np.sort(np.clip(np.stack(np.broadcast_arrays(*np.atleast_1d(*breaks)), 1), -REACH, REACH), 1)
    middle, half = (breaks[:, 1:] + breaks[:, :-1]) / 2, (breaks[:, 1:] - breaks[:, :-1]) / 2
    nodes, weights = middle[..., None] + half[..., None] * NODES, half[..., None] * WEIGHTS
    return nodes.reshape(len(breaks), -1), weights.reshape(len(breaks), -1)


GRID = (-REACH, -6.0, -3.0, -1.0, 1.0, 3.0, 6.0, REACH)


def expectations(functions, kinks, covariance, variance1, variance2):
    """E[f(u) f(v)] for each f, by rules that end at the kinks of u and v."""
    s1, s2 = variance1**0.5, variance2**0.5
    cosine = covariance / (s1 * s2)
    sine = max((1 - cosine) * (1 + cosine), 0.0) ** 0.5
    width = sine / max(abs(cosine), 0.1)  # as a function of u, the kinks of v are smeared over this width
    seen = [t / s2 / cosine + k * width for t in kinks for k in (-8, -2, 0, 2, 8) if cosine]
    z1, w1 = (part[0] for part in _panels(*GRID, *(t / s1 for t in kinks), *seen))
    if sine > 0:
        z2, w2 = _panels(*GRID, *((t / s2 - cosine * z1) / sine for t in kinks))
        v = s2 * (cosine * z1[:, None] + sine * z2)
        w2 = w2 * _normal(z2)
    else:
        v, w2 = s2 * cosine * z1[:, None], np.ones((len(z1), 1))
    return [np.sum(w1 * _normal(z1) * f(s1 * z1) * np.sum(w2 * f(v), 1)) for f in functions]


@each_case
def test_dual_is_the_expectation(name, x64):
    case = ACTIVATION_CASES[name]
    functions = case.f, case.slope
    scale = {a: expectations(functions, case.kinks, a, a, a) for a in {a for pair in VARIANCES for a in pair}}
    for moments, got in zip(INSIDE, program(name, "float64")(INSIDE), strict=True):
        expected = expectations(functions, case.kinks, *moments)
        for k in range(2):
            size = (scale[moments[1]][k] * scale[moments[2]][k]) ** 0.5
            assert abs(got[k] - expected[k]) <= case.error * size + 1e-300, (moments, k, got[k], expected[k], size)


@each_case
def test_apply_is_the_function(name, precision):
    case, x = ACTIVATION_CASES[name], np.linspace(-3, 3, 24, dtype=precision)
    assert_near(case.phi.apply((), jnp.asarray(x)), case.f(x), 10 * np.finfo(precision).eps)
    by_autodiff = jax.grad(lambda x: jnp.sum(case.phi.apply((), x)))(x)
    assert by_autodiff.dtype == precision
    assert_near(by_autodiff, case.slope(x), 20 * np.finfo(precision).eps)


@each_trained
def test_gain_is_critical(name, x64):
    """E[(gain phi'(z))^2] = 1 at the variance that the class names."""
    case = ACTIVATION_CASES[name]
    variance = max(case.phi.critical_variance, 1e-12)
    (mean_square,) = expectations([case.slope], case.kinks, variance, variance, variance)
    assert isinstance(case.phi.gain, float)
    np.testing.assert_allclose(case.phi.gain**2 * mean_square, 1.0, rtol=1e-10)


@pytest.mark.parametrize("phi", [layers.Relu(), layers.LeakyRelu(0.3), layers.ABRelu(-2.0, 0.5), layers.Abs()])
@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e6])
def test_gain_of_piecewise_linear_functions_holds_at_all_variances(phi, variance, x64):
    np.testing.assert_allclose(phi.gain**2 * phi.dual(*[jnp.array(variance)] * 3)[1], 1.0, rtol=1e-14)


@pytest.mark.parametrize("phi", [layers.Step(), layers.Sign()])
def test_gain_of_steps_keeps_the_mean_square(phi, x64):
    np.testing.assert_allclose(phi.gain**2 * phi.dual(*[jnp.array(0.3)] * 3)[0], 1.0, rtol=1e-14)


# -- laws --------------------------------------------------------------------------------------------------------------


@each_trained
def test_price_theorem(name, x64):
    """The derivative of E[phi phi] by the covariance is E[phi' phi']."""
    values, slopes = (program(name, "float64", derivatives)(INSIDE) for derivatives in (False, True))
    error = max(ACTIVATION_CASES[name].error, 1e-10)
    diagonal = program(name, "float64")([(a, a, a) for pair in VARIANCES for a in pair])[:, 1].reshape(-1, 2)
    scale = np.repeat(np.sqrt(np.abs(diagonal).prod(1)), len(COSINES))
    # Two expansions agree up to their truncation errors; the derivative of an expansion is somewhat less accurate
    factor = 1 if error == 1e-10 else 20
    assert np.all(np.abs(slopes[:, 0, 0] - values[:, 1]) <= factor * error * scale)


@pytest.mark.slow
@each_case
def test_derivatives_agree_with_differences(name, x64):
    """By the covariance, by the variances and, on the diagonal, by all three at once."""
    run, derivatives, step = program(name, "float64"), program(name, "float64", True), 1e-5
    moments = np.array([(0.3, 0.7, 1.6), (-0.5, 1.2, 0.4), (0.99, 1.0, 1.1), (0.7, 0.7, 0.7)])
    directions = [np.eye(3)] * 3 + [np.ones((1, 3))]
    for at, slope, along in zip(moments, derivatives(moments), directions, strict=True):
        above, below = (run(at + sign * step * along) for sign in (1, -1))
        # third derivatives times step^2, and rounding over the step
        np.testing.assert_allclose(slope @ along.T, (above - below).T / (2 * step), rtol=1e-6, atol=1e-8)


@each(lambda case: jax.tree.leaves(case.phi))
def test_derivatives_by_hyperparameters(name, x64):
    phi = ACTIVATION_CASES[name].phi
    leaves, structure = jax.tree.flatten(phi)
    moments = padded([(0.3, 0.7, 1.6), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)])

    def total(leaves):
        nngp, derivative = jax.tree.unflatten(structure, leaves).dual(*moments)
        return jnp.sum(nngp + 2 * derivative)

    for k, slope in enumerate(jax.grad(total)(leaves)):
        above, below = (total([x + sign * 1e-5 * (i == k) for i, x in enumerate(leaves)]) for sign in (1, -1))
        np.testing.assert_allclose(slope, (above - below) / 2e-5, rtol=1e-7, atol=1e-9)
    gain = jax.jit(lambda leaves: jax.tree.unflatten(structure, leaves).gain)(leaves)
    np.testing.assert_allclose(gain, phi.gain, rtol=1e-12)


@each_case
def test_symmetric_and_bounded_by_the_diagonal(name, precision):
    run, eps = program(name, precision), np.finfo(precision).eps
    values, mirrored = run(INSIDE), run(INSIDE[:, [0, 2, 1]])
    ends = [run(np.repeat(INSIDE[:, [k]], 3, 1)) for k in (1, 2)]
    bound = np.sqrt(np.abs(ends[0] * ends[1]))
    rounding = 40 * eps * (bound + (name == "hat") * np.sqrt(INSIDE[:, 1:].prod(1) + 1)[:, None])
    rounding = rounding + (10 * eps if name == "polynomial" else 0)
    assert np.all(np.abs(values - mirrored) <= rounding)
    assert np.all(np.abs(values) <= bound * (1 + 2 * ACTIVATION_CASES[name].error) + rounding)


@each_quick_case
def test_finite_at_the_edges(name, precision):
    assert np.all(np.isfinite(program(name, precision)(EDGES)))
    if precision == "float64" or name in OF_EACH_KIND:
        assert np.all(np.isfinite(program(name, precision, True)(EDGES)))


@each_case
def test_variance_zero_is_a_constant(name, x64):
    """phi(0) E[phi(v)], and autodiff's slope at 0 times E[phi'(v)]."""
    case = ACTIVATION_CASES[name]
    at_zero = [
        float(case.phi.apply((), jnp.zeros(1))[0]),
        float(jax.grad(lambda x: case.phi.apply((), x)[0])(jnp.zeros(1))[0]),
    ]
    z, w = (part[0] for part in _panels(*GRID, *case.kinks))
    for k, f in enumerate((case.f, case.slope)):
        mean = np.sum(w * _normal(z) * f(z))
        values = program(name, "float64")([(0, 0, 1), (0, 1, 0), (0, 0, 0)])[:, k]
        expected = [at_zero[k] * mean, at_zero[k] * mean, at_zero[k] ** 2]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-14)


@each_case
def test_float32(name):
    """The error is rounding only, compared with float64 at the same moments, and is no larger near the diagonal."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.1, 2, 32).astype(np.float32)
    b = np.where(np.arange(32) < 16, a, rng.uniform(0.1, 2, 32)).astype(np.float32)
    angle = 10 ** rng.uniform(-2, 0.4, 32)
    moments = np.stack([np.sqrt(a.astype(float) * b) * np.cos(angle), a, b], 1).astype(np.float32)
    single = program(name, "float32")(moments)
    with jax.enable_x64(True):
        double = program(name, "float64")(moments)
    assert single.dtype == np.float32
    for k in range(2):
        # if norms differ, one rounding of the cosine changes an angle of 0.01 by 6e-8 / 0.01
        roundings = 50 if name == "hat" else 10
        assert_near(single[:16, k], double[:16, k], roundings * np.finfo(np.float32).eps)
        assert_near(single[16:, k], double[16:, k], 100 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("name", ["relu", "abs", "two slopes", "leaky relu", "step", "sign"])
def test_any_scale_in_float32(name):
    """Homogeneous functions keep their precision over the range of float32."""
    scale, cosine = np.meshgrid([1.0, 1e4, 1e8, 1e-8, 1e-30, 1e30, 0.0], [-1.0, 1.0, 0.0, 0.6])
    moments = np.stack([z.ravel() for z in (cosine * scale, scale, scale)], 1).astype(np.float32)
    single = program(name, "float32")(moments)
    with jax.enable_x64(True):
        double = program(name, "float64")(moments)
    np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", ["erf", "gelu", "sin", "gaussian", "rbf", "tanh"])
def test_equal_inputs_of_large_variance_in_float32(name):
    """The formula (1 + 2 a)(1 + 2 b) - 4 c^2 would lose digits that 1 + 2 a + 2 b + 4 (a b - c^2) keeps."""
    moments = np.array([(v, v, v) for v in (1e2, 1e4, 1e6)], np.float32)
    single = program(name, "float32")(moments)
    with jax.enable_x64(True):
        double = program(name, "float64")(moments)
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_both_modes_of_differentiation_agree(name, x64):
    dual = ACTIVATION_CASES[name].phi.dual
    moments = np.concatenate([INSIDE[::5], EDGES])
    total = jax.grad(lambda *moments: sum(map(jnp.sum, dual(*moments))), (0, 1, 2))
    backward = compiled(ACTIVATION_CASES[name].phi, total)(*padded(moments))
    forward = program(name, "float64", True)(moments).sum(1)
    np.testing.assert_allclose(np.stack(backward, 1)[: len(moments)], forward, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("phi", [layers.Relu(), layers.Erf(), layers.RectifiedMonomial(2)], ids=str)
def test_second_derivatives_are_finite_where_inputs_meet(phi):
    total = jax.grad(lambda moments: sum(map(jnp.sum, phi.dual(*moments))))
    moments = padded(EDGES, np.float32)
    for k in range(3):
        along = tuple(jnp.full(32, float(k == other), np.float32) for other in range(3))
        assert np.all(np.isfinite(jax.jvp(total, (moments,), (along,))[1]))


def test_moments_broadcast(x64):
    c, a, b = jnp.full((3, 1, 2), 0.1), jnp.ones((4, 1)), jnp.array(2.0)
    for name in OF_EACH_KIND:
        case = ACTIVATION_CASES[name]
        for part in jax.eval_shape(case.phi.dual, c, a, b):
            assert part.shape == (3, 4, 2)
            assert part.dtype == jnp.float64


# -- the angle ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1.5, 30.0])
def test_angle_against_arccos(precision, scale):
    """Within two roundings of 1 everywhere on the half circle."""
    angle = np.linspace(0.02, np.pi - 0.02, 2001)
    a = np.ones(1, precision)
    b = np.full(1, scale**2, precision)
    c = (scale * np.cos(angle)).astype(precision)
    exact = np.arccos(np.longdouble(c) / np.sqrt(np.longdouble(b)))
    eps = np.finfo(precision).eps
    got = 1 - 2 * np.asarray(jax.jit(arc_cosine, static_argnums=0)(0, c, a, b), np.longdouble)
    # 2 eps for the arithmetic. If the norms differ by more than a factor of two, the cosine is rounded by 2 eps, and
    # the angle by that over its sine.
    bound = 2 * eps + (2 * eps / np.sin(angle) if scale > 2 else eps / np.sin(angle) if scale > 1 else 0)
    assert np.all(np.abs(got - exact / np.pi) <= bound)


def test_defect_of_equal_norms_is_exact(precision):
    rng, eps = np.random.default_rng(0), np.finfo(precision).eps
    v = rng.uniform(0.5, 2, 1000).astype(precision)
    c = (v * (1 - 10 ** rng.uniform(np.log10(8 * eps), -2, 1000))).astype(precision)
    exact = (np.longdouble(v) - np.longdouble(c)) / np.longdouble(v)
    np.testing.assert_allclose(
        np.asarray(cosine_defect(*map(jnp.asarray, (c, v, v)))), exact.astype(precision), rtol=4 * eps
    )


def test_equal_inputs_have_no_angle(precision):
    """Also if rounding has moved one of the three moments."""
    v = np.random.default_rng(0).uniform(1e-3, 1e3, 1000).astype(precision)
    for factor in (1, 1 - np.finfo(precision).eps, 1 + np.finfo(precision).eps):
        c = (v * factor).astype(precision)
        for moments in ((c, v, v), (v, c, v)):
            nngp, derivative = layers.Relu().dual(*map(jnp.asarray, moments))
            assert np.all(np.asarray(derivative) == 0.5)
            assert np.all(np.asarray(nngp) == moments[0] / 2)


# -- relations between activations -------------------------------------------------------------------------------------


def duals(phi, moments=INSIDE):
    return np.stack(compiled(phi, phi.dual)(*padded(moments)), 1)[: len(moments)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (layers.ABRelu(0.0, 1.0), layers.Relu()),
        (layers.ABRelu(0.7, 0.7), layers.Polynomial((0.0, 0.7))),
        (layers.RectifiedMonomial(1), layers.Relu()),
        (layers.Cos(1.3, 0.7, 0.2), layers.Sin(1.3, 0.7, 0.2 + math.pi / 2)),
        (layers.SinPlusCos(1.0, 0.8), layers.Rbf(0.32)),
        (layers.Monomial(3), layers.Polynomial((0.0, 0.0, 0.0, 1.0))),
        (layers.Hermite(2), layers.Polynomial((-(0.5**0.5), 0.0, 0.5**0.5))),
        (Elementwise(jnp.tanh), layers.Tanh()),
        (Elementwise(lambda x: x**3, num_terms=4), layers.Monomial(3)),
    ],
    ids=lambda phi: type(phi).__name__,
)
def test_two_names_of_one_function(one, other, x64):
    inside = INSIDE[INSIDE[:, 1] > 1e-4]  # tiny variances are accurate only in absolute terms
    assert_near(duals(one, inside), duals(other, inside), 1e-13)


def test_hermite_at_variance_one_is_a_power(x64):
    rho = np.linspace(-1, 1, 9)
    for degree in (1, 2, 5, 12):
        got = duals(layers.Hermite(degree), np.stack([rho, 0 * rho + 1, 0 * rho + 1], 1))
        assert_near(got[:, 0], rho**degree, 1e-14)
        assert_near(got[:, 1], degree * rho ** (degree - 1), 1e-14)


def test_sin_plus_cos_is_the_exponential_of_the_correlation(x64):
    rho = np.linspace(-1, 1, 9)
    got = duals(layers.SinPlusCos(), np.stack([rho, 0 * rho + 1, 0 * rho + 1], 1))
    assert_near(got, np.exp(rho - 1)[:, None].repeat(2, 1), 1e-15)


def test_squared_relu_is_that_of_cho_and_saul(x64):
    t = np.linspace(0.1, 3, 9)
    j2 = 3 * np.sin(t) * np.cos(t) + (np.pi - t) * (1 + 2 * np.cos(t) ** 2)
    got = duals(layers.RectifiedMonomial(2), np.stack([np.cos(t), 0 * t + 1, 0 * t + 1], 1))
    assert_near(got[:, 0], j2 / (2 * np.pi), 1e-14)


# -- expansions --------------------------------------------------------------------------------------------------------


STATED = {  # variance -> error of both duals, relative to their diagonal; the table in the docstring of Elementwise
    "tanh": {0.1: 1e-14, 1.0: 1e-8, 3.0: 6e-5, 10.0: 1e-2},
    "sigmoid": {0.1: 1e-14, 1.0: 1e-14, 3.0: 4e-10, 10.0: 2e-5},
    "silu": {0.1: 1e-14, 1.0: 1e-14, 3.0: 2e-10, 10.0: 7e-6},
    "softplus": {0.1: 1e-14, 1.0: 1e-14, 3.0: 2e-12, 10.0: 2e-7},
}


@pytest.mark.parametrize("name", STATED)
def test_stated_error(name, x64):
    case, run = ACTIVATION_CASES[name], program(name, "float64")
    for variance, stated in STATED[name].items():
        moments = np.array([(r * variance, variance, variance) for r in (1, -1, 0.95, -0.5)])
        got = run(moments)
        expected = np.array([expectations((case.f, case.slope), (), *m) for m in moments])
        error = np.max(np.abs(got - expected) / expected[0])
        assert error <= stated


def test_quadrature_error_is_the_error(x64):
    case = ACTIVATION_CASES["tanh"]
    phi = layers.Tanh(num_terms=16)
    moments = np.array([(3.0, 3.0, 3.0), (1.0, 1.0, 1.0), (-0.9, 1.0, 1.0)])
    estimates = np.stack(jax.jit(phi.quadrature_error)(*map(jnp.asarray, moments.T)), 1)
    expected = np.array([expectations((case.f, case.slope), (), *m) for m in moments])
    errors = np.abs(duals(phi, moments) - expected)
    assert np.all(errors < 2 * estimates)
    assert np.all(estimates < 2 * errors)


def test_more_terms_are_better(x64):
    moments = np.array([(3.0, 3.0, 3.0)])
    exact = expectations((np.tanh,), (), *moments[0])[0]
    errors = [abs(duals(layers.Tanh(num_terms=n), moments)[0, 0] - exact) for n in (8, 32)]
    assert errors[0] > 16 * errors[1]


@pytest.mark.slow
def test_expansion_has_the_derivatives_of_a_polynomial(x64):
    """Also by values that the function closes over."""
    moments = jnp.array([0.3, 0.8, 0.6])

    def total(scale, moments):
        return expansion_dual(lambda x: scale * x**3 - x, 4, *moments)

    def closed(scale, moments):
        return polynomial_dual((0.0, -1.0, 0.0, scale), *moments)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(f, *arguments):
        return jax.grad(f, (0, 1))(*arguments), jax.hessian(f, 1)(*arguments)

    got, expected = (jax.tree.leaves(derivatives(f, 0.4, moments)) for f in (total, closed))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# -- names and bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_names(name):
    phi = activation(name)
    assert activation(phi) is phi
    assert phi == activation(name)
    assert hash(phi) == hash(activation(name))
    assert phi.apply((), jnp.ones((2, 3))).shape == (2, 3)


def test_gain_inside_a_program(x64):
    """It is a float there too, because networks keep it as a scale."""
    jax.jit(lambda x: x * float(layers.Gelu().gain))(1.0)
    np.testing.assert_allclose(layers.Gelu().gain, (1 / 3 + 2 / (3 * 3**0.5 * math.pi)) ** -0.5, rtol=1e-15)
    assert layers.Gelu().gain == pytest.approx(1.4811, abs=1e-4)


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    def test_unknown_name(self):
        with pytest.raises(InputError, match="Expected activation to be one of relu, erf, .*; got 'swish'"):
            activation("swish")

    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (layers.LeakyRelu, "alpha of LeakyRelu"),
            (lambda value: layers.ABRelu(1.0, value), "b of ABRelu"),
            (lambda value: layers.Erf(value), "a of Erf"),
            (lambda value: layers.Sin(1.0, 1.0, value), "c of Sin"),
            (lambda value: layers.Cos(value), "a of Cos"),
            (lambda value: layers.SinPlusCos(1.0, value), "b of SinPlusCos"),
            (layers.Rbf, "gamma of Rbf"),
            (layers.Gaussian, "a of Gaussian"),
            (layers.Exp, "a of Exp"),
            (lambda value: layers.Polynomial((1.0, value)), "coefficients of Polynomial"),
        ],
    )
    def test_numbers(self, make, name):
        with pytest.raises(InputError, match=f"Expected finite numbers in {name}; got 1 NaN or infinite"):
            make(float("nan"))
        with pytest.raises(InputTypeError, match=f"Expected {name} to be an array of numbers; got"):
            make("steep")

    def test_ranges(self):
        with pytest.raises(InputError, match="Expected gamma of Rbf to be zero or more; got -1.0"):
            layers.Rbf(-1.0)
        with pytest.raises(InputError, match="Expected -b of Gaussian to be zero or more; got -0.5"):
            layers.Gaussian(1.0, 0.5)

    @pytest.mark.parametrize("make", [layers.Monomial, layers.Hermite, layers.RectifiedMonomial])
    def test_degrees(self, make):
        with pytest.raises(InputError, match=f"Expected degree of {make.__name__}.* to be at least 1; got 0"):
            make(0)
        with pytest.raises(InputTypeError, match=f"Expected degree of {make.__name__}.* to be a whole number; got 1.5"):
            make(1.5)

    @pytest.mark.parametrize("coefficients", [(), [1.0, 2.0], 3.0])
    def test_coefficients(self, coefficients):
        with pytest.raises(InputTypeError, match="Expected the coefficients of Polynomial as a tuple of numbers"):
            layers.Polynomial(coefficients)

    def test_elementwise(self):
        with pytest.raises(
            InputTypeError, match="Expected function of Elementwise to be a function of an array; got 'tanh'"
        ):
            Elementwise("tanh")
        with pytest.raises(
            InputTypeError, match="Expected derivative of Elementwise to be a function of an array; got 1"
        ):
            Elementwise(jnp.tanh, 1)
        with pytest.raises(InputError, match="Expected num_terms of Elementwise to be at least 1; got 0"):
            Elementwise(jnp.tanh, num_terms=0)
        with pytest.raises(InputError, match="Expected num_terms of Tanh to be at least 1; got 0"):
            layers.Tanh(num_terms=0)


def test_moment_is_the_dual_at_equal_arguments(x64):
    """A class's own formula for E[phi(u)^2] agrees to the last digit, so an input has angle zero with itself."""
    variance = jnp.asarray([0.0, 1e-5, 0.3, 1.0, 7.0])
    for name, case in ACTIVATION_CASES.items():
        if type(case.phi).moment is not layers.Activation.moment:
            expected = case.phi.dual(variance, variance, variance)[0]
            np.testing.assert_array_equal(case.phi.moment(variance), expected, err_msg=name)
