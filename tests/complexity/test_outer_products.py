"""The average gradient outer product, and its correlation with weights, compared with explicit Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.complexity import average_gradient_outer_product, feature_correlations, geometric_complexity
from ntkbias.errors import InputError

NET = nb.nets.mlp(width=5, depth=2, num_outputs=3, activation="tanh", b_std=0.1)  # square weights, as its inputs have 5
PARAMS, START = (NET.init(jax.random.key(seed), (5,)) for seed in (0, 5))
X = np.random.default_rng(0).normal(size=(10, 5))
BATCH = {"batch_size": 4}


def cosine(a, b):
    return np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b))


def outer_products(x):
    """The matrix in the inputs of each dense layer, by the explicit Jacobian of the layers after it."""
    found, h = {}, jnp.asarray(x)
    for index, (layer, params) in enumerate(zip(NET.layers, PARAMS, strict=True)):
        if isinstance(layer, nb.layers.Dense):
            rest = nb.layers.Sequential(NET.layers[index:])
            J = jax.vmap(jax.jacobian(lambda z, rest=rest, index=index: rest.apply(PARAMS[index:], z[None])[0]))(h)
            found[f"[{index}]['w']"] = np.einsum("nod,noe->de", J, J) / len(h)
        h = layer.apply(params, h)
    return found


def weights(params):
    return {f"[{index}]['w']": np.asarray(params[index]["w"]) for index in (1, 3, 5)}


def transposed(params):
    return [{**each, "w": each["w"].T} if each else each for each in params]


def test_is_the_mean_of_squared_jacobians(x64):
    found = average_gradient_outer_product(NET.apply, PARAMS, X, **BATCH)
    np.testing.assert_allclose(found, outer_products(X)["[1]['w']"], rtol=1e-4, atol=1e-6)  # parameters in float32
    np.testing.assert_allclose(np.trace(found), geometric_complexity(NET.apply, PARAMS, X), rtol=1e-12)


@pytest.mark.parametrize("start", [None, pytest.param(START, marks=pytest.mark.wide)], ids=["weights", "their change"])
def test_correlations_are_those_of_the_matrices(x64, start):
    found = feature_correlations(NET.apply, PARAMS, X, start=start, **BATCH)
    moved = {path: W - (0 if start is None else weights(start)[path]) for path, W in weights(PARAMS).items()}
    expected = {path: cosine(moved[path] @ moved[path].T, G) for path, G in outer_products(X).items()}
    assert list(found) == list(expected)
    np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=1e-5)


@pytest.mark.wide
def test_transposed_weights_have_the_same_correlations(x64):
    """Square matrices are told from their transposes by the gradient."""
    plain = feature_correlations(NET.apply, PARAMS, X, **BATCH)
    turned = feature_correlations(lambda params, x: NET.apply(transposed(params), x), transposed(PARAMS), X, **BATCH)
    assert turned.keys() == plain.keys()
    np.testing.assert_allclose([*turned.values()], [*plain.values()], rtol=1e-6)


def test_weights_used_otherwise_are_left_out():
    def f(params, x):
        return jnp.tanh(x @ params["w"]) @ (params["tied"] @ params["tied"]) + params["scale"] * x

    params = {"w": jnp.eye(5), "tied": jnp.eye(5), "scale": jnp.ones(5)}
    assert list(feature_correlations(f, params, X)) == ["['w']"]


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    cases = [
        (lambda: feature_correlations(lambda w, x: x * w, jnp.ones(5), X), "Expected params with a weight matrix that"),
        (
            lambda: feature_correlations(lambda w, x: x @ w, jnp.ones((5, 2)), X, start=jnp.ones((5, 3))),
            "Expected start to have the structure and shapes of params; got others.",
        ),
        (
            lambda: average_gradient_outer_product(lambda w, x: x["a"] @ w, jnp.ones((5, 2)), {"a": X}),
            "Expected inputs x (n, ...) as one array of coordinates",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
