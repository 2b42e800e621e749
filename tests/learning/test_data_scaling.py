"""Error against the number of examples: learners that agree where they must, nested sets, laws and crossovers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.learning import DataScaling, data_scaling

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (24, 6))
DATA, TEST = (X[:16], X[:16, 0] + X[:16, 1]), (X[16:], X[16:, 0] + X[16:, 1])
SGD = {"optimizer": optax.sgd(0.3), "num_steps": 300}


def linear(params, x):
    return x @ params


def test_all_learners_of_a_linear_model_agree(x64):
    """Its kernel never moves, and gradient descent from any start ends at regression with it."""
    params = jax.random.normal(jax.random.key(1), (2, 6), float)
    x, x_test = (side[0].astype(float) for side in (DATA, TEST))
    x, x_test = (side / jnp.linalg.norm(side, axis=1, keepdims=True) for side in (x, x_test))
    data, test = ((side, jnp.sin(3 * side).sum(1)) for side in (x, x_test))
    cosine = nb.kernels.DotProductKernel(lambda t: t)
    options = {"optimizer": optax.sgd(1.0), "num_steps": 3_000, "ridges": (1e-9,)}
    scaling = data_scaling(linear, params, data, test, [2, 4, 12], num_before=2, kernels={"limit": cosine}, **options)
    assert scaling.learners == ("network", "limit", "kernel at start", "kernel after 2", "kernel after n")
    for learner in scaling.learners:
        counted = slice(1, None) if learner == "kernel after 2" else slice(None)
        found, expected = scaling.of(learner)[:, counted], scaling.of("kernel at start")[:, counted]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.isnan(scaling.of("kernel after 2")[:, 0]).all()
    assert np.ptp(scaling.of("network")[:, 1]) > 1e-3  # each run draws its own examples


def test_training_sets_are_nested():
    params = jnp.zeros((2, 6))
    one, both = (data_scaling(linear, params, DATA, TEST, sizes, **SGD) for sizes in ([4], [4, 8]))
    np.testing.assert_allclose(one.errors, both.errors[:, :, :1], rtol=1e-5)
    assert not np.array_equal(both.errors[0, 0], both.errors[0, 1])


def test_the_best_ridge_is_taken():
    """Noise needs a large ridge, and a function without noise a small one."""
    noisy = DATA[0], DATA[1] + 3 * jax.random.normal(jax.random.key(2), (16,))
    options = {"optimizer": optax.sgd(0.1), "num_steps": 1}
    for data, best in ((DATA, 1e-5), (noisy, 10.0)):
        found = {
            ridges: data_scaling(linear, jnp.zeros((1, 6)), data, TEST, [12], ridges=ridges, **options)
            for ridges in ((1e-5,), (10.0,), (1e-5, 10.0))
        }
        chosen = found[1e-5, 10.0].of("kernel at start")
        np.testing.assert_allclose(chosen, found[best,].of("kernel at start"))


def test_networks_of_several_outputs():
    params = jax.random.normal(jax.random.key(1), (1, 6, 2))
    data = DATA[0], DATA[0][:, :2]
    scaling = data_scaling(linear, params, data, data, [12], **SGD)
    np.testing.assert_allclose(scaling.errors, 0, atol=1e-5)


N = jnp.array([8, 16, 32, 64])
CURVES = DataScaling(
    N,
    jnp.stack([4 / N, N**-0.5, jnp.where(N < 10, jnp.nan, N**-0.25)])[:, None] * jnp.array([[1.0], [1.1]]),
    ("a", "b", "c"),
)


def test_laws_and_crossovers():
    assert CURVES.law("a").exponent.value == pytest.approx(-1, abs=1e-5)
    assert CURVES.law("c").exponent.value == pytest.approx(-0.25, abs=1e-5)
    assert CURVES.law("a").num_replicates == 2
    assert CURVES.crossover("a", "b") == pytest.approx(16, rel=1e-5)
    assert np.isnan(CURVES.crossover("b", "a"))
    assert np.isnan(CURVES.crossover("a", "c"))  # it is ahead wherever both are measured
    lines = [line.split() for line in str(CURVES).splitlines()]
    assert lines[1:3] == [["n", "a", "b", "c"], ["8", "0.525", "0.371"]]


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    params = jnp.zeros((2, 6))

    def call(*args, **options):
        return lambda: data_scaling(linear, *(args or (params, DATA, TEST, [4])), **(SGD | options))

    several = nb.empirical_ntk(linear, jnp.zeros((6, 2)), outputs="all")
    cases = [
        (call(params, DATA, TEST, [8, 4]), "Expected sizes that ascend; got [8, 4]"),
        (
            call(params, DATA, TEST, [17]),
            "Expected sizes, and num_before, of at most 16, the number of examples; got 17",
        ),
        (call(num_before=99), "Expected sizes, and num_before, of at most 16, the number of examples; got 99"),
        (call(num_before=0), "Expected num_before to be at least 1; got 0"),
        (
            call({"a": jnp.zeros((2, 6)), "b": jnp.zeros(3)}, DATA, TEST, [4]),
            "Expected params with the runs as the first",
        ),
        (call(params, DATA[0], TEST, [4]), "Expected the data to be a pair (x, y) of inputs and targets"),
        (call(params, DATA, (TEST[0], TEST[1][:3]), [4]), "Expected as many targets as inputs in the test data; got 3"),
        (
            call(kernels={"network": several}),
            "Expected other names of kernels than those of the learners; got 'network'",
        ),
        (call(kernels={"all": several}), "Expected kernels with one value per pair of inputs; got outputs='all'"),
        (call(kernels={"all": np.eye(4)}), "Expected a kernel, e.g. empirical_ntk(f, params); got ndarray"),
        (call(ridges=(0.0,)), "Expected ridges above zero, relative to the mean diagonal, as (1e-5,); got (0.0,)"),
        (call(optimizer=optax.sgd(1e6)), "diverged at step"),
        (lambda: CURVES.law("d"), "Expected the name of a learner; got 'd'"),
    ]
    for wrong, message in cases:
        with pytest.raises(InputError) as error:
            wrong()
        assert message in str(error.value)
