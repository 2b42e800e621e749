"""Effective ranks of matrices and embeddings."""

import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.complexity import effective_rank, embedding_effective_rank, end_to_end_matrix, stable_rank
from ntkbias.errors import InputError


def matrix(n=6, d=6, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)))


def test_laws(precision):
    eps = float(jnp.finfo(jnp.zeros(()).dtype).eps)
    W = np.asarray(matrix())
    rotation = np.linalg.qr(np.asarray(matrix(6, 6, 1)))[0]
    for rank in (effective_rank, stable_rank, embedding_effective_rank):
        assert 1 <= float(rank(W)) <= 6
        np.testing.assert_allclose(rank(jnp.eye(6)), 6, rtol=20 * eps)
        np.testing.assert_allclose(rank(np.outer(W[:, 0], W[0])), 1, rtol=1e3 * eps)
        np.testing.assert_allclose([rank(-7 * W), rank(rotation @ W), rank(W.T)], rank(W), rtol=100 * eps)
        for scale in (1e-25, 1e25):  # float32 cannot hold the squares
            np.testing.assert_allclose(rank(scale * W), rank(W), rtol=100 * eps)


def test_is_the_exponential_of_the_entropy(x64):
    values = np.linalg.svd(np.asarray(matrix()), compute_uv=False)
    shares = values / values.sum()
    np.testing.assert_allclose(effective_rank(matrix()), np.exp(-np.sum(shares * np.log(shares))), rtol=1e-12)
    np.testing.assert_allclose(stable_rank(matrix()), np.sum(values**2) / values[0] ** 2, rtol=1e-12)


def test_the_embedding_s_is_that_of_its_gram_matrix(x64):
    Z = np.asarray(matrix())
    np.testing.assert_allclose(embedding_effective_rank(Z), effective_rank(Z @ Z.T), rtol=1e-12)
    np.testing.assert_allclose(embedding_effective_rank(Z), nb.eigen.eigh(Z @ Z.T).effective_rank(), rtol=1e-10)
    np.testing.assert_allclose(
        embedding_effective_rank(Z + 100.0, centered=True), embedding_effective_rank(Z, centered=True), rtol=1e-8
    )
    np.testing.assert_allclose(
        embedding_effective_rank(Z, centered=True), effective_rank((Z - Z.mean(0)) @ (Z - Z.mean(0)).T), rtol=1e-10
    )
    np.testing.assert_allclose(embedding_effective_rank(Z.reshape(6, 6, 1)), embedding_effective_rank(Z), rtol=1e-12)


def test_end_to_end_is_the_product(x64):
    params = [matrix(4, 6, 1), matrix(6, 3, 2), jnp.ones(3)]

    def linear(params, x):
        return x.reshape(len(x), -1) @ params[0] @ params[1] + params[2]

    np.testing.assert_allclose(end_to_end_matrix(linear, params, (2, 2)), params[0] @ params[1], rtol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    cases = [
        (lambda: effective_rank(jnp.ones(3)), "Expected the matrix to be a matrix (n, d); got shape (3,)"),
        (lambda: effective_rank(jnp.zeros((2, 2))), "Expected the matrix to differ from zero"),
        (lambda: effective_rank(jnp.full((2, 2), jnp.nan)), "Expected finite numbers in the matrix"),
        (lambda: embedding_effective_rank(jnp.ones((3, 2)), centered=True), "Expected features to differ from zero"),
        (lambda: embedding_effective_rank(jnp.ones(3)), "Expected features to be a matrix"),
        (lambda: embedding_effective_rank(jnp.ones((0, 2))), "Expected features to be a matrix (n, d); got shape (0,"),
        (lambda: embedding_effective_rank(jnp.ones((0, 2)), centered=True), "to be a matrix (n, d); got shape (0,"),
        (
            lambda: end_to_end_matrix(lambda w, x: jnp.tanh(x @ w), jnp.ones((2, 2)), (2,)),
            "Expected a linear network, f(params, x) = x W; got outputs that differ from x W by",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
