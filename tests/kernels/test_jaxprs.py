"""Flat jaxprs: products hoisted out of scans, and derivatives of strided convolutions without zeros."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, function_case

from ntkbias.kernels.factors import FullJacobian, Product
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.reading import factors, flat_jaxpr


@pytest.mark.parametrize("channels_last", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("length", "window", "strides", "padding"),
    [
        ((6,), 3, (2,), "SAME"),
        ((7,), 2, (3,), "VALID"),
        ((8, 9), 3, (2, 2), "SAME"),
        ((8, 9), 1, (2, 3), "VALID"),
        ((6, 5), 4, (1, 2), [(2, 0), (0, 3)]),
        ((9, 9), 2, (4, 3), [(1, 2), (0, 0)]),
        ((4, 5, 6), 3, (2, 1, 2), "SAME"),
    ],
)
def test_what_a_strided_convolution_pulls_back(x64, length, window, strides, padding, channels_last):
    names = "DHW"[-len(length) :]
    if channels_last:
        numbers = (f"N{names}C", f"{names}IO", f"N{names}C")
        shapes = (2, *length, 2), (*[window] * len(length), 2, 3)
    else:
        numbers = (f"NC{names}", f"OI{names}", f"NC{names}")
        shapes = (2, 2, *length), (3, 2, *[window] * len(length))
    x, w = (jax.random.normal(jax.random.key(k), shape) for k, shape in enumerate(shapes))

    def pulled(w, cotangent):
        def f(x):
            return jax.lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=numbers)

        return jax.vjp(f, x)[1](cotangent)[0]

    out = jax.lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=numbers)
    cotangent = jax.random.normal(jax.random.key(2), out.shape)
    closed = flat_jaxpr(pulled, w, cotangent)
    (found,) = jex.jaxpr_as_fun(closed)(w, cotangent)
    np.testing.assert_allclose(found, pulled(w, cotangent), atol=1e-12)
    if jax.default_backend() == "cpu":
        convolutions = [e for e in closed.jaxpr.eqns if e.primitive.name == "conv_general_dilated"]
        assert convolutions
        assert all(set(each.params["lhs_dilation"]) == {1} for each in convolutions)


def test_a_remainder_that_meets_no_entry_of_the_window_is_zero():
    def pulled(w, cotangent):
        def f(x):
            return jax.lax.conv_general_dilated(x, w, (3,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

        return jax.vjp(f, jnp.ones((1, 6, 1)))[1](cotangent)[0]

    values = jnp.full((1, 1, 1), 2.0), jnp.ones((1, 2, 1))
    (found,) = jex.jaxpr_as_fun(flat_jaxpr(pulled, *values))(*values)
    assert found.ravel().tolist() == [2, 0, 0, 2, 0, 0]


@pytest.mark.parametrize(
    ("name", "layers", "positions"),
    [
        ("scanned layers", 3, 1),
        ("scanned layers, remat", 4, 1),
        ("scan of one layer", 1, 1),
        ("layers in blocks", 6, 1),
        ("scanned attention", 2, 4),
        ("deep recurrent", 2, 4),
        ("LSTM", 1, 5),
        ("GRU, remat", 1, 5),
        ("map over tokens", 1, 4),
        ("long scan", 1, 70),
    ],
)
def test_products_are_found_in_scans(name, layers, positions):
    """Weights that a scan runs over become products with an axis of layers; shared ones, products over positions."""
    f, params, x, _ = function_case(name)
    found = jax.eval_shape(lambda params, x: factors(f, params, x), params, x)
    weights = {path: factor for path, factor in found.items() if not path.endswith(("['b']", "['e']", "['o']"))}
    assert weights
    for path, factor in weights.items():
        assert isinstance(factor, Product), path
        assert factor.activation.shape[1:3] == (layers, positions), path
    assert all(isinstance(factor, FullJacobian) for path, factor in found.items() if path.endswith("['b']"))


def test_programs_do_not_grow_with_the_steps_of_a_scan():
    def gradient(w, x, cotangent):
        def outer(w):
            def step(h, w):
                return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), h, None, length=len(x))[0], None

            return jax.lax.scan(step, x[0], w)[0]

        return jax.vjp(outer, w)[1](cotangent)[0]

    def count(jaxpr):
        bodies = [equation.params["jaxpr"] for equation in jaxpr.eqns if "jaxpr" in equation.params]
        return len(jaxpr.eqns) + sum(count(getattr(body, "jaxpr", body)) for body in bodies)

    sizes = {count(flat_jaxpr(gradient, jnp.ones((n, 2, 2)), jnp.ones((n, 2)), jnp.ones(2)).jaxpr) for n in (2, 5, 60)}
    assert len(sizes) == 1


def test_host_callbacks_are_called_once_per_example(x64):
    """Callbacks without the `vmap_method` that jax.vmap requires, but with the derivatives that grad requires."""

    def on_host(f):
        return lambda x: jax.pure_callback(f, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    sine = jax.custom_vjp(on_host(np.sin))
    sine.defvjp(lambda x: (on_host(np.sin)(x), x), lambda x, g: (g * on_host(np.cos)(x),))

    def network(activation):
        return lambda p, x: activation(x @ p["w"]) @ p["o"] * jax.lax.cond(p["o"][0, 0] < 9, activation, jnp.cos, 1.0)

    _, params, x, _ = function_case("custom derivative")

    def gram(f):
        gradients = Gradients.of(f, params, "all")
        return gradients.contract(gradients.features(x), None)

    assert_near(gram(network(sine)), gram(network(jnp.sin)), 1e-12)
