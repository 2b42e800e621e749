"""LayerNorm and RMSNorm: their outputs for one example, their limits, and the convergence of finite networks."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, root_width_law

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import (
    Conv,
    Covariance,
    Dense,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    Needs,
    Positions,
    Relu,
    RMSNorm,
    Sequential,
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def test_mean_zero_and_deviation_one(x64):
    x = 3.0 + 2.0 * normal(2, 4, 3, 5)
    for layer, axes in ((LayerNorm(), -1), (LayerNorm(axes="all"), (1, 2, 3))):
        z = np.asarray(layer.apply((), x))
        assert np.abs(z.mean(axes)).max() < 1e-14
        assert_near(z.std(axes), np.ones_like(z.std(axes)), 1e-11)  # eps is 1e-12 of the variance
        assert_near(layer.apply((), 5.0 * x - 2.0), z, 1e-11)


def test_eps_is_added_to_the_variance(x64):
    x = normal(3, 6)
    x = x - jnp.mean(x, 1, keepdims=True)
    expected = x / np.sqrt(0.7 + np.asarray(x).var(1, keepdims=True))
    assert_near(LayerNorm(0.7).apply((), x), expected, 1e-14)


@pytest.mark.parametrize("axes", ["channels", "all"])
@pytest.mark.parametrize("carried", list(Positions)[1:])
def test_limit_divides_by_deviations(axes, carried, x64):
    """On the array of all pairs, one position at a time."""
    x, eps = normal(3, 2, 2, 4), 0.3
    before = Dense(5, 1.3, 0.4).propagate(Covariance.of_inputs(x[:2], x[1:], Needs(carried, carried)))
    after = LayerNorm(eps, axes).propagate(before)
    tokens = np.asarray(x).reshape(12, 4)
    gram = 1.3**2 * tokens @ tokens.T / 4 + 0.4**2
    variance = np.diag(gram).reshape(3, 4)
    if axes == "all":
        variance = np.repeat(variance.mean(1, keepdims=True), 4, 1)
    gram = (gram / np.sqrt(np.outer(eps + variance, eps + variance))).reshape(3, 4, 3, 4).transpose(0, 2, 1, 3)
    at = (lambda a: a) if carried == Positions.ALL else (lambda a: np.diagonal(a, axis1=-2, axis2=-1))
    assert_near(np.asarray(after.nngp).reshape(2, 2, *[4] * carried), at(gram[:2, 1:]), 1e-14)
    assert_near(np.asarray(after.self1).reshape(2, *[4] * carried), at(np.stack([gram[0, 0], gram[1, 1]])), 1e-14)
    assert_near(np.asarray(after.self2).reshape(2, *[4] * carried), at(np.stack([gram[1, 1], gram[2, 2]])), 1e-14)
    assert_near(after.ntk * before.nngp, after.nngp * before.ntk, 1e-14)
    assert after.gaussian


@pytest.mark.parametrize("axes", ["channels", "all"])
def test_scale_of_inputs_is_forgotten(axes, x64):
    x = normal(3, 4, 2)
    net = Sequential((Conv(8, (2,)), LayerNorm(axes=axes), Relu(), GlobalAvgPool(), Dense(1)))
    kernel = nb.infinite_nngp(net)
    assert_near(kernel(jnp.array([1.0, 2.0, 30.0])[:, None, None] * x), kernel(x), 1e-11)


def test_zero_inputs_stay_zero():
    kernel = nb.infinite_ntk(Sequential((Dense(8), LayerNorm(), Dense(1))))
    assert np.array_equal(kernel(jnp.zeros((2, 3))), np.zeros((2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["channels", "all"])
def test_finite_networks_tend_to_the_limit(axes):
    def build(width):
        options = {"axes": axes}
        return Sequential(
            (
                Dense(width, 1.3, 0.5),
                LayerNorm(**options),
                Relu(),
                Dense(width),
                LayerNorm(**options),
                Flatten(),
                Dense(1),
            )
        )

    root_width_law(build, normal(3, 3, 2))


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    def test_options(self):
        with pytest.raises(InputError, match="Expected eps of LayerNorm to be zero or more; got -1"):
            LayerNorm(-1.0)
        with pytest.raises(InputTypeError, match="Expected eps of LayerNorm to be an array of numbers; got"):
            LayerNorm("all")
        with pytest.raises(InputError, match="Expected axes of LayerNorm to be one of channels, all; got -1"):
            LayerNorm(axes=-1)

    @pytest.mark.parametrize(
        "before", [[], [Dense(4), Relu()], [Conv(4, (2,)), Relu(), GlobalAvgPool()], [Conv(4, (2,)), Flatten()]]
    )
    def test_what_is_not_gaussian(self, before):
        net = Sequential((*before, LayerNorm(), Flatten(), Dense(1)))
        with pytest.raises(
            InputError, match="Expected a Dense or Conv layer before LayerNorm; got an input that is not"
        ):
            nb.infinite_ntk(net)(jnp.ones((2, 3, 2)))

    def test_no_axes(self):
        with pytest.raises(InputError, match=r"Expected inputs of LayerNorm to have at least one axis; got shape \(\)"):
            LayerNorm().output_shape(())


@pytest.mark.parametrize("axes", ["channels", "all"])
def test_rms_norm_divides_by_the_root_mean_square(axes, x64):
    """At finite width, and on raw inputs, whose kernel is known exactly."""
    x = 3.0 + normal(3, 4, 5)
    over = -1 if axes == "channels" else (1, 2)
    expected = np.asarray(x) / np.sqrt(0.3 + np.mean(np.asarray(x) ** 2, over, keepdims=True))
    assert_near(RMSNorm(0.3, axes).apply((), x), expected, 1e-14)
    after = Sequential((RMSNorm(0.3, axes), Dense(1))).propagate(
        Covariance.of_inputs(x, x, Needs(Positions.EQUAL, Positions.EQUAL))
    )
    assert_near(after.nngp, np.einsum("npc,mpc->nmp", expected, expected) / 5, 1e-14)


def test_rms_norm_is_that_of_flax():
    nnx = pytest.importorskip("flax.nnx", reason="the extra models is not installed")
    x = 1.0 + normal(3, 4, 5)
    theirs = nnx.RMSNorm(5, epsilon=1e-3, use_scale=False, rngs=nnx.Rngs(0))
    assert_near(RMSNorm(1e-3).apply((), x), theirs(x), 1e-6)


@pytest.mark.slow
def test_rms_norm_after_an_activation_is_a_limit():
    """LayerNorm refuses this input, because its values have a nonzero mean."""

    def build(width):
        layers = (Dense(width, 1.3, 0.5), Relu(), RMSNorm(), Dense(width), RMSNorm(axes="all"), Relu(), Flatten())
        return Sequential((*layers, Dense(1)))

    root_width_law(build, normal(3, 3, 2))
