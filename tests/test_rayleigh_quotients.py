"""Rayleigh quotients of K / n with targets, from one block product or from half of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.alignments import rayleigh_quotient
from ntkbias.errors import InputError
from ntkbias.kernels.operators import JacobianOperator

NET = nb.nets.mlp(12, 1, 3)
PARAMS = NET.init(jax.random.key(1), (4,))
X = jax.random.normal(jax.random.key(2), (19, 4))


def weights_of(n=19):
    weights = np.random.default_rng(0).uniform(0.5, 2, n)
    return weights / weights.sum()


def targets_of(shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def by_matrix(K, phi, weights):
    """phi^T W K W phi / phi^T W phi for one target at a time."""
    rows = round(K.size**0.5)
    K, measure = np.asarray(K).reshape(rows, rows), np.repeat(weights, rows // len(weights))
    columns = phi.reshape(rows, -1).T
    return np.array([(measure * p) @ K @ (measure * p) / np.sum(measure * p**2) for p in columns])


@pytest.mark.parametrize(("outputs", "weighted"), [("sum", False), ("mean", True), ("all", True)])
@pytest.mark.slow
def test_the_quotient_of_an_eigenfunction_is_its_eigenvalue(x64, outputs, weighted):
    kernel = nb.empirical_ntk(NET.apply, params_of_type(float), outputs=outputs)
    weights = weights_of() if weighted else None
    spectrum = nb.spectrum(kernel, X, weights=weights)
    found = rayleigh_quotient(kernel, X, spectrum.eigenfunctions, weights=weights)
    np.testing.assert_allclose(found, spectrum.eigenvalues, atol=1e-12 * float(spectrum.eigenvalues[0]))
    shares = rayleigh_quotient(kernel, X, spectrum.eigenfunctions, weights=weights, relative=True)
    np.testing.assert_allclose(shares, spectrum.eigenvalues / spectrum.trace, atol=1e-12)


def params_of_type(dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)


@pytest.mark.parametrize(("outputs", "weighted"), [("mean", False), ("all", True)])
def test_every_way_gives_the_matrix_s_quotient(x64, monkeypatch, outputs, weighted):
    kernel = nb.empirical_ntk(NET.apply, params_of_type(float), outputs=outputs)
    phi = targets_of((19, 3, 5) if outputs == "all" else (19, 5))
    weights = weights_of() if weighted else None
    expected = by_matrix(kernel(X), phi, weights_of() if weighted else np.full(19, 1 / 19))
    for passes, whole in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(JacobianOperator, "uses_vjp", lambda self, count, passes=passes: passes)
        monkeypatch.setattr(JacobianOperator, "uses_matrix", lambda self, count, halves, whole=whole: whole)
        np.testing.assert_allclose(rayleigh_quotient(kernel.operator(X), phi, weights=weights), expected, rtol=1e-10)
    np.testing.assert_allclose(rayleigh_quotient(kernel(X), phi, weights=weights), expected, rtol=1e-10)
    np.testing.assert_allclose(
        rayleigh_quotient(kernel.operator(X) + kernel.operator(X), phi, weights=weights), 2 * expected
    )
    small = nb.empirical_ntk(NET.apply, params_of_type(float), outputs=outputs, memory_budget=20_000)
    np.testing.assert_allclose(rayleigh_quotient(small.operator(X), phi, weights=weights), expected, rtol=1e-10)


@pytest.mark.slow
def test_it_is_the_squared_norm_of_the_paper_s_sum_of_gradients(x64):
    net = nb.nets.mlp(8, 1, 1)
    params = jax.tree.map(lambda leaf: leaf.astype(float), net.init(jax.random.key(0), (4,)))
    phi = targets_of(19)
    jacobian = jax.jit(jax.jacrev(lambda p: net.apply(p, X)[:, 0]))(params)
    summed = [np.tensordot(phi, leaf, 1) for leaf in jax.tree.leaves(jacobian)]
    expected = sum(np.sum(leaf**2) for leaf in summed) / np.sum(phi**2)
    found = rayleigh_quotient(nb.empirical_ntk(net.apply, params).operator(X), phi)
    assert found.shape == ()
    np.testing.assert_allclose(19 * found, expected, rtol=1e-10)


def test_an_empirical_kernel_takes_half_a_product(monkeypatch):
    operator = nb.empirical_ntk(NET.apply, PARAMS).operator(X)
    monkeypatch.setattr(JacobianOperator, "uses_matrix", lambda self, count, halves: False)
    pulls = []

    def refuse(*_):
        raise AssertionError

    pull = JacobianOperator.pull
    monkeypatch.setattr(JacobianOperator, "uses_vjp", lambda self, count: False)
    monkeypatch.setattr(JacobianOperator, "pull", lambda self, v: pulls.append(v.shape[-1]) or pull(self, v))
    for name in ("product", "push", "push_by_jvp"):
        monkeypatch.setattr(JacobianOperator, name, refuse)
    rayleigh_quotient(operator, targets_of((19, 7)))
    assert pulls == [7]


def test_few_rows_and_many_targets_take_the_matrix(monkeypatch):
    """If it takes fewer operations: for a large network on few examples, and not for one vector of many."""
    net = nb.nets.mlp(width=256, depth=2)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (4,)), memory_budget=2**20)
    few, many = kernel.operator(X), kernel.operator(np.tile(X, (60, 1)))
    assert few.uses_matrix(8, halves=1)
    assert few.uses_matrix(8, halves=2)
    assert not many.uses_matrix(1, halves=1)

    def refuse(*_):
        raise AssertionError

    for name in ("pull", "push", "pull_by_vjp", "push_by_jvp"):
        monkeypatch.setattr(JacobianOperator, name, refuse)
    phi = targets_of((19, 8))
    expected = by_matrix(kernel(X), phi, weights_of())
    np.testing.assert_allclose(rayleigh_quotient(few, phi, weights=weights_of()), expected, rtol=1e-5)
    np.testing.assert_allclose(few @ phi, np.asarray(kernel(X)) @ phi, rtol=1e-3, atol=1e-4)


def test_scale_and_shape_of_targets(precision):
    K = np.diag(np.arange(1.0, 5))
    phi = targets_of((4, 3))
    tolerance = 20 * float(jnp.finfo(jnp.zeros(()).dtype).eps)
    found = rayleigh_quotient(K, phi)
    assert found.shape == (3,)
    for factor in (-2.0, 1e-12, 1e12):
        np.testing.assert_allclose(rayleigh_quotient(K, factor * phi), found, rtol=tolerance)
    one = rayleigh_quotient(K, phi[:, 0])
    assert one.shape == ()
    np.testing.assert_allclose(one, found[0], rtol=tolerance)
    np.testing.assert_allclose(rayleigh_quotient(K, np.eye(4)), np.arange(1, 5) / 4, rtol=tolerance)
    np.testing.assert_allclose(rayleigh_quotient(K, np.array([0, 0, 1, 0])), 0.75, rtol=tolerance)  # whole numbers, too
    np.testing.assert_allclose(rayleigh_quotient(K, phi, weights=np.full(4, 0.25)), found, rtol=tolerance)


def test_a_relative_quotient_is_a_share(x64):
    mode = targets_of(10)
    np.testing.assert_allclose(rayleigh_quotient(np.outer(mode, mode), mode, relative=True), 1)
    K = nb.infinite_ntk(nb.nets.mlp(depth=2)).operator(X)
    basis = np.linalg.qr(targets_of((19, 19)))[0]
    shares = rayleigh_quotient(K, basis, relative=True)
    np.testing.assert_allclose(shares.sum(), 1)
    assert np.all((shares > 0) & (shares < 1))
    np.testing.assert_allclose(rayleigh_quotient(7.0 * K, basis, relative=True), shares)


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    K = np.eye(4)
    everything = np.eye(6).reshape(3, 2, 3, 2)
    cases = [
        (
            lambda: rayleigh_quotient(K, np.ones(3)),
            "Expected targets of shape (4,), one value per input, or with one more axis",
        ),
        (
            lambda: rayleigh_quotient(everything, np.ones((6, 2))),
            "Expected targets of shape (3, 2), one value per input and",
        ),
        (lambda: rayleigh_quotient(K, np.ones((4, 2, 2))), "or with one more axis; got (4, 2, 2)"),
        (lambda: rayleigh_quotient(K, np.ones((4, 0))), "got (4, 0)"),
        (lambda: rayleigh_quotient(K, np.array([1, 1, np.nan, 1])), "Expected finite numbers in targets"),
        (
            lambda: rayleigh_quotient(K, np.zeros((4, 2))),
            "Expected targets that are not zero everywhere; got one of zeros",
        ),
        (lambda: rayleigh_quotient(K, "labels"), "Expected targets to be an array of numbers"),
        (lambda: rayleigh_quotient(K, np.ones(4), weights=np.ones(4)), "Expected weights that sum to one"),
        (lambda: rayleigh_quotient(len, np.ones(4)), "Expected a kernel on inputs: kernel.operator(x)"),
        (
            lambda: rayleigh_quotient(0 * K, np.ones(4), relative=True),
            "Expected a kernel with a trace above zero; got 0.",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
