"""Tasks: the targets are the truth, draws repeat by their key, and each construction has the law that it states."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias import tasks
from ntkbias.errors import InputError

KEY = jax.random.key(0)
TURN = 2 * math.pi
ARCS = [(0, TURN, 101), (0, 0.15 * TURN, 40), (0.7 * TURN, 0.9 * TURN, 1_000)]
CIRCLE = nb.domains.Circle()
LIMIT = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))

TASKS = {
    "disk": lambda key: tasks.disk(60, key=key),
    "spiral": lambda key: tasks.spiral(60, unevenness=3.0, key=key),
    "staircase": lambda key: tasks.staircase(60, 8, key=key),
    "slabs": lambda key: tasks.slabs(60, 4, key=key),
    "power_law_signal": lambda key: tasks.power_law_signal(60, key=key),
    "whitened": lambda key: tasks.whitened(60, 5, key=key),
    "uneven_circle": lambda key: tasks.uneven_circle([(0.0, TURN, 61), (0.0, 1.0, 9)], [1, 3]),
    "modular_addition": lambda key: tasks.modular_addition(7),
    "eigenfunction_labels": lambda key: tasks.eigenfunction_labels(nb.spectrum(LIMIT, CIRCLE.grid(60)), 2),
}


@pytest.mark.parametrize("name", TASKS)
def test_targets_are_the_truth(name):
    task, again = TASKS[name](KEY), TASKS[name](KEY)
    n = len(task.x)
    assert task.y.shape == (n,)
    assert task.x.dtype == task.y.dtype == jnp.result_type(float)
    sure = np.ones(n, bool)
    if name == "eigenfunction_labels":  # at its zeros the sign of the extension is rounding
        sure = np.abs(np.asarray(task.truth.spectrum.eigenfunctions[:, 2])) > 1e-3
        assert sure.mean() > 0.9
    np.testing.assert_allclose(task.truth(task.x)[sure], task.y[sure], atol=1e-5)
    assert task.truth(task.x[:3]).shape == (3,)
    np.testing.assert_array_equal(again.x, task.x)
    np.testing.assert_array_equal(again.y, task.y)
    if name not in ("uneven_circle", "modular_addition", "eigenfunction_labels"):  # which draw nothing
        other = TASKS[name](jax.random.key(1))
        assert not (np.array_equal(other.x, task.x) and np.array_equal(other.y, task.y))


def test_a_split_has_every_example_once():
    task = TASKS["disk"](KEY)
    for key in (None, KEY):
        train, test = task.split(40, key=key)
        assert (len(train.x), len(test.x), train.truth, test.truth) == (40, 20, task.truth, task.truth)
        both = np.concatenate([train.x, test.x])
        assert {row.tobytes() for row in both} == {row.tobytes() for row in np.asarray(task.x)}
        np.testing.assert_array_equal(task.truth(test.x), test.y)
    np.testing.assert_array_equal(task.split(40)[0].x, task.x[:40])


def test_half_of_the_square_is_in_the_disk():
    """The standard error of the share is 0.005."""
    task = tasks.disk(10_000, key=KEY)
    assert np.abs(task.x).max() <= 1
    assert np.mean(task.y > 0) == pytest.approx(0.5, abs=0.02)
    assert task.truth(jnp.array([[0.0, 0.0], [0.9, 0.0]])).tolist() == [1.0, -1.0]


class TestSpiral:
    def test_radii_have_their_density(self):
        """Uniform from 0.1 to 1; and the mean of exp(-k s) on [0, 0.9]. Four standard errors of 10,000 draws."""
        for k in (0.0, 4.0):
            radius = np.asarray(tasks.polar(tasks.spiral(10_000, unevenness=k, key=KEY).x)[:, 0])
            expected = 0.55 if k == 0 else 0.1 + 1 / k - 0.9 / math.expm1(0.9 * k)
            assert radius.mean() == pytest.approx(expected, abs=0.04 * float(radius.std()))
            assert radius.min() >= 0.1 - 1e-6
            assert radius.max() <= 1 + 1e-6

    def test_arms_wind_and_lie_opposite(self):
        task = tasks.spiral(500, turns=1.5, key=KEY)
        unrolled = np.asarray(task.truth.unrolled(task.x))
        np.testing.assert_allclose(unrolled[:, 0], task.y, atol=1e-5)
        np.testing.assert_array_equal(task.truth(-task.x), -task.y)
        assert abs(np.mean(task.y)) < 4 / 500**0.5

    def test_scatter_moves_points_off_their_arm(self):
        still, moved = (tasks.spiral(2_000, scatter=s, key=KEY) for s in (0.0, 0.02))
        np.testing.assert_array_equal(still.y, moved.y)
        assert np.std(moved.x - still.x) == pytest.approx(0.02, rel=0.1)
        share = np.mean(tasks.spiral(2_000, scatter=0.2, key=KEY).truth(moved.x) == moved.y)
        assert 0.9 < share <= 1

    def test_polar_coordinates(self):
        found = tasks.polar(jnp.array([[3.0, 4.0], [-1.0, 0.0]]))
        np.testing.assert_allclose(found, [[5, math.atan2(4, 3)], [1, math.pi]], rtol=1e-6)


def test_whitened_inputs_have_no_direction_but_the_targets():
    task = tasks.whitened(40, 6, key=KEY)
    np.testing.assert_allclose(task.x.T @ task.x / 40, np.eye(6), atol=1e-5)
    assert float(jnp.mean(task.y**2)) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(task.x.T @ task.y / 40, task.truth.direction, atol=1e-5)  # regression finds it


def test_the_staircase_has_one_monomial_per_degree():
    cube, task = nb.domains.Hypercube(8), tasks.staircase(40, 8, degree=3, key=KEY)
    corners, weights = cube.quadrature(256)
    values = np.asarray(task.truth(corners), float)
    assert set(np.unique(task.x)) == {-1.0, 1.0}
    assert values @ np.asarray(weights) == pytest.approx(0, abs=1e-6)
    assert values**2 @ np.asarray(weights) == pytest.approx(1, abs=1e-5)
    x = np.asarray(corners, float)
    np.testing.assert_allclose(values, (x[:, 0] * (1 + x[:, 1] * (1 + x[:, 2]))) / 3**0.5, atol=1e-6)


def test_slabs_are_told_apart_by_a_line_along_the_first_coordinate_alone():
    x, y = (np.asarray(each) for each in tasks.slabs(2_000, 3, key=KEY).data)
    assert np.abs(x).max() <= 1
    assert np.all(np.sign(x[:, 0]) == y)
    thresholds = np.linspace(-1, 1, 101)
    for column in (1, 2):
        right = np.mean(np.sign(x[:, column : column + 1] - thresholds) == y[:, None], 0)
        assert np.maximum(right, 1 - right).max() < 0.75
        slab = np.minimum((x[:, column] + 1) // 0.4, 4)  # five slabs of equal width, including gaps
        assert np.all((slab % 2 == 0) == (y > 0))


class TestPowerLawSignal:
    def test_amplitudes_fall_as_a_power(self):
        """The mean of log |c_k| over 200 signals is -p log k plus a constant, with a standard error of 0.06."""
        for exponent in (0.0, 1.0, 2.0):
            draw = functools.partial(tasks.power_law_signal, 33, exponent=exponent, max_frequency=8)
            signals = jax.vmap(lambda key, draw=draw: draw(key=key).y)(jax.random.split(KEY, 200))
            amplitudes = np.abs(np.fft.rfft(np.asarray(signals), axis=1))
            assert amplitudes[:, [0, *range(9, 17)]].max() < 1e-3  # no mean, nothing beyond the largest frequency
            logs = np.log(amplitudes[:, 1:9] / amplitudes[:, 1:2]).mean(0)
            np.testing.assert_allclose(logs, -exponent * np.log(np.arange(1, 9)), atol=0.25)

    def test_is_one_function_with_mean_square_one(self):
        task = tasks.power_law_signal(64, max_frequency=10, key=KEY)
        np.testing.assert_allclose(np.mean(np.asarray(task.y) ** 2), 1, rtol=1e-5)
        finer = np.arange(256)[:, None] / 256
        np.testing.assert_allclose(task.truth(finer)[::4], task.y, atol=1e-5)
        np.testing.assert_allclose(task.truth(finer + 3), task.truth(finer), atol=1e-4)  # periodic


def test_the_uneven_circle_of_yu_et_al():
    """1,140 points, of which six coincide; a degree's power among the targets is that of its sine."""
    task = tasks.uneven_circle(ARCS, range(1, 10))
    assert task.x.shape == (1_134, 2)
    angles = np.asarray(CIRCLE.angle(task.x), float)
    np.testing.assert_allclose(task.y, np.sin(angles[:, None] * np.arange(1, 10)).sum(1), atol=1e-4)
    gaps = np.diff(np.sort(angles))
    assert gaps.min() > 1e-5
    assert np.mean((angles > 0.7 * TURN) & (angles < 0.9 * TURN)) > 0.85


class TestModularAddition:
    def test_has_every_pair_once(self):
        task = tasks.modular_addition(7)
        a, b = (np.asarray(each) for each in task.truth.numbers(task.x))
        assert sorted(zip(a.tolist(), b.tolist(), strict=True)) == [(i, j) for i in range(7) for j in range(7)]
        np.testing.assert_array_equal(task.y, (a + b) % 7)

    def test_features_are_orthonormal_and_each_family_knows_its_number(self):
        """The sum's features span the functions of a + b: they fit the one-hot sum but for its constant."""
        task = tasks.modular_addition(7)
        families = {name: np.asarray(each, float) for name, each in task.truth.features(task.x).items()}
        columns = np.concatenate([np.ones((49, 1)), *families.values()], 1)
        np.testing.assert_allclose(columns.T @ columns / 49, np.eye(25), atol=1e-5)
        target = nb.datasets.one_hot(np.asarray(task.y))
        for name, waves in families.items():
            fitted = 1 / 7 + waves @ (waves.T @ target) / 49
            assert np.allclose(fitted, target, atol=1e-5) == (name == "sum")


class TestEigenfunctionLabels:
    def test_follow_a_wave_and_extend_it(self):
        x, _ = CIRCLE.quadrature(64)
        spectrum = nb.spectrum(LIMIT, x)
        task = tasks.eigenfunction_labels(spectrum, 1)  # of degree 1: half a turn has one sign
        assert np.mean(np.asarray(task.y) > 0) == pytest.approx(0.5, abs=0.05)
        assert np.sum(np.diff(np.asarray(task.y)) != 0) <= 2
        new = CIRCLE.sample(200, key=KEY)
        nearest = np.argmax(np.asarray(new @ x.T), 1)
        assert np.mean(np.asarray(task.truth(new)) == np.asarray(task.y)[nearest]) > 0.95


class TestRandomLabels:
    def test_as_many_as_asked_each_once(self):
        clean = np.arange(1_000) % 10
        for share in (0.0, 0.25, 1.0):
            y, kept, redrawn = tasks.with_random_labels(clean, share, key=KEY)
            assert int(redrawn.sum()) == round(1_000 * share)
            np.testing.assert_array_equal(kept, clean)
            np.testing.assert_array_equal(np.asarray(y)[~np.asarray(redrawn)], clean[~np.asarray(redrawn)])
            assert set(np.unique(y)) <= set(range(10))
            equal = np.mean(np.asarray(y) == clean)  # four standard errors of chance among the random ones
            assert equal == pytest.approx(1 - 0.9 * share, abs=0.04)

    def test_any_two_values_are_classes(self):
        y = tasks.with_random_labels(np.array([-1.0, 1.0] * 50), 1.0, key=KEY).y
        assert set(np.asarray(y).tolist()) == {-1.0, 1.0}


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    x, _ = CIRCLE.quadrature(16)
    spectrum = nb.spectrum(LIMIT, x)
    task = TASKS["disk"](KEY)
    cases = [
        (lambda: tasks.disk(0, key=KEY), "Expected num_points to be at least 1; got 0."),
        (lambda: task.truth(jnp.ones(2)), "Expected points (m, 2) of the plane; got shape (2,)."),
        (lambda: tasks.polar(jnp.ones((2, 3))), "Expected points (m, 2) of the plane; got shape (2, 3)."),
        (lambda: task.split(60), "Expected num_train below the number of examples, 60; got 60."),
        (lambda: task.split(0), "Expected num_train to be at least 1; got 0."),
        (lambda: tasks.spiral(5, scatter=-1.0, key=KEY), "Expected scatter to be zero or more; got -1.0."),
        (lambda: tasks.spiral(5, unevenness=np.nan, key=KEY), "Expected finite numbers in unevenness"),
        (lambda: tasks.staircase(5, 2, key=KEY), "Expected a degree of at most the number of coordinates, 2; got 3."),
        (lambda: tasks.whitened(3, 4, key=KEY), "Expected as many examples as coordinates, 4, or more; got 3."),
        (lambda: TASKS["whitened"](KEY).truth(jnp.ones((2, 3))), "Expected inputs (m, 5); got shape (2, 3)."),
        (lambda: tasks.slabs(10, 2, num_slabs=4, key=KEY), "Expected an odd number of slabs, 3 or more; got 4."),
        (lambda: tasks.slabs(10, 2, margin=1.5, key=KEY), "Expected a margin between 0 and 1; got 1.5."),
        (lambda: tasks.slabs(10, 0, key=KEY), "Expected num_coordinates to be at least 1; got 0."),
        (lambda: tasks.slabs(9, 2, key=KEY).truth(jnp.ones(3)), "Expected inputs (m, d) with at least 1 coordinates"),
        (lambda: tasks.power_law_signal(8, max_frequency=4, key=KEY), "max_frequency of at most 3 for 8 points; got 4"),
        (lambda: tasks.power_law_signal(2, key=KEY), "Expected max_frequency to be at least 1; got 0."),
        (lambda: tasks.power_law_signal(8, key=KEY).truth(jnp.ones(3)), "Expected positions (m, 1) on the line; got"),
        (lambda: tasks.uneven_circle([], [1]), "Expected at least one arc (start, end, number of points); got none."),
        (lambda: tasks.uneven_circle([(0, 7, 5)], [1]), "Expected an arc from start to a larger end, at most a turn"),
        (lambda: tasks.uneven_circle([(0, 1, 5)], [0]), "Expected degrees (l,) of one or more; got 0."),
        (lambda: tasks.uneven_circle([(0, 1, 5)], [1]).truth(jnp.ones((2, 2))), "Expected inputs at distance 1"),
        (lambda: tasks.modular_addition(6), "Expected an odd modulus of 3 or more; got 6."),
        (lambda: tasks.modular_addition(5).truth(jnp.ones((2, 5))), "Expected two numbers written one-hot, (m, 10)"),
        (lambda: tasks.eigenfunction_labels(nb.eigen.eigh(jnp.eye(3)), 0), "Expected a spectrum made from a kernel"),
        (lambda: tasks.eigenfunction_labels(spectrum, 16), "eigenfunctions above the noise floor; got 16."),
        (lambda: tasks.eigenfunction_labels(spectrum, 0.5), "eigenfunctions above the noise floor; got 0.5."),
        (lambda: tasks.with_random_labels(np.ones((3, 2)), 0.5, key=KEY), "Expected labels (n,); got shape (3, 2)."),
        (lambda: tasks.with_random_labels(np.ones(3), 1.5, key=KEY), "Expected a share of labels from 0 to 1; got 1.5"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            call()
