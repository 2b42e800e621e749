"""Named architectures: what they are made of, and what their parameters look like."""

import jax
import numpy as np
import pytest
from cases import NETS, PARAMETERIZATIONS, net_case

import ntkbias as nb
from ntkbias.layers import Conv, Dense, Flatten, GlobalAvgPool, Relu
from ntkbias.types import InputError, InputTypeError


def linear_layers(net):
    return [layer for layer in net.layers if isinstance(layer, Dense | Conv)]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_shapes_agree(name, parameterization):
    net, shape = net_case(name, 8, parameterization)
    params = jax.eval_shape(lambda key: net.init(key, shape), jax.random.key(0))
    x = jax.ShapeDtypeStruct((5, *shape), np.float32)
    assert net.output_shape(shape) == (2,)
    assert jax.eval_shape(net.apply, params, x).shape == (5, 2)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_depth_counts_hidden_layers(depth):
    for net in (nb.nets.mlp(16, depth, 3), nb.nets.cnn(16, depth, 3)):
        layers = linear_layers(net)
        assert [layer.num_outputs for layer in layers] == [16] * depth + [3]
        assert sum(isinstance(layer, Relu) for layer in net.layers) == depth


@pytest.mark.parametrize("make", [nb.nets.mlp, nb.nets.cnn])
@pytest.mark.parametrize("activation", nb.layers.ACTIVATIONS)
def test_stds(make, activation):
    gain = nb.layers.ACTIVATIONS[activation].gain
    assert [layer.w_std for layer in linear_layers(make(4, 3, activation=activation))] == [1.0, gain, gain, 1.0]
    assert [layer.w_std for layer in linear_layers(make(4, 2, w_std=0.9))] == [0.9] * 3
    for layer in linear_layers(make(4, 2, b_std=0.3, b_init=0.0, parameterization="standard")):
        assert (layer.b_std, layer.b_init, layer.parameterization) == (0.3, 0.0, "standard")
    assert all(layer.b_std is None for layer in linear_layers(make(4, 2)))


def test_an_activation_may_be_given_as_a_layer():
    assert jax.tree.structure(nb.nets.mlp(activation=Relu())) == jax.tree.structure(nb.nets.mlp(activation="relu"))


def test_readouts():
    assert any(isinstance(layer, Flatten) for layer in nb.nets.cnn(readout="flatten").layers)
    assert any(isinstance(layer, GlobalAvgPool) for layer in nb.nets.cnn(readout="pool").layers)


def test_mlp_flattens_images():
    assert nb.nets.mlp(8, 1, 3).output_shape((4, 4, 2)) == (3,)


def test_equal_nets_are_equal():
    """So that a compiled program is found again, and kernels of the same net stack."""
    assert jax.tree.structure(nb.nets.cnn(8)) == jax.tree.structure(nb.nets.cnn(8))
    assert hash(nb.nets.mlp(8).apply) == hash(nb.nets.mlp(8).apply)
    assert nb.nets.mlp(8) == nb.nets.mlp(8)


def test_strides_and_sizes_may_be_lists():
    net = nb.nets.cnn(4, 1, kernel_size=[3, 3], strides=[2, 2])
    assert hash(net.apply) is not None
    assert net.layers[0].output_shape((4, 4, 1)) == (2, 2, 4)


@pytest.mark.parametrize("make", [nb.nets.mlp, nb.nets.cnn])
@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("name", ["width", "depth", "num_outputs"])
    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (0, InputError, "at least 1; got 0"),
            (-3, InputError, "at least 1; got -3"),
            (2.5, InputTypeError, "a whole number; got 2.5"),
            ("3", InputTypeError, "a whole number; got '3'"),
            (True, InputTypeError, "a whole number; got True"),
            (None, InputTypeError, "a whole number; got None"),
        ],
    )
    def test_counts(self, make, name, value, error, message):
        with pytest.raises(error, match=f"Expected {name}.* to be {message}"):
            make(**{name: value})

    @pytest.mark.parametrize("value", ["gelu", Relu, None, jax.nn.relu])
    def test_activation(self, make, value):
        with pytest.raises(InputError, match="Expected activation to be one of relu, erf; got"):
            make(activation=value)

    def test_parameterization(self, make):
        with pytest.raises(InputError, match="Expected parameterization to be one of ntk, standard; got 'mup'"):
            make(parameterization="mup")


@pytest.mark.usefixtures("unchecked")
class TestBadCnn:
    def test_readout(self):
        with pytest.raises(InputError, match="Expected readout to be one of flatten, pool; got 'mean'"):
            nb.nets.cnn(readout="mean")

    def test_padding(self):
        with pytest.raises(InputError, match="Expected padding to be one of SAME, VALID, CIRCULAR; got 'same'"):
            nb.nets.cnn(padding="same")

    def test_strides(self):
        message = r"Expected one stride a spatial axis; got kernel_size=\(3, 3\) and strides=\(2,\)"
        with pytest.raises(InputError, match=message):
            nb.nets.cnn(strides=(2,))
