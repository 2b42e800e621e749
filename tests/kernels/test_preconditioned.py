"""Kernels of preconditioned and loss-weighted training, compared with matrices and with actual training steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import LOSSES, POSITIONS, assert_near, function_case, loss_case
from jax.flatten_util import ravel_pytree

import ntkbias as nb
from ntkbias import losses
from ntkbias.errors import InputError
from ntkbias.kernels.empirical import adam_preconditioner, loss_weighted_ntk, preconditioned_ntk

NET = nb.nets.mlp(width=5, depth=1, num_outputs=3, activation="erf", b_std=0.3)
X = jax.random.normal(jax.random.key(1), (6, 2))


def problem():
    """Parameters, and the Jacobian `(n o, p)`, in JAX's default type."""
    params = NET.init(jax.random.key(0), (2,))
    flat, unravel = ravel_pytree(params)
    x = X.astype(flat.dtype)
    return params, x, jax.jit(jax.jacobian(lambda v: NET.apply(unravel(v), x).reshape(-1)))(flat)


@pytest.mark.slow
def test_preconditioned_is_j_p_j(precision):
    params, x, J = problem()
    P = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.1 * (leaf > 0), params)
    found = preconditioned_ntk(NET.apply, params, P, outputs="all")(x).reshape(18, 18)
    wanted = J @ jnp.diag(ravel_pytree(P)[0]) @ J.T
    np.testing.assert_allclose(found, wanted, atol=50 * float(jnp.finfo(precision).eps) * float(wanted.max()))


def test_with_complex_numbers_inside(x64):
    """J P J^T and R J J^T R^T of a real function that computes with complex numbers, from its Jacobian."""
    f, params, x, _ = function_case("log psi", n=3)
    flat, unravel = ravel_pytree(params)
    J = jax.jit(jax.jacobian(lambda v: f(unravel(v), x)))(flat)
    P = jnp.linspace(0.5, 2, len(flat))
    found = preconditioned_ntk(f, params, unravel(P), outputs="all")(x)
    assert_near(found, jnp.einsum("nap,p,mbp->namb", J, P, J), 1e-12)
    roots = jax.vmap(lambda u: jax.hessian(jax.nn.logsumexp)(u))(f(params, x))  # of the cross-entropy
    weighted = np.linalg.eigvalsh(loss_weighted_ntk(f, params, losses.cross_entropy)(x).reshape(6, 6))
    gram = jnp.einsum("nap,mbp->namb", J, J).reshape(6, 6)
    whole = jax.scipy.linalg.block_diag(*roots)
    assert_near(weighted, np.sort(np.linalg.eigvals(whole @ gram).real), 1e-10)


@pytest.mark.slow
def test_a_step_of_adam_without_momentum_moves_outputs_by_its_kernel(x64):
    """df = -rate K_P r / n to first order in the rate, for the v that the step uses."""
    params, x, _ = problem()
    y, rate = jnp.zeros((6, 3)), 1e-6
    optimizer = optax.adam(rate, b1=0.0)
    state = optimizer.init(params)
    loss = jax.grad(lambda p: losses.mse(NET.apply(p, x), y))
    for _ in range(3):
        updates, state = optimizer.update(loss(params), state)
        before, params = params, optax.apply_updates(params, updates)
    kernel = preconditioned_ntk(NET.apply, before, adam_preconditioner(state), outputs="all")(x)
    outputs = NET.apply(before, x)
    moved = NET.apply(params, x) - outputs
    np.testing.assert_allclose(moved, -rate * jnp.einsum("iajb,jb->ia", kernel, outputs - y) / 6, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("positions", POSITIONS.values(), ids=POSITIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_weighted_has_the_eigenvalues_of_the_gauss_newton_matrix(x64, name, positions):
    """For one position and for several: the same matrix follows from the loss itself, and from its sharpness."""
    loss, outputs, targets = loss_case(name, positions=positions)
    x, weights = np.random.default_rng(1).normal(size=(2, 6, *positions, 2))

    def f(params, x):
        return jnp.tanh(x @ params["w"]) @ params["o"]

    params = {"w": jnp.asarray(weights.ravel()[:10].reshape(2, 5)), "o": jnp.cos(jnp.arange(5.0 * outputs.shape[-1]))}
    params["o"] = params["o"].reshape(5, -1)
    if loss.root is None:
        with pytest.raises(InputError, match=f"got '{name}', whose Hessian is zero almost everywhere, or not known"):
            loss_weighted_ntk(f, params, name)
        return
    flat, unravel = ravel_pytree(params)
    outputs = f(params, x)
    J = jax.jit(jax.jacobian(lambda v: f(unravel(v), x).reshape(-1)))(flat)
    H = jax.hessian(lambda u: loss(u.reshape(outputs.shape), targets))(outputs.reshape(-1))
    wanted = np.linalg.eigvalsh(J.T @ H @ J)[::-1]
    found = nb.spectrum(loss_weighted_ntk(f, params, name), x).eigenvalues
    count = min(len(wanted), len(found))
    np.testing.assert_allclose(found[:count], wanted[:count], atol=1e-10 * wanted[0])
    sharpness = nb.complexity.sharpness(
        f, params, x, targets, loss=name, matrix="gauss-newton", batch_size=3, tolerance=1e-6
    )
    np.testing.assert_allclose(sharpness, wanted[0], rtol=1e-9)


def test_one_program_serves_all_parameters():
    calls = []

    def f(params, x):
        calls.append(1)
        return jnp.tanh(x @ params)

    kernels = [preconditioned_ntk(f, jnp.eye(2) * size, jnp.ones((2, 2)) * size) for size in (1.0, 2.0, 3.0)]
    kernels[0](X)
    before = len(calls)
    for kernel in kernels:
        kernel(X)
    assert len(calls) == before


def test_bad_preconditioners_are_named(unchecked):
    params = NET.init(jax.random.key(0), (2,))
    with pytest.raises(InputError, match="Expected a preconditioner like params, PyTreeDef"):
        preconditioned_ntk(NET.apply, params, jnp.ones(3))
    with pytest.raises(InputError, match="Expected numbers of zero or more in preconditioner"):
        preconditioned_ntk(NET.apply, params, jax.tree.map(lambda leaf: leaf - 10, params))
    with pytest.raises(InputError, match="of the parameter's shape, \\(2, 5\\); got \\(3,\\)"):
        preconditioned_ntk(lambda w, x: x @ w, jnp.ones((2, 5)), jnp.ones(3))
    with pytest.raises(InputError, match="that contains one of optax.scale_by_adam; got 0"):
        adam_preconditioner(optax.sgd(0.1).init(params))
    with pytest.raises(InputError, match="after one step or more"):
        adam_preconditioner(optax.adam(0.1).init(params))
    with pytest.raises(InputError, match="loss to be one of mse, .*; got 'huber'"):
        loss_weighted_ntk(NET.apply, params, "huber")
    with pytest.raises(InputError, match="or a losses.Loss with the root of its Hessian; got function"):
        loss_weighted_ntk(NET.apply, params, lambda u, y: jnp.sum(u - y))
    with pytest.raises(InputError, match="Expected one output for the logistic loss"):
        loss_weighted_ntk(NET.apply, params, "logistic")(X)
