"""Encodings: closed forms, fixed maps before a network, and the convergence of finite networks to the limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, root_width_law

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import (
    Angle,
    Covariance,
    Dense,
    Erf,
    Flatten,
    FourierFeatures,
    Needs,
    PositionalEncoding,
    Positions,
    RandomFourierFeatures,
    Relu,
    Residual,
    SelfAttention,
    Sequential,
    SinusoidalEncoding,
    split_fixed,
)

ALL = Needs(Positions.ALL, Positions.ALL)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def exponential(distance):
    return np.exp(-distance / 3)


# -- fixed maps ------------------------------------------------------------------------------------------------------

FIXED = {
    "frequencies": (FourierFeatures((1, 2.5), (1.0, 0.3)), (3,)),
    "directions": (FourierFeatures(((1, 2), (0, 3), (1, -1))), (2,)),
    "angle": (Angle(), (2,)),
    "angle at positions": (Angle(), (4, 2)),
    "sinusoids": (SinusoidalEncoding(0.5, "concat"), (3, 1)),
}


@pytest.mark.parametrize("name", FIXED)
def test_fixed_maps_are_layers(name):
    layer, shape = FIXED[name]
    x = normal(3, *shape)
    assert layer.init(jax.random.key(0), shape) == ()
    z = layer.apply((), x)
    assert z.shape == (3, *layer.output_shape(shape))
    assert z.dtype == jnp.float32
    assert_near(layer.apply((), x[1:2]), z[1:2], 1e-6)  # float32
    assert hash(layer) == hash(jax.tree.unflatten(jax.tree.structure(layer), jax.tree.leaves(layer)))
    assert layer.is_fixed
    assert not Dense(1).is_fixed


def test_features_are_waves(x64):
    x = normal(3, 2)
    coordinates = FourierFeatures([1, 2], np.array([1.0, 0.5])).apply((), x)
    expected = [
        amplitude * wave(2 * np.pi * frequency * np.asarray(x[:, axis]))
        for wave in (np.cos, np.sin)
        for axis in range(2)
        for frequency, amplitude in ((1, 1.0), (2, 0.5))
    ]
    assert_near(coordinates, np.stack(expected, 1), 1e-14)
    directions = FourierFeatures([[1, 0], [2, 0], [0, 1], [0, 2]], [1.0, 0.5, 1.0, 0.5]).apply((), x)
    assert_near(directions, coordinates, 1e-14)


def test_kernel_of_features_is_a_sum_of_cosines(x64):
    """Tancik et al. 2020, eq. 5. Our covariance is the mean over the 2 k features."""
    b, a = np.random.default_rng(0).normal(size=(4, 2)), np.array([1.0, 0.5, 2.0, 0.1])
    x, y = normal(3, 2), normal(5, 2, seed=1)
    angles = 2 * np.pi * np.einsum("kd,nmd->nmk", b, np.asarray(x)[:, None] - np.asarray(y)[None])
    kernel = nb.infinite_nngp(Sequential((FourierFeatures(b, a), Dense(1))))
    assert_near(kernel(x, y), np.cos(angles) @ a**2 / 8, 1e-14)


def test_a_kernel_is_that_of_the_features(x64):
    layer, net = FourierFeatures((1, 2), (1.0, 0.3)), nb.nets.mlp(8, 1, b_std=0.3)
    x, y = normal(3, 1), normal(3, 1, seed=1)
    kernel = nb.infinite_ntk(Sequential((Sequential((layer,)), net)))
    assert_near(kernel(x, y), nb.infinite_ntk(net)(layer.apply((), x), layer.apply((), y)), 1e-14)
    assert_near(nb.infinite_ntk(kernel.net, memory_budget=1)(x, y), kernel(x, y), 1e-13)


def test_split():
    first, second, net = Angle(), FourierFeatures((1,)), nb.nets.mlp()
    fixed, rest = split_fixed(Sequential((Sequential((first, Sequential((second,)))), net)))
    assert fixed.layers == (first, second)
    assert rest.layers == net.layers
    fixed, rest = split_fixed(net)
    assert fixed.layers == ()
    fixed, rest = split_fixed(first)
    assert (fixed.layers, rest.layers) == ((first,), ())


def test_features_of_angles_are_harmonics_of_the_circle(x64):
    circle = nb.domains.Circle(2.0)
    x, weights = circle.quadrature(16)
    net = nb.nets.fourier_features(nb.nets.mlp(8, 1), num_frequencies=3, decay=0.0, domain="circle")
    fixed, _ = split_fixed(net)
    z = np.asarray(fixed.apply([()] * 2, x))
    assert_near(z.T @ (np.asarray(weights)[:, None] * z), np.eye(6) / 2, 1e-14)
    kernel = nb.infinite_ntk(net)
    turned = circle.point(circle.angle(x) + 0.3)
    assert_near(kernel(turned), kernel(x), 1e-12)


@pytest.mark.slow
def test_spectrum_flattens_as_amplitudes_do(x64):
    """Tancik et al. 2020: a_j = j^-p; the smaller p is, the slower the spectrum of the composed NTK decays."""
    x = jnp.arange(64)[:, None] / 64
    decays, ranks, exponents = (0.0, 1.0, 2.0), [], []
    for decay in decays:
        net = nb.nets.fourier_features(nb.nets.mlp(8, 2), num_frequencies=16, decay=decay)
        spectrum = nb.spectrum(nb.infinite_ntk(net), x)
        ranks.append(float(spectrum.effective_rank()))
        values = np.asarray(spectrum.eigenvalues)[1:33]  # frequencies 1 to 16, each with a cosine and a sine
        exponents.append(-np.polyfit(np.log(np.arange(1, 33)), np.log(values), 1)[0])
    print("effective rank", np.round(ranks, 2), "exponents", np.round(exponents, 2))
    assert np.all(np.diff(ranks) < 0)
    assert np.all(np.diff(exponents) > 0)
    assert ranks[0] > 2 * ranks[-1]


# -- random features -------------------------------------------------------------------------------------------------


def test_random_features_are_the_gaussian_kernel(x64):
    x, y = normal(4, 3), normal(5, 3, seed=1)
    layer = RandomFourierFeatures(8, 1.3)
    kernel = nb.infinite_nngp(Sequential((layer, Dense(1))))
    distance = ((np.asarray(x)[:, None] - np.asarray(y)[None]) ** 2).sum(-1)
    assert_near(kernel(x, y), np.exp(-(1.3**2) * distance / 3 / 2), 1e-14)
    assert_near(jnp.diag(kernel(x)), np.ones(4), 1e-15)
    # With few features the mean is the same, and the error is of order num_features^-1/2.
    errors = []
    for num_features in (8, 128):
        few = RandomFourierFeatures(num_features, 1.3)

        @jax.jit
        @jax.vmap
        def gram(key, few=few):
            params = few.init(key, (3,))
            return few.apply(params, x) @ few.apply(params, y).T / (2 * few.num_features)

        grams = np.asarray(gram(jax.random.split(jax.random.key(0), 400)))
        off = grams - np.asarray(kernel(x, y))
        assert np.all(np.abs(off.mean(0)) < 4.5 * off.std(0) / 20)  # 20 entries, each fails with a chance of 7e-6
        errors.append(np.mean(off**2) ** 0.5)
    assert abs(np.log(errors[0] / errors[1]) / np.log(16) - 0.5) < 0.05


def test_frequencies_are_not_trained(x64):
    net = Sequential((RandomFourierFeatures(8), Dense(1)))
    x = normal(3, 2)
    params = net.init(jax.random.key(0), (2,))
    z = np.asarray(net.layers[0].apply(params[0], x))
    assert_near(nb.empirical_ntk(net.apply, params)(x), z @ z.T / 16, 1e-12)
    assert_near(nb.infinite_ntk(net)(x), nb.infinite_nngp(net)(x), 1e-15)
    # and the first layer's ntk passes by the chain rule as w_std^2 K: that of Dense and Rbf without that Dense's term
    deep = Sequential((Dense(8, 1.2, 0.4), RandomFourierFeatures(8, 1.3), Dense(1)))
    nngp = np.asarray(nb.infinite_nngp(Sequential((Dense(8, 1.2, 0.4), Dense(1))))(x))
    variances = np.diag(nngp)
    kernel = np.exp(-(1.3**2) * (variances[:, None] + variances[None] - 2 * nngp) / 2)
    assert_near(nb.infinite_ntk(deep)(x), kernel + 1.3**2 * nngp * kernel, 1e-13)


# -- positions -------------------------------------------------------------------------------------------------------


def correlation(positions, decay=exponential, power=2):
    places = np.argwhere(np.ones(positions))
    return decay((np.abs(places[:, None] - places[None]).astype(float) ** power).sum(-1))


@pytest.mark.parametrize("combine", ["sum", "concat"])
@pytest.mark.parametrize("parameterization", ["ntk", "standard", "mup"])
def test_encoding_adds_its_correlation(combine, parameterization, x64):
    num_channels = 2 if combine == "concat" else None
    layer = PositionalEncoding(0.6, combine, num_channels, exponential, parameterization=parameterization)
    before = Dense(6, 1.2, 0.3).propagate(Covariance.of_inputs(normal(2, 2, 3, 4), normal(3, 2, 3, 4, seed=1), ALL))
    after = layer.propagate(before)
    old, new = (0.75, 0.25) if combine == "concat" else (1.0, 1.0)
    own = correlation((2, 3)).reshape(2, 3, 2, 3)
    assert_near(after.nngp, old * np.asarray(before.nngp) + new * 0.36 * own, 1e-14)
    assert_near(after.self2, old * np.asarray(before.self2) + new * 0.36 * own, 1e-14)
    trained = np.eye(6).reshape(own.shape) if parameterization == "standard" else 0.36 * own
    trained *= (num_channels or 6) if parameterization == "mup" else 1
    assert_near(after.ntk, old * np.asarray(before.ntk) + new * trained, 1e-14)
    assert after.gaussian == (combine == "sum")
    assert after.shape == (2, 3, 6 if combine == "sum" else 8)


@pytest.mark.parametrize("decay", [None, exponential])
@pytest.mark.parametrize("parameterization", ["ntk", "standard", "mup"])
def test_encodings_have_their_correlation(decay, parameterization):
    layer = PositionalEncoding(0.6, decay=decay, parameterization=parameterization)
    shape = (2, 3, 20_000)
    z = np.asarray(layer.apply(layer.init(jax.random.key(0), shape), jnp.zeros((1, *shape)))).reshape(6, -1)
    expected = 0.36 * (np.eye(6) if decay is None else correlation((2, 3)))
    # The standard error of a covariance of two entries of variance 0.36 is at most 0.36 (2 / 20000)^(1/2).
    assert np.abs(z @ z.T / 20_000 - expected).max() < 4.5 * 0.36 * (2 / 20_000) ** 0.5


def test_encodings_see_the_order(x64):
    x, order = normal(3, 4, 2), np.array([2, 0, 3, 1])
    for encoding, sees in ((None, False), (PositionalEncoding(0.7), True)):
        kernel = nb.infinite_ntk(nb.nets.transformer(8, 1, encoding=encoding, num_heads=1))
        assert np.allclose(kernel(x[:, order], x), kernel(x, x), rtol=1e-6) != sees


def test_sinusoids(x64):
    layer = SinusoidalEncoding(0.5)
    z = np.asarray(layer.apply((), jnp.zeros((1, 5, 6))))[0]
    for p, i in ((0, 0), (3, 1), (4, 2)):
        angle = p / 10_000 ** (2 * i / 6)
        assert_near(z[p, 2 * i : 2 * i + 2], 0.5 * np.array([np.sin(angle), np.cos(angle)]), 1e-14)
    gram = z @ z.T
    assert_near(gram[1:, 1:], gram[:-1, :-1], 1e-14)  # it depends only on the distance
    image = np.asarray(SinusoidalEncoding().apply((), jnp.zeros((1, 3, 4, 8))))[0]
    assert_near(image[:, :1, :4], np.broadcast_to(image[:, 3:, :4], (3, 1, 4)), 1e-15)
    assert_near(image[:1, :, 4:], np.broadcast_to(image[2:, :, 4:], (1, 4, 4)), 1e-15)
    assert SinusoidalEncoding(combine="concat").output_shape((3, 1)) == (3, 3)
    assert SinusoidalEncoding(combine="concat", num_channels=4).output_shape((3, 4, 1)) == (3, 4, 5)


def test_sinusoids_first_in_a_network_are_added_to_the_inputs(x64):
    layer, net = SinusoidalEncoding(0.5), nb.nets.transformer(8, 1, num_heads=1)
    x = normal(3, 4, 2)
    assert_near(nb.infinite_ntk(Sequential((layer, net)))(x), nb.infinite_ntk(net)(layer.apply((), x)), 1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoding",
    [
        lambda w: RandomFourierFeatures(w, 1.2),
        lambda w: PositionalEncoding(0.7, decay=exponential),
        lambda w: PositionalEncoding(0.7, "concat", decay=exponential, parameterization="standard"),
        lambda w: SinusoidalEncoding(0.7),
    ],
    ids=["random Fourier features", "sum", "concat, standard", "sinusoids"],
)
def test_finite_networks_tend_to_the_limit(encoding):
    def build(width):
        return Sequential((Dense(width, 1.0, 0.3), encoding(width), Dense(width), Erf(), Flatten(), Dense(1)))

    root_width_law(build, normal(3, 3, 2))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("layer", [FourierFeatures((1, 2)), Angle()])
    @pytest.mark.parametrize(
        "place",
        [
            lambda layer: (Dense(2), layer, Dense(1)),
            lambda layer: (Residual(Dense(2)), Sequential((layer,)), Dense(1)),
            lambda layer: (Residual(Sequential((layer, Dense(2)))), Dense(1)),
        ],
        ids=["after", "nested", "branch"],
    )
    def test_fixed_map_inside(self, layer, place):
        name = type(layer).__name__
        with pytest.raises(InputError, match=f"Expected {name} first in the network, where it acts on the inputs"):
            nb.infinite_ntk(Sequential(place(layer)))(jnp.ones((2, 2)))

    def test_frequencies(self):
        with pytest.raises(InputError, match=r"Expected frequencies of FourierFeatures \(k,\), or directions \(k, d\)"):
            FourierFeatures(np.ones((1, 2, 3)))
        with pytest.raises(InputError, match=r"Expected frequencies of FourierFeatures \(k,\), or .* got shape \(0,\)"):
            FourierFeatures(())
        with pytest.raises(InputError, match=r"Expected one amplitude per frequency, \(2,\); got shape \(3,\)"):
            FourierFeatures((1, 2), (1, 2, 3))
        with pytest.raises(
            InputError, match="Expected finite numbers in frequencies and amplitudes of FourierFeatures"
        ):
            FourierFeatures((1, np.inf))
        with pytest.raises(
            InputTypeError, match="Expected frequencies and amplitudes of FourierFeatures to be an array"
        ):
            FourierFeatures("high")

    def test_features_of_other_inputs(self):
        with pytest.raises(InputError, match=r"Expected inputs of FourierFeatures of 2 features, .* got shape \(3,\)"):
            FourierFeatures(((1, 2),)).output_shape((3,))
        with pytest.raises(InputError, match=r"Expected points of the plane, \(n, 2\), as inputs of Angle; got shape"):
            Angle().output_shape((3,))

    def test_fourier_features_of_a_net(self):
        make, net = nb.nets.fourier_features, nb.nets.mlp()
        with pytest.raises(InputTypeError, match=r"Expected a network made of ntkbias layers, e.g. nets.mlp\(\); got"):
            make(jnp.tanh)
        with pytest.raises(InputError, match="Expected num_frequencies to be at least 1; got 0"):
            make(net, num_frequencies=0)
        with pytest.raises(InputError, match="Expected finite numbers in decay; got 1 NaN"):
            make(net, decay=np.inf)
        with pytest.raises(InputError, match="Expected domain to be one of interval, circle; got 'torus'"):
            make(net, domain="torus")

    def test_random_features(self):
        with pytest.raises(InputError, match="Expected num_features of RandomFourierFeatures to be at least 1; got 0"):
            RandomFourierFeatures(0)
        with pytest.raises(InputError, match="Expected w_std of RandomFourierFeatures to be zero or more; got -1"):
            RandomFourierFeatures(2, -1.0)

    @pytest.mark.parametrize("make", [PositionalEncoding, SinusoidalEncoding])
    def test_options_of_encodings(self, make):
        name = make.__name__
        with pytest.raises(InputError, match=f"Expected std of {name} to be zero or more; got -1"):
            make(-1.0)
        with pytest.raises(InputError, match=f"Expected combine of {name} to be one of sum, concat; got 'add'"):
            make(combine="add")
        with pytest.raises(InputError, match=f"Expected num_channels of {name} to be at least 1; got 0"):
            make(combine="concat", num_channels=0)
        with pytest.raises(InputError, match=f'Expected no num_channels of {name} with combine="sum", which keeps'):
            make(num_channels=2)
        with pytest.raises(InputError, match=rf"Expected inputs of {name} to have positions, .* got shape \(2,\)"):
            make().output_shape((2,))

    def test_decay(self):
        with pytest.raises(InputTypeError, match="Expected decay of PositionalEncoding to be a function of squared"):
            PositionalEncoding(decay=0.5)
        for decay, message in (
            (
                lambda d: 1.0 * (d < 2),
                "Expected decay to give a positive semi-definite correlation of positions; got an",
            ),
            (lambda d: 1.0, r"Expected decay to give one number per distance, \(4, 4\); got \(\)"),
            (lambda d: 1 / (d - 1), "Expected finite numbers in the correlation that decay gives; got"),
        ):
            layer = PositionalEncoding(decay=decay, power=1)
            with pytest.raises(InputError, match=message), np.errstate(divide="ignore"):
                nb.infinite_ntk(Sequential((Dense(2), layer, Flatten(), Dense(1))))(jnp.ones((2, 4, 1)))

    def test_sinusoids(self):
        with pytest.raises(InputError, match="Expected a multiple of 2 channels for SinusoidalEncoding, .* got 3"):
            SinusoidalEncoding().output_shape((4, 3))
        with pytest.raises(InputError, match="Expected a multiple of 4 channels for SinusoidalEncoding, .* got 6"):
            SinusoidalEncoding(combine="concat", num_channels=6).output_shape((4, 3, 1))
        with pytest.raises(InputError, match="Expected max_period of SinusoidalEncoding above zero; got 0"):
            SinusoidalEncoding(max_period=0.0)
        net = Sequential((Dense(2), Relu(), SinusoidalEncoding(), Flatten(), Dense(1)))
        with pytest.raises(
            InputError, match="Expected SinusoidalEncoding first in the network, or after a Dense or Conv"
        ):
            nb.infinite_ntk(net)(jnp.ones((2, 3, 2)))

    def test_what_is_not_gaussian_after_an_encoding(self):
        for layer in (PositionalEncoding(combine="concat"), SinusoidalEncoding(), RandomFourierFeatures(4)):
            net = Sequential((Dense(2), layer, Relu(), Flatten(), Dense(1)))
            with pytest.raises(InputError, match="got an input that is not Gaussian"):
                nb.infinite_ntk(net)(jnp.ones((2, 3, 2)))
        kernel = nb.infinite_ntk(
            Sequential((Dense(2), PositionalEncoding(), Relu(), SelfAttention(2, 2, 2, 1), Flatten(), Dense(1)))
        )
        assert np.all(np.isfinite(kernel(jnp.ones((2, 3, 2)))))
