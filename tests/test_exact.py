"""Exact spectra against identities from papers, closed forms with many digits, and samples."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import mpmath
import numpy as np
import pytest
from cases import EXACT_ZEROS, spectrum_on_nodes
from numpy.testing import assert_allclose

import ntkbias as nb
from ntkbias.domains import Circle, Gaussian, Hypercube, Sphere, SphereProduct, Torus
from ntkbias.errors import InputError
from ntkbias.exact import (
    DotProductKernel,
    ExactSpectrum,
    beside,
    by_hermite_degree,
    exact_spectrum,
    predicted_decay,
    spectrum_of_degrees,
)
from ntkbias.exact import hypercube as hypercube_module
from ntkbias.exact import sphere_product as product_module
from ntkbias.exact.digits import DUALS, UnknownFormula, kernel_digits
from ntkbias.exact.sphere_product import product_spectrum
from ntkbias.kernels import Kernel
from ntkbias.layers import ABRelu, Conv, Dense, Flatten, Relu, Residual, Sequential, SinPlusCos
from ntkbias.scaling import power_law
from ntkbias.studies.eigenspace_restructuring import inputs_and_targets, learning_indices, networks

DIGITS = 50
EPS = np.finfo(float).eps


class Rbf(Kernel):
    """exp(-|x - x'|^2 / (2 length^2)), of Mehler's type."""

    length: float

    def contract(self, features1, features2):
        features2 = features1 if features2 is None else features2
        squares = jnp.sum((features1[:, None] - features2[None]) ** 2, -1)
        return jnp.exp(-squares / (2 * self.length**2))

    def block_rows(self, x):
        return 4096


def laplace(cosine):
    return jnp.exp(-jnp.sqrt(2 - 2 * cosine))


def steps(num_layers):
    """The NNGP of step functions; `num_layers` counts the readout."""

    def profile(cosine):
        for _ in range(num_layers - 1):
            cosine = 1 - jnp.arccos(cosine) / jnp.pi
        return cosine

    return profile


@functools.cache
def ntk(depth, **options):
    return nb.infinite_ntk(nb.nets.mlp(depth=depth, **options))


@functools.cache
def nngp(depth):
    return nb.infinite_nngp(nb.nets.mlp(depth=depth))


def flat(depth):
    """A ReLU network without bias, for inputs with any axes."""
    return Sequential((Flatten(), *nb.nets.mlp(depth=depth).layers))


def relu_kernel(cosine, depth, fan_in):
    """The NTK and NNGP of `nets.mlp(depth)` without bias on the unit sphere of `fan_in` dimensions, in mpmath."""
    ntk = nngp = cosine
    for _ in range(depth):
        angle = mpmath.acos(nngp)
        kappa0, kappa1 = 1 - angle / mpmath.pi, (mpmath.sin(angle) + (mpmath.pi - angle) * nngp) / mpmath.pi
        ntk, nngp = ntk * kappa0 + kappa1, kappa1
    return ntk / (2 * fan_in), nngp / (2 * fan_in)  # w_std is 1 in the first and last layer


@functools.cache
def gauss_legendre(num_nodes):
    """Nodes in (0, pi) and weights with DIGITS digits, by Newton's method from float64."""
    with mpmath.workdps(DIGITS):
        nodes, weights = [], []
        for start in np.polynomial.legendre.leggauss(num_nodes)[0]:
            x = mpmath.mpf(float(start))
            for _ in range(3):
                before, now = mpmath.mpf(1), x
                for m in range(1, num_nodes):
                    before, now = now, ((2 * m + 1) * x * now - m * before) / (m + 1)
                slope = num_nodes * (x * now - before) / (x * x - 1)
                x -= now / slope
            nodes.append(mpmath.pi * (1 + x) / 2)
            weights.append(1 / ((1 - x * x) * slope**2))
        return nodes, weights


def zonal_reference(profile, dimension, degrees):
    """E[f P_k] on S^{d-1} in mpmath, for profiles analytic in the angle: `profile(cosine)`."""
    nodes, weights = gauss_legendre(140)
    with mpmath.workdps(DIGITS):
        cosines = [mpmath.cos(t) for t in nodes]
        density = [w * mpmath.sin(t) ** (dimension - 2) for w, t in zip(weights, nodes, strict=True)]
        values = [w * profile(u) for w, u in zip(density, cosines, strict=True)]
        total, found = mpmath.fsum(density), []
        before, now = [mpmath.mpf(1)] * len(cosines), cosines
        for k in range(max(degrees) + 1):
            found.append(mpmath.fdot(values, before) / total)
            after = [
                ((2 * k + dimension) * u * b - (k + 1) * a) / (k + dimension - 1)
                for u, a, b in zip(cosines, before, now, strict=True)
            ]
            before, now = now, after
        return np.array([float(found[k]) for k in degrees])


# ---- circle and sphere


def basri_kernel():
    """H(u) = (u + 1)(pi - arccos u) / (4 pi): half the NTK's part from the first layer, whose bias starts at zero."""
    net = Sequential((Dense(8, b_std=1.0, b_init=0.0), Relu(), Dense(1)))
    return 0.5 * (nb.infinite_ntk(net) + -1.0 * nb.infinite_nngp(net))


@pytest.mark.parametrize("made_from", ["profile", "layers"])
def test_circle_identities_of_basri(made_from):
    """The values of Basri et al. 2019, under d theta, are 2 pi times ours."""
    if made_from == "profile":
        kernel, circle = DotProductKernel(lambda u: (u + 1) * (jnp.pi - jnp.arccos(u)) / (4 * jnp.pi)), Circle()
    else:
        kernel, circle = basri_kernel(), Circle(math.sqrt(2.0))  # the first layer divides <x, x'> by d = 2
    k = np.arange(2, 61)
    expected = np.where(k % 2 == 0, (k**2 + 1) / (np.pi * (k**2 - 1.0) ** 2), 1 / (np.pi * k**2))
    expected = np.concatenate([[1 / np.pi + np.pi / 4, 1 / np.pi + np.pi / 8], expected])
    exact = exact_spectrum(kernel, circle, 60)
    assert_allclose(2 * np.pi * exact.eigenvalues, expected, rtol=1e-8)
    assert np.all(np.abs(2 * np.pi * exact.eigenvalues - expected) <= 2 * np.pi * exact.errors + EPS)


@pytest.mark.parametrize("kind", [nb.infinite_ntk, nb.infinite_nngp])
@pytest.mark.parametrize("name", EXACT_ZEROS)
def test_exact_zeros_are_within_their_errors(name, kind):
    """Without bias f(t) - f(pi - t) is linear in cos t: odd degrees from 3 on are zero, whatever the domain."""
    domain, max_degree = EXACT_ZEROS[name]
    kernel = kind(flat(1))
    exact = exact_spectrum(kernel, domain, max_degree)
    degrees = np.asarray(exact.degrees)
    totals = degrees[:, 0] if isinstance(domain, Gaussian) else degrees.reshape(len(degrees), -1).sum(1)
    zeros = (totals % 2 == 1) & (totals >= 3)
    assert zeros.any()
    assert np.all(np.abs(exact.eigenvalues[zeros]) <= exact.errors[zeros])
    assert exact.above_error[totals == 0][0]
    assert np.max(exact.errors) < 1e-6 * exact.trace
    if degrees.ndim == 1:
        assert exact.decay(3, max_degree).odd == -np.inf
    if isinstance(domain, Circle | Sphere | Torus):
        assert predicted_decay(kernel, domain).odd == -np.inf


def test_decay_leaves_out_what_may_be_zero():
    """A few of many zeros that exceed their errors by chance are no power law. A tail below its errors is left out."""
    degrees = np.arange(80)
    values = np.where(degrees % 2, 1e-17, (degrees + 1.0) ** -3)
    errors = np.where(np.isin(degrees, (49, 67)), 0.9e-17, 2e-17)
    noisy = ExactSpectrum(values, degrees, np.ones(80), errors, degrees + 1.0, np.ones(()))
    assert noisy.above_error[[49, 67]].all()
    assert str(noisy.decay()) == "even degrees -3.00, odd degrees -inf"
    sunk = ExactSpectrum(values, degrees, np.ones(80), np.full(80, 30.0**-3), degrees + 1.0, np.ones(()))
    assert sunk.decay().even == pytest.approx(-3)


DIMENSIONS = [2, 3, 4, 5, 8, 16]


@pytest.mark.parametrize(("depth", "kind"), [(1, "ntk"), (2, "nngp"), (3, "ntk")])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_errors_hold_against_many_digits(dimension, depth, kind):
    """At every degree to 80, at which the NNGP on S^7 has 1e-16 of its trace, and also at degrees with eigenvalue 0."""
    exact = exact_spectrum({"ntk": ntk, "nngp": nngp}[kind](depth), Sphere(dimension), 80)
    part = ("ntk", "nngp").index(kind)
    reference = zonal_reference(lambda u: relu_kernel(u, depth, dimension)[part], dimension, range(81))
    wrong = np.abs(exact.eigenvalues - reference)
    assert np.all(wrong <= exact.errors + EPS * np.abs(reference))
    if dimension <= 8:
        assert np.all((exact.errors < 1e-3 * reference)[np.abs(reference) > 1e-20])


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("dimension", [3, 4, 5])
def test_errors_of_a_leaf_hold(dimension, depth):
    """The rule of one leaf is in cosines, in which ReLU kernels are singular; the sphere's rule gives the reference."""
    kernel = nb.infinite_ntk(flat(depth))
    leaf = exact_spectrum(kernel, SphereProduct(0, dimension), 8)
    sphere = exact_spectrum(kernel, Sphere(dimension, dimension**0.5), 8)
    assert np.all(np.abs(leaf.eigenvalues - sphere.eigenvalues) <= leaf.errors + sphere.errors)


@pytest.mark.parametrize(
    ("kernel", "dimension"),
    [(ntk(2), 2), (nngp(2), 8), (DotProductKernel(laplace), 5), (DotProductKernel(steps(3)), 2)],
    ids=["ntk", "nngp", "laplace", "step"],
)
def test_predicted_decay_is_measured(kernel, dimension):
    """Bietti and Bach 2021, for each parity."""
    predicted = predicted_decay(kernel, Sphere(dimension))
    measured = exact_spectrum(kernel, Sphere(dimension), 80).decay(20, 80)
    tolerance = 0.09 if kernel.__class__ is DotProductKernel and kernel.profile is not laplace else 0.03
    assert_allclose([measured.even, measured.odd], [predicted.even, predicted.odd], atol=tolerance)


def assert_decay(kernel, dimension, expected, tolerance):
    predicted = predicted_decay(kernel, Sphere(dimension))
    measured = exact_spectrum(kernel, Sphere(dimension), 80).decay(20, 80)
    assert_allclose([predicted.even, predicted.odd], expected, atol=0.005)
    assert_allclose([measured.even, measured.odd], expected, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [2, 3, 4, 5, 8])
def test_decay_on_every_sphere(dimension):
    """-d for the NTK at depth 2 or more, -(d + 2) for the NNGP, -d for the Laplace kernel."""
    cases = [(ntk(2), -dimension), (ntk(3, b_std=0.5), -dimension), (nngp(2), -dimension - 2)]
    cases += [(nngp(4), -dimension - 2), (DotProductKernel(laplace), -dimension)]
    for kernel, expected in cases:
        assert_decay(kernel, dimension, expected, 0.03)


# The powers 1/2 and 1/4 of the angle are close, so the slope between degrees 20 and 80 has not reached its limit.
NOT_REACHED = pytest.mark.xfail(reason="even degrees of three layers measure -7.39 against -7.50 at d = 8")


@pytest.mark.slow
@pytest.mark.parametrize("num_layers", [3, 4])
@pytest.mark.parametrize("dimension", [2, 3, 4, 5, 8])
def test_decay_of_steps_on_every_sphere(dimension, num_layers, request):
    """-(d - 1 + 2^(2 - L)) for L layers of step functions."""
    if (dimension, num_layers) == (8, 3):
        request.applymarker(NOT_REACHED)
    expected = -(dimension - 1 + 2.0 ** (2 - num_layers))
    assert_decay(DotProductKernel(steps(num_layers)), dimension, expected, 0.09)


@pytest.mark.slow
def test_the_decay_of_steps_that_is_not_reached_at_80_is_reached_beyond():
    """In 8 dimensions with 3 layers the slope is -7.39 from 20 to 80, and -7.43, -7.45, -7.47 as degrees double."""
    exact = exact_spectrum(DotProductKernel(steps(3)), Sphere(8), 640)
    assert np.all(exact.errors[20:640] < 2e-3 * exact.eigenvalues[20:640])
    even = np.array([exact.decay(first, 4 * first).even for first in (20, 40, 80, 160)])
    assert np.all(np.diff(np.abs(even + 7.5)) < 0)
    assert_allclose(even[1:], -7.5, atol=0.09)


def test_predicted_decay_knows_what_cancels():
    assert str(predicted_decay(ntk(1), Sphere(3))) == "even degrees -3.00, odd degrees -inf"
    assert_allclose(predicted_decay(nb.nets.mlp(depth=1), Torus(2)).even, -3)  # a net stands for its NTK
    analytic = predicted_decay(ntk(2, activation="erf"), Circle())
    assert analytic.exponent == -np.inf


def test_predicted_decay_in_float64():
    """A kernel whose program has more than elementary functions: an integral by a scan."""

    def profile(cosine):
        return jax.lax.fori_loop(0, 100, lambda _, value: value, laplace(cosine))

    with pytest.raises(UnknownFormula):
        kernel_digits(DotProductKernel(profile), np.eye(2), np.eye(2), 30)
    decay = predicted_decay(DotProductKernel(profile), Sphere(3))
    assert_allclose([decay.even, decay.odd], -3, atol=0.01)


@pytest.mark.slow
def test_circle_agrees_with_its_spectrum_on_a_grid(x64):
    """An analytic kernel: the grid's own error is below rounding."""
    kernel = ntk(1, activation="erf", b_std=0.3)
    spectrum = spectrum_on_nodes(kernel, Circle(), 64)
    exact = exact_spectrum(kernel, Circle(), 20).expand()
    assert_allclose(spectrum.eigenvalues[:9], exact.eigenvalues[:9], rtol=1e-12)
    assert_allclose(exact.eigenvalues.sum(), exact.trace, rtol=1e-8)


@pytest.mark.slow
def test_a_grid_of_n_angles_adds_the_degrees_n_apart(x64):
    """lambda_k on the grid is the sum of mu_(k + j n), here for a ReLU kernel with mu_k ~ k^-2 from degree 240 on."""
    exact = exact_spectrum(ntk(2), Circle(), 240).eigenvalues
    folded = []
    for k in range(1, 5):
        alike = np.concatenate([np.arange(k, 10**6, 16), np.arange(16 - k, 10**6, 16)])
        last = 240 - k % 2  # of the same parity
        tail = exact[last] * np.sum((last / alike[alike > 240]) ** 2)
        folded.append(exact[alike[alike <= 240]].sum() + tail)
    grid = spectrum_on_nodes(ntk(2), Circle(), 16).eigenvalues
    assert_allclose(grid[1:9:2], folded, rtol=1e-4)


@pytest.mark.slow
def test_sphere_agrees_with_its_spectrum_on_a_quadrature(x64):
    """The integral operator itself, without the formula of Funk and Hecke."""
    kernel = ntk(1, activation="erf", b_std=0.5)
    spectrum = spectrum_on_nodes(kernel, Sphere(3), 600)
    assert_allclose(spectrum.eigenvalues[:25], exact_spectrum(kernel, Sphere(3), 4).expand().eigenvalues, rtol=1e-8)


def test_radius_of_a_homogeneous_kernel():
    """Without bias K grows as the square of the radius, and frequency falls as its inverse."""
    one, two = (exact_spectrum(ntk(2), Sphere(3, radius), 10) for radius in (1.0, 2.0))
    assert_allclose(two.eigenvalues, 4 * one.eigenvalues, rtol=1e-11)
    assert_allclose(two.trace, 4 * one.trace, rtol=1e-15)
    assert_allclose(two.frequencies, one.frequencies / 2)
    assert_allclose(one.frequencies, np.sqrt(np.arange(11) * np.arange(1, 12)))


# ---- torus


def test_torus_of_one_angle_is_the_circle():
    torus, circle = exact_spectrum(ntk(2), Torus(1), 36), exact_spectrum(ntk(2), Circle(), 6)
    assert_allclose(torus.eigenvalues, circle.eigenvalues, rtol=1e-11)
    assert torus.degrees.tolist() == [[k] for k in range(7)]


@pytest.mark.parametrize("kind", [pytest.param("relu", marks=pytest.mark.slow), "erf"])
@pytest.mark.slow
def test_torus_agrees_with_a_fourier_transform(kind):
    """Up to rounding for an analytic kernel, and up to the transform's own error, 256^-3, for a ReLU kernel."""
    kernel = ntk(2, activation=kind)
    torus, m = Torus(2), 256 if kind == "relu" else 64
    exact = exact_spectrum(kernel, torus, 8)
    with jax.enable_x64(True):
        grid = torus.grid(m * m)
        values = np.asarray(kernel(grid[:1], grid)).reshape(m, m)
    waves = np.fft.fft2(values).real / m**2
    expected = [waves[tuple(k)] for k in exact.degrees]
    assert_allclose(exact.eigenvalues, expected, atol=1e-15 if kind == "erf" else 1e-7)
    assert np.all(exact.errors < 1e-8)
    if kind == "erf":
        assert np.all(np.abs(exact.eigenvalues - expected) <= exact.errors + EPS)


def test_torus_rows():
    exact = exact_spectrum(ntk(1), Torus(2), 5)
    assert exact.degrees.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [2, 0], [1, 2], [2, 1]]
    assert exact.multiplicities.tolist() == [1, 2, 2, 4, 2, 2, 4, 4]
    assert_allclose(exact.eigenvalues[1], exact.eigenvalues[2], rtol=1e-12)
    assert_allclose(exact.frequencies**2, np.sum(exact.degrees**2, 1))
    assert sum(exact.multiplicities) == len(Torus(2).modes(5))


@pytest.mark.slow
def test_torus_decay_is_that_of_a_cone():
    """A cone in d dimensions has coefficients |k|^-(d + 1)."""
    exact = exact_spectrum(ntk(2), Torus(2), 24**2)
    along = [row for row, k in enumerate(exact.degrees) if k[1] == 0 and k[0] >= 8 and k[0] % 2 == 0]
    slope = power_law(exact.frequencies[along], exact.eigenvalues[along]).exponent
    assert_allclose(slope, predicted_decay(ntk(2), Torus(2)).even, atol=0.1)  # at frequencies of 8 to 24


# ---- hypercube


@functools.cache
def on_cube(depth, dimension, kind="ntk"):
    """The kernels of ReLU networks without bias, as functions of the cosine, so that deep ones compile fast."""

    def profile(cosine):
        ntk = nngp = cosine
        for _ in range(depth):
            kappa0 = 1 - jnp.arccos(nngp) / jnp.pi
            ntk, nngp = ntk * kappa0, jnp.sqrt(1 - nngp**2) / jnp.pi + kappa0 * nngp
            ntk = ntk + nngp
        return ntk if kind == "ntk" else nngp

    return exact_spectrum(DotProductKernel(profile), Hypercube(dimension), dimension)


def test_small_cube_agrees_with_its_gram_matrix(x64):
    cube = Hypercube(6)
    x, weights = cube.quadrature(64)
    spectrum = nb.spectrum(ntk(2), x, weights=weights)
    exact = exact_spectrum(ntk(2), cube, 6)
    assert_allclose(spectrum.eigenvalues, exact.expand().eigenvalues, rtol=1e-10, atol=1e-16)
    assert abs(exact.remainder) < 1e-14
    assert exact.multiplicities.tolist() == [math.comb(6, k) for k in range(7)]


@pytest.mark.parametrize("dimension", [20, 128])
def test_cube_holds_its_errors_against_many_digits(dimension):
    exact = exact_spectrum(ntk(2), Hypercube(dimension), dimension)
    with mpmath.workdps(dimension + 40):
        values = [relu_kernel(mpmath.mpf(dimension - 2 * j) / dimension, 2, 1)[0] for j in range(dimension + 1)]
        for k in range(dimension + 1):
            total = mpmath.fsum(math.comb(dimension - k, r) * values[r] for r in range(dimension - k + 1))
            expected = total / 2 ** (dimension - k)
            assert abs(exact.eigenvalues[k] - expected) <= exact.errors[k]
            values = [(a - b) / 2 for a, b in itertools.pairwise(values)]
    assert np.all(exact.eigenvalues > 0)
    assert exact.eigenvalues.min() < (1e-30 if dimension == 128 else 1e-5)
    assert abs(exact.remainder) < 1e-13


@pytest.mark.parametrize(
    "phi",
    [phi if phi in (ABRelu, SinPlusCos) else pytest.param(phi, marks=pytest.mark.slow) for phi in DUALS],
    ids=lambda phi: phi.__name__,
)
def test_digits_are_those_of_the_layers(phi):
    """The mpmath formulas against the layers' duals, with biases, a shortcut and all parameterizations."""
    phi = ABRelu(-0.3, 1.2) if phi is ABRelu else phi()
    branch = Sequential((phi, Dense(4, 1.2, 0.4, 0.7, "standard")))
    ends = Dense(4, 1.1, 0.3, 0.6, "mup"), Dense(1, 1.3, 0.2, 0.5, "mup", readout=True)
    net = Sequential((Flatten(), Dense(4, 1.1, 0.3), Residual(branch), phi, ends[0], phi, ends[1]))
    kernel = nb.infinite_ntk(net) + 0.3 * nb.infinite_nngp(net)
    x = np.random.default_rng(0).normal(size=(4, 3))
    with jax.enable_x64(True):
        expected = np.asarray(kernel(jnp.asarray(x[:2]), jnp.asarray(x[1:])))
    assert_allclose(kernel_digits(kernel, x[:2], x[1:], 40).astype(float), expected, rtol=1e-12, atol=1e-14)


def test_cube_in_float64_says_what_is_left(monkeypatch):
    exact, small = exact_spectrum(ntk(2), Hypercube(128), 128), exact_spectrum(ntk(3), Hypercube(9), 9)

    def refuse(*_):
        raise UnknownFormula("scan")

    monkeypatch.setattr(hypercube_module, "kernel_digits", refuse)
    rough = exact_spectrum(ntk(2), Hypercube(128), 128)
    assert np.all(np.abs(rough.eigenvalues - exact.eigenvalues) <= rough.errors)
    known = rough.errors < 0.01 * exact.eigenvalues
    assert known[:6].all()
    assert not known[64]
    rough = exact_spectrum(ntk(3), Hypercube(9), 9)
    assert np.all(np.abs(rough.eigenvalues - small.eigenvalues) <= rough.errors)


def test_cube_order_within_a_parity():
    """mu_0 >= mu_2 >= ..., mu_1 >= mu_3 >= ... (Yang and Salman 2019)."""
    for depth, kind in ((1, "ntk"), (4, "ntk"), (3, "nngp")):
        exact = on_cube(depth, 32, kind)
        for parity in (0, 1):
            values = exact.eigenvalues[parity::2]
            assert np.all(np.diff(values) <= exact.errors[parity::2][:-1])


def test_depth_that_maximizes_a_degree_grows_with_it():
    depths = (1, 2, 3, 4, 6, 8, 12, 16, 24)
    shares = np.array([on_cube(depth, 32).shares for depth in depths])
    assert_allclose(shares.sum(1), 1, rtol=1e-12)
    best = shares.argmax(0)[[2, 4, 6, 8]]
    assert np.all(np.diff(best) > 0), [depths[index] for index in best]


def test_nngp_is_ahead_of_the_ntk_at_degree_zero_only():
    """The share of the trace at the best depth for each degree."""
    depths = (1, 2, 3, 4, 6, 8, 12, 16)
    ntks, nngps = (np.max([on_cube(d, 32, kind).shares for d in depths], 0) for kind in ("ntk", "nngp"))
    assert nngps[0] > ntks[0]
    assert_allclose(nngps[1], ntks[1], rtol=1e-12)  # both one half, at depth 1
    assert np.all(nngps[2:12] < ntks[2:12])


# ---- Gaussian


@pytest.mark.parametrize("dimension", [1, 3])
def test_mehler_kernel_has_hermite_degrees(dimension):
    """exp(-|x - x'|^2 / (2 l^2)) under N(0, s^2): (2 a / A)^(d / 2) B^k (Rasmussen and Williams 2006, 4.3.1)."""
    scale, length = 0.8, 1.3
    gaussian = Gaussian(dimension, scale)
    exact = exact_spectrum(Rbf("mean", length), gaussian, 6)
    hermite = by_hermite_degree(exact, gaussian)
    a, b = 1 / (4 * scale**2), 1 / (2 * length**2)
    total = a + b + math.sqrt(a * a + 2 * a * b)
    expected = (2 * a / total) ** (dimension / 2) * (b / total) ** np.arange(7)
    assert_allclose(hermite.eigenvalues, expected, rtol=1e-11)
    assert hermite.multiplicities.tolist() == [math.comb(k + dimension - 1, k) for k in range(7)]
    assert_allclose(hermite.remainder, exact.remainder, atol=1e-13)
    assert_allclose(exact.trace, 1, rtol=1e-13)


@pytest.mark.slow
def test_homogeneous_kernel_on_a_gaussian_is_that_of_the_sphere():
    """K = r r' f(t) has one radial function, r, and E r^2 = d scale^2 times the sphere's eigenvalue."""
    exact = exact_spectrum(nngp(1), Gaussian(3, 2.0), 4)
    sphere = exact_spectrum(nngp(1), Sphere(3), 4)
    angular, radial = exact.degrees.T
    first = radial == 0
    assert_allclose(exact.eigenvalues[first], 12 * sphere.eigenvalues[angular[first]], rtol=1e-9, atol=1e-15)
    assert np.abs(exact.eigenvalues[~first]).max() < 1e-12
    assert_allclose(exact.trace, 12 * sphere.trace, rtol=1e-12)
    with pytest.raises(InputError, match="Expected one eigenvalue for Hermite degree 2"):
        by_hermite_degree(exact, Gaussian(3, 2.0))


@pytest.mark.slow
def test_gaussian_agrees_with_its_spectrum_on_a_quadrature(x64):
    """With biases, so that lengths and directions interact."""
    kernel, gaussian = ntk(1, activation="erf", b_std=0.5), Gaussian(2, 0.5)
    spectrum = spectrum_on_nodes(kernel, gaussian, 400)
    exact = exact_spectrum(kernel, gaussian, 4).expand()
    assert_allclose(spectrum.eigenvalues[:8], exact.eigenvalues[:8], rtol=1e-4)  # of 20 Gauss-Hermite nodes


# ---- products of spheres


def mlp(p):
    return Sequential((Flatten(), *(Dense(8), SinPlusCos()) * 3, Dense(1)))


def deep_cnn(p):
    joined = (Conv(8, (p,), (p,), "VALID"), SinPlusCos())
    return Sequential((Conv(8, (1,)), SinPlusCos(), *joined, Flatten(), Dense(8), SinPlusCos(), Dense(1)))


def exponents(name, branchings, num_draws):
    """The powers of d = p^3 with which the eigenvalues of the study's targets fall between two p."""
    found = []
    for p in branchings:
        kernel = nb.infinite_ntk(networks(p)[name])
        exact = spectrum_of_degrees(kernel, *inputs_and_targets(p), num_draws=num_draws)
        assert np.all(exact.errors < 0.05 * exact.eigenvalues)
        found.append(exact.eigenvalues)
    return -np.log(found[1] / found[0]) / math.log(8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "shallow", "deep"])
def test_learning_index_of_xiao(name):
    """Eigenvalues fall as d^-L when p doubles from 32 to 64, and d = p^3 grows eightfold."""
    assert_allclose(exponents(name, (32, 64), num_draws=4), learning_indices(64, name), atol=0.06)


@pytest.mark.slow
def test_learning_index_of_a_small_tree():
    """Eigenvalues approach d^-L as p grows, and the D-CNN distinguishes pairs in one patch from others."""
    found = exponents("deep", (8, 16), num_draws=8)
    assert_allclose(found, learning_indices(16, "deep"), atol=0.15)
    assert found[4] - found[3] > 0.2


def test_one_leaf_is_a_sphere():
    kernel, leaf = nb.infinite_ntk(mlp(1)), SphereProduct(0, 4)
    product, sphere = product_spectrum(kernel, leaf, 3), exact_spectrum(kernel, Sphere(4, 2.0), 3)
    assert_allclose(product.eigenvalues, sphere.eigenvalues, rtol=1e-12)
    assert product.multiplicities.tolist() == sphere.multiplicities.tolist()
    assert_allclose(product.frequencies, sphere.frequencies)


def test_two_circles_are_a_torus():
    kernel = nb.infinite_ntk(mlp(2))
    product = exact_spectrum(kernel, SphereProduct((0, 1), 2, radius=1.0), 3)
    torus = exact_spectrum(kernel, Torus(2), 9)
    by_index = {tuple(k): value for k, value in zip(torus.degrees.tolist(), torus.eigenvalues, strict=True)}
    assert_allclose(product.eigenvalues, [by_index[tuple(k)] for k in product.degrees.tolist()], rtol=1e-10)


@pytest.mark.slow
def test_drawn_leaves_agree_with_the_full_product(monkeypatch):
    """Random draws of the inactive leaves agree within their errors with a product rule over all leaves."""
    domain, kernel = SphereProduct(((0, 1), (2, 3)), 4), nb.infinite_ntk(deep_cnn(2))
    degrees = np.array([[1, 0, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]])
    full = spectrum_of_degrees(kernel, domain, degrees)
    assert np.all(full.errors < 1e-6 * full.eigenvalues)
    monkeypatch.setattr(product_module, "MAX_NODES", 1)
    drawn = spectrum_of_degrees(kernel, domain, degrees, num_draws=60, key=jax.random.key(3))
    assert np.all(np.abs(drawn.eigenvalues - full.eigenvalues) <= drawn.errors)
    assert np.all(drawn.errors < 0.15 * full.eigenvalues)


def test_rows_of_a_product_count_every_mode_once():
    """The class sizes under the tree's symmetries add up to all tuples, and the eigenvalues to the trace."""
    domain = SphereProduct(((0, 1), (2, 3)), 3)
    exact = exact_spectrum(nb.infinite_ntk(deep_cnn(2)), domain, 3)
    assert exact.degrees.tolist()[:5] == [[0] * 4, [1, 0, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]
    assert exact.multiplicities.sum() == len(domain.degrees(3))
    uneven = SphereProduct(((0, 1), 2), 3)
    classes = [found for total in range(4) for found in product_module._classes(uneven.tree, total)]
    assert sum(size for _, size in classes) == len(uneven.levels(3))
    assert 0 < exact.remainder < 0.2 * exact.trace


# ---- values


@pytest.fixture(scope="module")
def exact():
    return exact_spectrum(ntk(2, b_std=0.1), Sphere(3), 12)


def test_multiplicities_and_eigenvalues_make_the_trace(exact):
    assert_allclose(exact.multiplicities @ exact.eigenvalues + exact.remainder, exact.trace)
    assert 0 < exact.remainder < 0.05 * exact.trace
    assert exact.multiplicities.tolist() == [2 * k + 1 for k in range(13)]
    assert exact.eigenvalues.dtype == np.float64  # whatever JAX is set to


def test_expanded_rows_stand_in_descending_order(exact):
    modes = exact.expand()
    assert len(modes.eigenvalues) == 169
    assert np.all(np.diff(modes.eigenvalues) <= 0)
    assert modes.degrees.tolist()[:9] == [0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert len(exact.expand(7).eigenvalues) == 7
    assert_allclose(modes.remainder, exact.remainder)
    assert on_cube(1, 32).expand(3).degrees.tolist() == [0, 1, 1]


def test_saved_and_loaded(exact, tmp_path):
    nb.save(tmp_path / "exact", exact)
    loaded = nb.load(tmp_path / "exact")
    assert isinstance(loaded, ExactSpectrum)
    for field in dataclasses.fields(exact):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(exact, field.name))
    assert str(loaded) == str(exact)


def test_printed(exact):
    lines = str(exact).splitlines()
    assert lines[:1] == ["ExactSpectrum: 13 rows"]
    assert lines[1].split() == ["eigenvalue", "+-", "multiplicity", "share", "frequency", "degree"]
    assert len(lines) == 2 + 12 + 2
    assert lines[-1].startswith("trace 0.535, of which")
    assert "... and 21 more" in str(on_cube(1, 32))
    assert len(on_cube(1, 32).table(30).rows) == 30


@pytest.fixture(scope="module")
def measured():
    return nb.spectrum(ntk(2, b_std=0.1), Sphere(3).sample(150, key=jax.random.key(0)))


def test_side_by_side(exact, measured):
    lines = beside(exact, measured, 9).splitlines()
    assert lines[0].split() == ["mode", "measured", "exact", "ratio", "degree"]
    assert [line.split()[-1] for line in lines[1:-1]] == list("011122222")
    ratios = [float(line.split()[3]) for line in lines[1:-1]]
    assert_allclose(ratios, 1, atol=0.35)
    assert lines[-1].split()[0] == "trace"


def test_plot_of_both(exact, measured):
    ax = nb.plots.exact_and_measured(exact, measured)
    assert_allclose(ax.lines[0].get_ydata(), exact.expand(measured.num_above_noise).eigenvalues)
    assert len(ax.collections[0].get_offsets()) == measured.num_above_noise
    assert ax.get_xlabel() == "mode index"
    ranking = nb.rank_by_frequency(measured, Sphere(3))
    ax = nb.plots.exact_and_measured(exact, ranking)
    assert_allclose(ax.lines[0].get_xdata(), exact.frequencies[1:])
    assert "frequency" in ax.get_xlabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["exact", "measured"]
    plt.close("all")


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(exact, measured):
    kernel, circle = ntk(1), Circle()

    def finite_on(dimension):
        net = nb.nets.mlp(width=64, depth=1)
        return nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (dimension,)))

    finite = finite_on(2)
    with pytest.raises(InputError, match="stays the same when both inputs are rotated; got one that changes by"):
        exact_spectrum(finite, circle, 4)
    with pytest.raises(InputError, match="stays the same when both inputs are rotated; got one that changes by"):
        predicted_decay(finite, circle)
    with pytest.raises(InputError, match="permuted and flipped in the same way; got one that changes"):
        exact_spectrum(finite_on(5), Hypercube(5), 2)
    with pytest.raises(InputError, match="shifted in each angle"):
        exact_spectrum(finite, Torus(1), 2)
    leaves = SphereProduct((0, 1, 2), 3)
    lopsided = nb.infinite_ntk(Sequential((Conv(4, (2,), padding="VALID"), SinPlusCos(), Flatten(), Dense(1))))
    with pytest.raises(InputError, match="moved between subtrees of equal shape"):
        exact_spectrum(lopsided, leaves, 2)
    with pytest.raises(InputError, match="degrees of shape \\(rows, 3\\)"):
        spectrum_of_degrees(lopsided, leaves, np.zeros((1, 2), int))
    with pytest.raises(TypeError, match="one of Circle, Sphere, Torus, Hypercube, Gaussian, SphereProduct; got PointC"):
        exact_spectrum(kernel, nb.domains.PointCloud(), 4)
    with pytest.raises(TypeError, match="Expected a kernel, e.g. empirical_ntk\\(f, params\\); got function"):
        exact_spectrum(laplace, circle, 4)
    with pytest.raises(InputError, match="one value per pair of inputs; got outputs='all'"):
        exact_spectrum(nb.infinite_ntk(nb.nets.mlp(), outputs="all"), circle, 4)
    with pytest.raises(InputError, match="max_degree to be a whole number of zero or more; got -1"):
        exact_spectrum(kernel, circle, -1)
    with pytest.raises(InputError, match="max_degree of at most 3, the cube's dimension; got 4"):
        exact_spectrum(kernel, Hypercube(3), 4)
    with pytest.raises(InputError, match="at most 3 angles"):
        exact_spectrum(kernel, Torus(4), 4)
    with pytest.raises(TypeError, match="on which decay is a power; got Hypercube"):
        predicted_decay(kernel, Hypercube(3))
    with pytest.raises(InputError, match="num_modes of at most 169, the number of modes"):
        exact.expand(170)
    with pytest.raises(InputError, match="at most 1,000,000 modes to expand without num_modes; got"):
        on_cube(1, 32).expand()
    with pytest.raises(InputError, match="Expected one degree per row"):
        exact_spectrum(kernel, Torus(2), 1).decay()
    with pytest.raises(TypeError, match="Expected an ExactSpectrum and a Spectrum; got Spectrum"):
        beside(measured, exact)
    with pytest.raises(TypeError, match="Expected an ExactSpectrum and a Spectrum or a FrequencyRanking"):
        nb.plots.exact_and_measured(measured, exact)
    with pytest.raises(InputError, match="exact spectrum of a kernel on a Gaussian; got rows of degree"):
        by_hermite_degree(exact, Gaussian(3))
    with pytest.raises(TypeError, match="Expected a function of the cosine; got float"):
        DotProductKernel(1.0)
