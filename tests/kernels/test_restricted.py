"""Kernels of sign descent and of low-rank factors, with `wrt=` and preconditioners, against dense Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import assert_near, function_case
from jax.flatten_util import ravel_pytree

import ntkbias as nb
from ntkbias.adapters import lora
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import asymmetric_sign_ntk, preconditioned_ntk, sign_ntk, sign_preconditioner

NET = nb.nets.mlp(width=5, depth=2, num_outputs=2, activation="erf", b_std=0.3)
LAST = "[5]"  # the path of the last layer


def problem():
    """Parameters, inputs, and the Jacobian `(n, o, p)` by each parameter, in float64."""
    params = jax.tree.map(lambda leaf: leaf.astype(float), NET.init(jax.random.key(0), (3,)))
    x = jax.random.normal(jax.random.key(1), (6, 3)).astype(float)
    jacobian = jax.jacobian(lambda p: NET.apply(p, x))(params)
    return params, x, {path: leaf.reshape(6, 2, -1) for path, leaf in flat(jacobian).items()}


def flat(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def joined(parts, prefix=""):
    return np.concatenate([np.asarray(part) for path, part in parts.items() if path.startswith(prefix)], -1)


@pytest.mark.parametrize("wrt", [pytest.param(None, marks=pytest.mark.wide), LAST])
def test_sign_kernels_are_products_of_signs(wrt, x64):
    params, x, parts = problem()
    J = joined(parts, wrt or "")
    found = sign_ntk(NET.apply, params, outputs="all", wrt=wrt)(x)
    assert_near(found, np.einsum("nap,mbp->namb", np.sign(J), np.sign(J)), 1e-13)
    found = asymmetric_sign_ntk(NET.apply, params, outputs="all", wrt=wrt)(x, x[:4])
    assert_near(found, np.einsum("nap,mbp->namb", J, np.sign(J[:4])), 1e-13)


@pytest.mark.wide
def test_sign_kernels_with_complex_numbers_inside(x64):
    f, params, x, _ = function_case("log psi", n=3)
    values, unravel = ravel_pytree(params)
    J = np.sign(jax.jacobian(lambda v: f(unravel(v), x))(values))
    assert_near(sign_ntk(f, params, outputs="all")(x), np.einsum("nap,mbp->namb", J, J), 1e-13)


@pytest.mark.wide
def test_a_step_of_sign_descent_moves_outputs_by_its_kernel(x64):
    """On one example by the asymmetric kernel, and on all by the preconditioned one; the last layer alone."""
    params, x, _ = problem()
    y, rate = jnp.ones((6, 2)), 1e-7

    def moved(steps):
        after = jax.tree_util.tree_map_with_path(
            lambda path, p, step: p - rate * step * jax.tree_util.keystr(path).startswith(LAST), params, steps
        )
        return (NET.apply(after, x) - NET.apply(params, x)) / rate

    gradient = jax.grad(lambda p: jnp.mean(jnp.sum((NET.apply(p, x) - y) ** 2, 1)) / 2)(params)
    kernel = preconditioned_ntk(NET.apply, params, sign_preconditioner(gradient), outputs="all", wrt=LAST)
    residuals = NET.apply(params, x) - y
    wanted = -jnp.einsum("namb,mb->na", kernel(x), residuals) / 6
    assert_near(moved(jax.tree.map(jnp.sign, gradient)), wanted, 1e-6)
    one = jax.grad(lambda p: (NET.apply(p, x[:1])[0, 0] - 9.0) ** 2)(params)  # a residual below zero
    wanted = asymmetric_sign_ntk(NET.apply, params, outputs="all", wrt=LAST)(x, x[:1])[:, :, 0, 0]
    assert_near(moved(jax.tree.map(jnp.sign, one)), wanted, 1e-6)


def test_low_rank_kernel_is_the_projected_one_and_averages_to_the_full_one(x64):
    """Of the second layer's matrix: gradients G `(d, c)` become a^T G, whose mean kernel over a is that of G."""
    params, x, parts = problem()
    G = np.asarray(parts["[3]['w']"]).reshape(12, 5, 5)
    f, factors = lora(NET.apply, params, 3, key=jax.random.key(2), wrt="[3]['w']")
    assert_near(f(factors, x), NET.apply(params, x), 1e-14)
    a = np.asarray(factors["factors"]["[3]['w']"]["a"])
    projected = np.einsum("dr,ndc->nrc", a, G).reshape(12, -1)
    found = nb.empirical_ntk(f, factors, outputs="all", wrt="['factors']")(x)
    assert_near(found.reshape(12, 12), projected @ projected.T, 1e-12)
    full = np.einsum("ndc,mdc->nm", G, G)
    draws = [
        np.asarray(lora(NET.apply, params, 3, key=key, wrt="[3]['w']")[1]["factors"]["[3]['w']"]["a"])
        for key in jax.random.split(jax.random.key(3), 200)
    ]
    kernels = np.stack([np.einsum("nrc,mrc->nm", p, p) for p in (np.einsum("dr,ndc->nrc", a, G) for a in draws)])
    error = kernels.std(0, ddof=1) / 200**0.5
    assert np.all(np.abs(kernels.mean(0) - full) < 4.5 * error)


@pytest.mark.wide
def test_low_rank_kernels_approach_those_of_the_adapted_matrices(x64):
    """CKA rises with the rank: at each rank the mean over draws of the factors."""
    net = nb.nets.mlp(width=32, depth=2)
    params = net.init(jax.random.key(0), (8,))
    x = jax.random.normal(jax.random.key(1), (16, 8))
    adapted = nb.empirical_ntk(net.apply, params, wrt=["[1]['w']", "[3]['w']"])(x)
    means = []
    for rank in (1, 4, 8):
        draws = [
            lora(net.apply, params, rank, key=key, wrt=["[1]['w']", "[3]['w']"])
            for key in jax.random.split(jax.random.key(2), 4)
        ]
        grams = [nb.empirical_ntk(f, own, wrt="['factors']")(x) for f, own in draws]
        means.append(np.mean([float(nb.alignment(gram, adapted)) for gram in grams]))
    assert means[0] < means[1] < means[2] < 1
    assert means[2] > 0.85


@pytest.mark.wide
def test_low_rank_factors_of_all_matrices_are_trained_and_the_rest_is_frozen():
    net = nb.nets.cnn(width=3, depth=1, num_outputs=2, b_std=0.1)
    params = net.init(jax.random.key(0), (4, 4, 1))
    f, factors = lora(net.apply, params, 2, key=jax.random.key(1))
    assert {path: leaf["a"].shape for path, leaf in factors["factors"].items()} == {
        "[0]['w']": (9, 2),
        "[3]['w']": (48, 2),
    }
    x = jnp.ones((3, 4, 4, 1)) * jnp.arange(1.0, 4)[:, None, None, None]
    run = {"optimizer": optax.sgd(0.01), "num_steps": 2, "measures": nb.tracking.measures.chosen("loss")}
    end = nb.track(f, factors, (x, jnp.ones((3, 2))), wrt="['factors']", **run).params
    jax.tree.map(np.testing.assert_array_equal, end["frozen"], params)
    assert float(jnp.abs(end["factors"]["[0]['w']"]["b"]).max()) > 0


@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: {"a": x}])
@pytest.mark.parametrize("factor", [1.0, 1 + 1j])
def test_signs_of_a_function_that_mixes_examples_are_refused(wrapped, factor):
    def f(w, x):
        x = jax.tree.leaves(x)[0]
        return factor * ((x - x.mean(0)) @ w)

    x = wrapped(jnp.eye(3))
    for kernel, inputs in ((sign_ntk, (x,)), (asymmetric_sign_ntk, (x, x))):
        with pytest.raises(InputError, match="Expected f.params, x. to treat each example alone"):
            kernel(f, jnp.ones((3, 1)))(*inputs)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    params, x = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "ids": jnp.arange(4).reshape(2, 2)}, jnp.eye(3)

    def f(params, x):
        return x @ params["w"] + params["b"]

    key = jax.random.key(0)
    for call, error, message in (
        (lambda: lora(3, params, 1, key=key), InputTypeError, "Expected f to be a function"),
        (lambda: lora(f, params, 1, key=key)[0](params, x), InputError, "Expected the parameters that lora returned"),
        (
            lambda: lora(f, {"w": "abc"}, 1, key=key, wrt="['w']"),
            InputError,
            "Expected wrt= to select matrices of floating-point numbers",
        ),
        (lambda: sign_ntk(f, None), InputError, "Expected params to hold at least one array"),
        (lambda: lora(f, params, 0, key=key), InputError, "Expected rank to be at least 1; got 0"),
        (
            lambda: lora(f, params, 4, key=key),
            InputError,
            r"Expected a rank of at most 3, the rows of params\['w'\]; got 4",
        ),
        (lambda: lora(f, params, 1, key=key, wrt="['b']"), InputError, r"to select matrices .*; got params\['b'\]"),
        (
            lambda: lora(f, params, 1, key=key, wrt="['ids']"),
            InputError,
            r"got params\['ids'\], of shape \(2, 2\) and type int",
        ),
        (lambda: lora(f, params["b"], 1, key=key), InputError, "Expected params to hold a matrix"),
        (lambda: sign_ntk(3, params), InputTypeError, "Expected f to be a function"),
        (lambda: sign_ntk(f, params), InputTypeError, r"Expected floating-point numbers in params\['ids'\]"),
        (
            lambda: sign_preconditioner({"w": jnp.arange(3)}),
            InputTypeError,
            r"floating-point numbers in gradient\['w'\]",
        ),
        (lambda: sign_preconditioner(jnp.array([jnp.nan])), InputError, "Expected finite numbers in gradient"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert_near(
        sign_ntk(f, params, wrt=["['w']", "['b']"])(x), np.eye(3) + 1, 0
    )  # whole numbers beside are no obstacle
