"""A matrix assembled from small tiles in one program equals the matrix computed at once, and so do its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near

import ntkbias as nb
from ntkbias.kernels import infinite
from ntkbias.kernels.tiles import in_one_program


def points(n, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, 3)))


def tile(x1, x2, same):
    """A kernel that is 1 larger for an example with itself. Equal values do not reveal that."""
    distances = jnp.sum((x1[:, None] - x2[None]) ** 2, -1)
    return jnp.exp(-distances) + (0.0 if same is None else same)


def whole(x1, x2):
    gram = jnp.exp(-jnp.sum((x1[:, None] - (x1 if x2 is None else x2)[None]) ** 2, -1))
    return gram + jnp.eye(len(x1)) if x2 is None else gram


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("num_others", [None, 1, 5])
def test_is_the_matrix_at_once(rows, num_others, x64):
    x1 = points(7)
    x2 = None if num_others is None else points(num_others, 1)
    found, slope = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(in_one_program(tile, x, x2, rows)))))(x1)
    expected, expected_slope = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(whole(x, x2))))(x1)
    assert_near(in_one_program(tile, x1, x2, rows), whole(x1, x2), 1e-14)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert_near(slope, expected_slope, 1e-13)


def test_overlapping_tiles_mark_only_the_diagonal(x64):
    """The last tile overlaps another: only entries of an example with itself may be marked."""
    x = jnp.ones((5, 3))
    assert_near(in_one_program(tile, x, None, 2), 1 + np.eye(5), 0)


@pytest.mark.parametrize("name", ["mlp", "flatten", "pool"])
@pytest.mark.slow
def test_infinite_kernels_by_tiles(name, x64, monkeypatch):
    net = nb.nets.mlp(8, 2, b_std=0.3) if name == "mlp" else nb.nets.cnn(8, 2, readout=name, kernel_size=(3,))
    x, y = (jnp.asarray(np.random.default_rng(seed).normal(size=(5 - seed, 4, 1))) for seed in (0, 1))
    at_once = nb.infinite_ntk(net)
    grams = at_once(x), at_once(x, y)
    slope = jax.grad(lambda x: jnp.sum(at_once(x)[0]))(x)
    monkeypatch.setattr(infinite, "CACHED", {"mlp": 4, "flatten": 16, "pool": 64}[name])
    by_tiles = nb.infinite_ntk(net, memory_budget=2**30 + 1)  # another budget: another compiled program
    rows = by_tiles._positions_and_tile_rows(x.reshape(5, -1) if name == "mlp" else x)[1]
    assert rows == 2
    assert_near(by_tiles(x), grams[0], 1e-13)
    assert_near(by_tiles(x, y), grams[1], 1e-13)
    assert_near(jax.grad(lambda x: jnp.sum(by_tiles(x)[0]))(x), slope, 1e-12)


def test_second_derivatives_by_tiles_are_finite_where_inputs_coincide(x64, monkeypatch):
    kernel, x, direction = nb.infinite_ntk(nb.nets.mlp(8, 1)), points(4), points(4, seed=1)

    def along():
        def total(x):
            return jnp.sum(jnp.sin(kernel(x, points(4))))

        return jax.jit(lambda x: jax.jvp(jax.grad(total), (x,), (direction,))[1])(x)

    expected = along()
    monkeypatch.setattr(infinite, "in_one_program", lambda tile, x1, x2, rows: in_one_program(tile, x1, x2, 2))
    jax.clear_caches()
    assert_near(along(), expected, 1e-12)
