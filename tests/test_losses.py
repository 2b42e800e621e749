"""Losses: definitions, gradients, and errors for targets that do not fit."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import LOSSES, POSITIONS, loss_case

import ntkbias as nb
from ntkbias.domains import Circle, PointCloud, Torus
from ntkbias.errors import InputError, InputTypeError
from ntkbias.losses import (
    NAMED,
    ImageSobolev,
    Loss,
    checked_targets,
    cross_entropy,
    logistic,
    mse,
    named,
    sobolev,
    weighted_mse,
)

RNG = np.random.default_rng(0)
each_loss = pytest.mark.parametrize("name", LOSSES)
each_shape = pytest.mark.parametrize("positions", POSITIONS.values(), ids=POSITIONS)


def test_the_table_has_all_losses():
    assert list(LOSSES) == list(NAMED)
    for name, loss in NAMED.items():
        assert (loss.name, named(name)) == (name, loss)
        assert inspect.getdoc(loss)


@each_loss
@each_shape
def test_a_loss_is_its_definition(name, positions, precision):
    """It is the mean over inputs of the sum over positions of its definition at one position."""
    loss, outputs, targets = loss_case(name, positions=positions)
    rtol = 50 * float(jnp.finfo(outputs.dtype).eps)  # sums of about 60 terms of order one
    places = np.ndindex(outputs.shape[:-1])
    host, given = np.asarray(outputs, float), np.asarray(targets)
    wanted = sum(LOSSES[name].of_one(host[place], given[place]) for place in places) / len(outputs)
    np.testing.assert_allclose(loss(outputs, targets), wanted, rtol=rtol)
    np.testing.assert_allclose(jax.jit(loss)(outputs, targets), wanted, rtol=rtol)


@each_loss
def test_positions_are_as_many_inputs(name, x64):
    """A sequence of one position equals a row. T positions of n inputs give T times the mean over n T rows."""
    loss, outputs, targets = loss_case(name, positions=(3,))
    rows, of_rows = outputs.reshape(18, -1), targets.reshape(18, *targets.shape[2:])
    assert float(loss(outputs, targets)) == pytest.approx(3 * float(loss(rows, of_rows)), rel=1e-13)
    assert float(loss(rows[:, None], of_rows[:, None])) == pytest.approx(float(loss(rows, of_rows)), rel=1e-13)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@each_loss
def test_losses_of_half_precision_are_computed_in_float32(name, dtype):
    """The loss is that of the rounded outputs, to float32 precision. Its gradient has the dtype of the outputs."""
    loss, outputs, targets = loss_case(name, positions=(3,))
    outputs = outputs.astype(dtype)
    found, wanted = loss(outputs, targets), loss(outputs.astype(jnp.float32), targets)
    assert found.dtype == jnp.float32
    assert float(found) == float(wanted)
    assert jax.grad(loss)(outputs, targets).dtype == dtype


@each_loss
def test_one_output_may_have_no_axis(name):
    loss, outputs, targets = loss_case(name)
    if loss.targets == "classes":
        return
    outputs, targets = outputs[:, 0], targets.reshape(len(targets), -1)[:, 0]
    value = float(loss(outputs, targets))
    assert float(loss(outputs[:, None], targets)) == value
    assert float(loss(outputs, targets[:, None])) == value


@each_loss
def test_large_outputs_have_finite_losses_and_gradients(name):
    loss, outputs, targets = loss_case(name)
    assert np.isfinite(float(loss(1e4 * outputs, targets)))
    assert np.isfinite(jax.grad(loss)(1e4 * outputs, targets)).all()


@each_loss
@each_shape
def test_the_hessian_is_the_square_of_its_root(name, positions, x64):
    """The Hessian of each input has one block per position. Without a root it is zero."""
    loss, outputs, targets = loss_case(name, 3, positions=positions)
    o = outputs[0].size
    for i in range(len(outputs)):
        u, y = outputs[i : i + 1], targets[i : i + 1]
        hessian = jax.hessian(lambda v, y=y, shape=u.shape: loss(v.reshape(shape), y))(u.ravel())
        if loss.root is None:
            expected = np.zeros((o, o))
        else:
            directions = jnp.eye(o).reshape(o, *u.shape)
            transposed = jnp.stack([loss.root_times(u, v).ravel() for v in directions], 1)  # S^T
            expected = transposed.T @ transposed
        np.testing.assert_allclose(hessian, expected, atol=1e-14)


@each_loss
def test_classes_become_the_targets_of_each_loss(name):
    """Outputs that have learned the classes perfectly have a smaller loss than any other outputs tried."""
    loss = NAMED[name]
    labels = np.array([0, 1, 1, 0, 1])
    targets, o = loss.of_classes(labels, 2), loss.num_outputs(2)
    right = np.where(labels, 3.0, -3.0)[:, None] if o == 1 else 3.0 * np.eye(2)[labels]
    if loss.targets == "values":
        right = right / 3
    assert checked_targets(loss, jax.ShapeDtypeStruct((5, o), jnp.float32), targets).shape[0] == 5
    others = [jnp.asarray(RNG.normal(size=(5, o))) for _ in range(5)]
    assert all(float(loss(jnp.asarray(right), targets)) < float(loss(other, targets)) for other in others)


def test_cross_entropy_of_probabilities():
    outputs, labels = jnp.asarray(RNG.normal(size=(5, 3))), jnp.array([0, 2, 1, 1, 2])
    np.testing.assert_allclose(
        cross_entropy(outputs, jax.nn.one_hot(labels, 3)), cross_entropy(outputs, labels), rtol=1e-6
    )


def test_a_custom_loss(unchecked):
    loss = Loss("fourth power", lambda u, y: jnp.mean(jnp.sum((u - y) ** 4, -1)), "values")
    assert named(loss) is loss
    assert checked_targets(loss, jax.ShapeDtypeStruct((3, 2), jnp.float32), np.ones((3, 2))).shape == (3, 2)
    with pytest.raises(InputError, match="Expected targets to be one of values, signs, classes; got 'labels'"):
        Loss("mine", jnp.subtract, "labels")
    with pytest.raises(InputTypeError, match="Expected a function \\(outputs, targets\\) -> scalar; got str"):
        Loss("mine", "mse", "values")


def test_two_classes_are_the_logistic_loss_of_their_difference(x64):
    outputs, labels = jnp.asarray(RNG.normal(size=(6, 2))), jnp.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        cross_entropy(outputs, labels), logistic(outputs[:, 1] - outputs[:, 0], 2 * labels - 1), rtol=1e-14
    )


def test_one_column_does_not_broadcast_to_all_pairs():
    outputs, targets = jnp.zeros((4, 1)), jnp.array([0.0, 1.0, 2.0, 3.0])
    assert float(mse(outputs, targets)) == float(mse(outputs[:, 0], targets[:, None])) == 14 / 8


@pytest.mark.parametrize("shapes", [((6, 1), (6,)), ((6,), (6, 1))])
def test_a_loss_of_ones_own_does_not_broadcast_to_all_pairs(shapes):
    outputs, targets = jnp.zeros(shapes[0]), jnp.arange(6.0).reshape(shapes[1])
    right = [
        lambda u, y: jnp.mean((u.ravel() - y.ravel()) ** 2),
        lambda u, y: jnp.mean((u - y.reshape(u.shape)) ** 2),
        lambda u, y: jnp.mean(u**2),  # looks at no target
        weighted_mse(jnp.full(6, 1 / 6)),
        mse,
    ]
    for loss in right:
        assert checked_targets(loss, outputs, targets).shape == shapes[1]
    for wrong in (lambda u, y: jnp.mean((u - y) ** 2), lambda u, y: jnp.sum(jnp.abs(u - y)) / 7):
        with pytest.raises(InputError, match="compares each output with its own target; got one in which outputs"):
            checked_targets(wrong, outputs, targets)
        assert checked_targets(wrong, outputs, targets.reshape(shapes[0])).shape == shapes[0]


def test_losses_are_traced_and_mapped():
    outputs, labels = jnp.ones((3, 4)), jnp.array([0, 1, 2])
    assert float(jax.jit(cross_entropy)(outputs, labels)) == pytest.approx(np.log(4))
    assert jax.jit(jax.grad(logistic))(jnp.ones(2), jnp.array([1.0, -1.0])).shape == (2,)


def test_names_and_functions():
    assert [named(name) for name in ("mse", "logistic", "cross_entropy")] == [mse, logistic, cross_entropy]
    assert named(jnp.subtract) is jnp.subtract
    shape = jax.ShapeDtypeStruct((3, 2), jnp.float32)
    assert checked_targets("cross_entropy", shape, np.array([0, 1, 1])).shape == (3,)
    assert checked_targets(lambda u, y: jnp.sum(u - y), shape, np.ones((3, 2))).shape == (3, 2)


def test_bad_input_is_named(unchecked):
    outputs = jnp.zeros((3, 2))
    with pytest.raises(InputError, match="loss to be one of mse, .*; got 'huber'"):
        named("huber")
    with pytest.raises(InputTypeError, match="name of a loss or a function .* got int"):
        named(3)
    with pytest.raises(InputError, match=r"one row of targets for each of 3 inputs; got shape \(2,\)"):
        checked_targets("cross_entropy", outputs, [0, 1])
    with pytest.raises(InputError, match="Expected finite numbers in targets; got 1 NaN"):
        checked_targets("mse", outputs, np.array([[0, 0], [0, np.nan], [0, 0]]))
    with pytest.raises(InputError, match=r"targets of the outputs' shape, \(3, 2\); got \(3,\)"):
        checked_targets("mse", outputs, [0.0, 1.0, 2.0])
    with pytest.raises(InputError, match=r"per input, \(n,\) or \(n, 1\), or per position, .*; got \(3, 2\)"):
        checked_targets("logistic", outputs, [1, -1, 1])
    with pytest.raises(InputError, match=r"targets of the outputs' shape, \(3, 4, 1\); got \(3,\)"):
        checked_targets("logistic", jnp.zeros((3, 4, 1)), [1, -1, 1])
    with pytest.raises(InputError, match=r"labels \(3, 4\), or probabilities \(3, 4, 2\); got int32 of shape \(3,\)"):
        checked_targets("cross_entropy", jnp.zeros((3, 4, 2)), np.array([0, 1, 1], np.int32))
    with pytest.raises(InputError, match="one output per class for the cross_entropy loss; got 1, the last axis"):
        cross_entropy.root_times(jnp.zeros((3, 2, 1)), jnp.zeros((3, 2, 1)))
    with pytest.raises(InputError, match="labels -1 and .1 for the logistic loss; got others"):
        checked_targets("logistic", outputs[:, :1], [1, 0, 1])
    with pytest.raises(InputError, match=r"one output per class, \(n, classes\) or .*; got \(3, 1\)"):
        checked_targets("cross_entropy", outputs[:, :1], [1, 0, 1])
    with pytest.raises(InputError, match="labels from 0 to 1, one per class; got 0 to 2"):
        checked_targets("cross_entropy", outputs, [0, 1, 2])
    with pytest.raises(InputError, match=r"labels \(3,\), or probabilities \(3, 2\); got float32 of shape \(3,\)"):
        checked_targets("cross_entropy", outputs, [0.0, 1.0, 1.0])
    with pytest.raises(InputError, match="probabilities that sum to one in each row"):
        checked_targets("cross_entropy", outputs, np.ones((3, 2)))
    with pytest.raises(InputError, match=r"a loss that is one number; got shape \(3, 2\)"):
        checked_targets(jnp.subtract, outputs, np.ones((3, 2)))


@pytest.mark.slow
def test_sobolev_weighs_each_degree(x64):
    """For random functions, compared with the double sum of its definition; and for each degree."""
    for domain in (Circle(), Torus(2)):
        x, weights = domain.quadrature(64)
        degree = 2
        loss = sobolev(domain, x, 1.5, max_degree=degree, weights=weights)
        basis = np.asarray(domain.harmonics(x, degree), float)
        numbers = domain.degrees(degree) ** (0.5 if isinstance(domain, Torus) else 1.0)
        expected = np.zeros((len(x), len(x)))
        for column, number in zip(basis.T, numbers, strict=True):
            a = np.asarray(weights) * column
            expected += (1 + number) ** 3 * np.outer(a, a)
        rtol = 1e4 * float(jnp.finfo(x.dtype).eps)  # sums of about ten terms that cancel, up to 27 times the smallest
        np.testing.assert_allclose(loss.matrix, expected, atol=rtol * np.abs(expected).max())
        errors = jnp.asarray(basis @ RNG.normal(size=(basis.shape[1], 2)))
        value = 0.5 * np.einsum("io,ij,jo", errors, expected, errors)
        np.testing.assert_allclose(loss(errors, jnp.zeros_like(errors)), value, rtol=rtol)
        one = loss(jnp.asarray(basis[:, -1]), jnp.zeros(len(x)))
        np.testing.assert_allclose(one, (1 + numbers[-1]) ** 3 / 2, rtol=rtol)


def test_sobolev_of_order_zero_is_the_mean_square_error_of_the_low_degrees(x64):
    x, _ = Circle().quadrature(9)  # on nine inputs, degrees up to 4 span all functions
    outputs = jnp.asarray(RNG.normal(size=(9, 2)))
    loss = sobolev(Circle(), x, 0, max_degree=4)
    np.testing.assert_allclose(loss(outputs, 0 * outputs), mse(outputs, 0 * outputs), rtol=1e-12)
    np.testing.assert_allclose(loss.matrix, np.eye(9) / 9, atol=1e-14)


def test_weighted_mean_square_error(x64):
    weights = jnp.array([0.1, 0.0, 0.2, 0.7])
    outputs, targets = jnp.asarray(RNG.normal(size=(2, 4, 3)))
    loss = weighted_mse(weights)
    expected = 0.5 * np.sum(np.asarray(weights)[:, None] * (outputs - targets) ** 2)
    np.testing.assert_allclose(loss(outputs, targets), expected, rtol=1e-14)
    np.testing.assert_allclose(loss.matrix, np.diag(weights))
    np.testing.assert_allclose(weighted_mse(jnp.full(4, 0.25))(outputs, targets), mse(outputs, targets), rtol=1e-14)
    np.testing.assert_allclose(jax.grad(loss)(outputs, targets), loss.matrix @ (outputs - targets), rtol=1e-13)


def test_a_quadratic_loss_is_a_function_that_training_can_keep(x64):
    loss = weighted_mse(jnp.full(4, 0.25))
    assert hash(loss) == hash(loss)
    assert loss != weighted_mse(jnp.full(4, 0.25))
    assert float(jax.jit(lambda f, u: f(u, 0 * u), static_argnums=0)(loss, jnp.ones(4))) == 0.5
    assert float(jax.jit(lambda f, u: f(u, 0 * u))(loss, jnp.ones(4))) == 0.5  # and as an argument of arrays


@pytest.mark.slow
def test_image_sobolev(x64):
    """Order 0 is the mean squared error, a plane wave has the weight (1 + |k|^2)^s, and the matrix gives the loss."""
    outputs, targets = jnp.asarray(RNG.normal(size=(2, 3, 4, 6, 2)))
    np.testing.assert_allclose(ImageSobolev(0.0)(outputs, targets), mse(outputs, targets), rtol=1e-13)
    rows, columns = np.mgrid[:4, :6]
    wave = jnp.asarray(np.cos(2 * np.pi * (rows / 4 + 2 * columns / 6)))[None]
    np.testing.assert_allclose(ImageSobolev(-1.0)(wave, 0 * wave), 12 / 2 / (1 + 1 + 4), rtol=1e-13)
    error = np.asarray(outputs - targets)[0, :, :, 0]
    matrix = ImageSobolev(1.5).matrix(4, 6)
    by_matrix = 0.5 * error.ravel() @ matrix @ error.ravel()
    np.testing.assert_allclose(ImageSobolev(1.5)(jnp.asarray(error)[None], jnp.zeros((1, 4, 6))), by_matrix, rtol=1e-12)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)


def test_bad_input_to_quadratic_losses_is_named(unchecked):
    x, weights = Circle().quadrature(16)
    with pytest.raises(InputError, match="outputs of all 16 inputs .* got 5. Train on full batches"):
        weighted_mse(weights)(jnp.zeros(5), jnp.zeros(5))
    with pytest.raises(InputError, match="positive weights; got some that are zero or negative"):
        weighted_mse(jnp.array([1.5, -0.5]))
    with pytest.raises(InputError, match="weights that sum to one; got 0.5"):
        weighted_mse(jnp.array([0.5, 0.0]))
    with pytest.raises(InputTypeError, match=r"a domain with harmonics, e.g. Circle\(\); got PointCloud"):
        sobolev(PointCloud(), x, 1, max_degree=2)
    with pytest.raises(InputError, match="at most as many harmonics as the 16 inputs; got 19"):
        sobolev(Circle(), x, 1, max_degree=9)
    with pytest.raises(InputTypeError, match="order to be a finite number; got 'one'"):
        sobolev(Circle(), x, "one", max_degree=2)
    with pytest.raises(InputError, match=r"an order whose weights fit float32; got 4\^100 at the highest frequency"):
        sobolev(Circle(), x, 50, max_degree=3)
    with pytest.raises(InputTypeError, match="order to be a finite number; got nan"):
        ImageSobolev(float("nan"))
    with pytest.raises(InputError, match=r"an order whose weights fit float32; got 33\^50"):
        ImageSobolev(50)(jnp.ones((1, 8, 8)), jnp.ones((1, 8, 8)))
    with pytest.raises(InputError, match="outputs that are images"):
        ImageSobolev(1.0)(jnp.zeros((3, 2)), jnp.zeros((3, 2)))


def test_a_loss_with_arrays_trains_without_a_warning():
    circle = nb.domains.Circle()
    x, _ = circle.quadrature(16)
    net = nb.nets.mlp(width=4, depth=1)
    params = net.init(jax.random.key(0), (2,))
    loss = nb.losses.sobolev(circle, x, 1, max_degree=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = nb.training.train(
            net.apply, params, (x, jnp.ones(16)), optimizer=optax.sgd(0.1), num_steps=2, loss=loss
        )
        assert list(train)
