"""Alignments: the papers' formulas, their invariances, and estimates from products with honest errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias import alignments
from ntkbias.alignments import alignment
from ntkbias.errors import InputError
from ntkbias.kernels import as_operator, relative_distance

N, OUT = 15, 2
RNG = np.random.default_rng(0)
NET = nb.nets.mlp(12, 1, OUT)
PARAMS = NET.init(jax.random.key(1), (4,))
X = jax.random.normal(jax.random.key(2), (N, 4))


def gram(rows=N, rank=20, seed=0):
    features = np.random.default_rng(seed).normal(size=(rows, rank))
    return features @ features.T


def by_formula(K, L, centered, outputs=1):
    """The cosine of two matrices, of H K H and H L H if centered."""
    rows = len(K)
    H = np.kron(np.eye(rows // outputs) - outputs / rows, np.eye(outputs)) if centered else np.eye(rows)
    K, L = H @ K @ H, H @ L @ H
    return np.trace(K @ L) / (np.linalg.norm(K) * np.linalg.norm(L))


@pytest.mark.parametrize("centered", [True, False])
def test_matrices_and_targets(x64, centered):
    K, L, Y = gram(), gram(rank=3, seed=1), RNG.normal(size=(N, 3))
    found = alignment(K, L, centered=centered)
    np.testing.assert_allclose(found.value, by_formula(K, L, centered), rtol=1e-12)
    assert float(found.standard_error) == 0
    np.testing.assert_allclose(alignment(K, Y, centered=centered).value, by_formula(K, Y @ Y.T, centered), rtol=1e-12)
    y = np.where(Y[:, 0] > 0, 1, -1)  # integers are used as they are
    np.testing.assert_allclose(alignment(K, y, centered=centered).value, by_formula(K, np.outer(y, y), centered))
    np.testing.assert_allclose(float(alignment(K.tolist(), Y, centered=False)), by_formula(K, Y @ Y.T, False))


def test_labels_give_the_papers_formulas(x64):
    """Kernel-target alignment y^T K y / (n ||K||); CKA ||Z^T X||^2 / (||X^T X|| ||Z^T Z||) of centered features."""
    K, y = gram(), RNG.choice([-1.0, 1.0], N)
    np.testing.assert_allclose(alignment(K, y, centered=False).value, y @ K @ y / (N * np.linalg.norm(K)), rtol=1e-12)
    A, B = RNG.normal(size=(N, 6)) + 1, RNG.normal(size=(N, 4)) - 2
    a, b = A - A.mean(0), B - B.mean(0)
    expected = np.sum((b.T @ a) ** 2) / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    np.testing.assert_allclose(alignment(A @ A.T, B @ B.T).value, expected, rtol=1e-12)
    np.testing.assert_allclose(alignment(A @ A.T, B).value, expected, rtol=1e-12)


@pytest.mark.parametrize("num_probes", [None, 64])
def test_invariances(x64, num_probes):
    """Scaling, rotating features and permuting inputs change nothing; centering removes constants; K with K gives 1."""
    rng = np.random.default_rng(0)
    A, Y = rng.normal(size=(N, 6)), rng.normal(size=(N, 2))
    K, rotation, order = A @ A.T, np.linalg.qr(rng.normal(size=(6, 6)))[0], rng.permutation(N)
    exact = float(alignment(K, Y))

    def near(*arguments, **options):
        found = alignment(*arguments, num_probes=num_probes, **options)
        np.testing.assert_allclose(found.value, exact, rtol=1e-9, atol=1e-12 + 4 * float(found.standard_error))

    near(1e9 * K, Y)
    near(K, -1e-9 * Y)
    near((A @ rotation) @ (A @ rotation).T, Y)
    near(K, Y @ np.linalg.qr(rng.normal(size=(2, 2)))[0])
    near(K[np.ix_(order, order)], Y[order])
    near(K + 5, Y + 3)
    near(Y @ Y.T, K)
    np.testing.assert_allclose(alignment(K, 3 * K, num_probes=num_probes).value, 1, rtol=1e-9)
    assert 0 < exact < 1


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_every_way_to_give_a_kernel(x64, tmp_path, outputs):
    """All forms agree: kernel with inputs, operator, matrix, file; targets, and a second kernel in the same forms."""
    params = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)
    kernel = nb.empirical_ntk(NET.apply, params, outputs=outputs)
    other = nb.empirical_nngp(NET.apply, params, outputs=outputs)
    x, rows, o = X.astype(float), N * (OUT if outputs == "all" else 1), OUT if outputs == "all" else 1
    K, L = (np.asarray(each(x)).reshape(rows, rows) for each in (kernel, other))
    targets = RNG.normal(size=(N, OUT, 3) if outputs == "all" else (N, 3))
    columns = targets.reshape(rows, -1)
    store = nb.gram_on_disk(tmp_path / "K", kernel, x, rows=8)
    for centered in (True, False):
        with_targets = by_formula(K, columns @ columns.T, centered, o)
        with_other = by_formula(K, L, centered, o)
        for known in ((kernel, x), (kernel.operator(x),), (kernel(x),), (store,)):
            for num_probes in (None, rows):  # `rows` probes span the whole space
                options = {"centered": centered, "num_probes": num_probes}
                np.testing.assert_allclose(alignment(*known, targets, **options).value, with_targets, rtol=1e-9)
                np.testing.assert_allclose(alignment(*known, other(x), **options).value, with_other, rtol=1e-9)
        np.testing.assert_allclose(alignment(kernel, x, other, centered=centered).value, with_other, rtol=1e-9)
        np.testing.assert_allclose(alignment(kernel(x), other.operator(x), centered=centered).value, with_other)
        np.testing.assert_allclose(alignment(other(x), store, centered=centered).value, with_other, rtol=1e-9)


def operators(decay, rows=120):
    """Two positive definite matrices with eigenvalues index^-decay and slightly rotated eigenvectors."""
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.normal(size=(rows, rows)))[0]
    turned = np.linalg.qr(basis + 0.3 * rng.normal(size=(rows, rows)) / rows**0.5)[0]
    values = np.arange(1.0, rows + 1) ** -decay
    return (basis * values) @ basis.T, (turned * values) @ turned.T


@pytest.mark.parametrize("decay", [1.0, *(pytest.param(decay, marks=pytest.mark.slow) for decay in (0.0, 0.5, 2.0))])
def test_standard_errors_are_honest(x64, decay):
    """Over many keys, two standard errors cover the value as often as the docstring says, and not more often."""
    draws, share = 60 if decay == 1 else 200, 0.88 if decay == 2 else 0.93
    K, L = operators(decay)
    Y = np.random.default_rng(6).normal(size=(len(K), 2))
    if decay == 0:  # the span of a few products determines the identity
        K = np.diag(np.linspace(0.5, 1.5, len(K)))
    for second, products in ((L, L), (Y, Y @ Y.T)):
        exact = by_formula(K, products, True)
        found = [alignment(K, second, num_probes=16, key=jax.random.key(seed)) for seed in range(draws)]
        values, errors = (np.array([float(part) for part in parts]) for parts in zip(*map(_parts, found), strict=True))
        scores = (values - exact) / errors
        assert np.all((values >= 0) & (values <= 1))
        assert np.mean(np.abs(scores) < 2) > share - 3 * (share * (1 - share) / draws) ** 0.5
        assert abs(np.mean(values) - exact) < 4 * np.std(values) / draws**0.5
        assert 0.7 < np.sqrt(np.mean(errors**2)) / np.std(values) < 1.4
        assert np.std(values) < 0.05 * exact


def _parts(found):
    return found.value, found.standard_error


def test_a_kernel_of_low_rank_is_known_exactly(x64):
    K, L = gram(60, 3), gram(60, 4, seed=1)
    found = alignment(K, L, num_probes=8)
    np.testing.assert_allclose(found.value, by_formula(K, L, True), rtol=1e-10)
    assert float(found.standard_error) < 1e-10


def test_probes_are_drawn_by_the_key_and_serve_many_rows(monkeypatch):
    K, L = operators(1.0)
    operator = as_operator(K) * 1.0
    same = [alignment(operator, L, num_probes=4, key=key) for key in (None, jax.random.key(0), jax.random.key(3))]
    assert same[0].value == same[1].value != same[2].value
    assert float(alignment(operator, L).standard_error) == 0
    monkeypatch.setattr(alignments, "EXACT_ROWS", 100)
    found = alignment(operator, L)
    assert found.standard_error > 0
    assert abs(float(found) - by_formula(K, L, True)) < 4 * found.standard_error + found.numerical_error
    assert float(alignment(K, L).standard_error) == 0  # matrices in memory need no probes
    assert str(found).endswith("(steps, rounding)")


@pytest.mark.parametrize("num_probes", [None, 8])
def test_the_numerical_error_is_large_if_centering_leaves_little(num_probes):
    """A nearly constant kernel in float32: the error is within the stated bound, and far above eps."""
    K = 1 + 1e-4 * gram(30, 5)
    Y = np.random.default_rng(1).normal(size=(30, 2))
    found = alignment(K.astype(np.float32), Y, num_probes=num_probes)
    assert 1e-5 < found.numerical_error < 1e-2
    assert abs(float(found) - by_formula(K, Y @ Y.T, True)) < found.numerical_error + 4 * found.standard_error


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do():
    K, y = gram(4), np.array([1.0, -1, 1, 1])
    everything = np.eye(6).reshape(3, 2, 3, 2)
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
    skew = K + np.triu(K, 1)
    cases = [
        (
            lambda: alignment(K, np.ones(3)),
            "Expected targets of shape (4,), one value per input, or with one more axis",
        ),
        (lambda: alignment(everything, np.ones((6, 2))), "Expected targets of shape (3, 2), one value per input and"),
        (lambda: alignment(K, np.ones(4)), "Expected targets that vary over the inputs; got only constants"),
        (lambda: alignment(K, 0 * y, centered=False), "Expected targets that are not zero everywhere; got only zeros"),
        (lambda: alignment(K, y * np.nan), "Expected finite numbers in targets"),
        (lambda: alignment(K, "labels"), "Expected targets to be an array of numbers"),
        (lambda: alignment(np.ones((4, 4)), y), "Expected a kernel that varies over the inputs by more than"),
        (lambda: alignment(np.ones((4, 4)), y, num_probes=2), "Expected a kernel that varies over the inputs"),
        (lambda: alignment(0 * K, y), "Expected a kernel that is not zero; got one of zeros"),
        (lambda: alignment(0 * K, y, num_probes=2), "Expected a kernel that is not zero; got one of zeros"),
        (lambda: alignment(skew, y), "Expected a symmetric matrix; got entries that differ from their mirror image"),
        (lambda: alignment(K, skew), "Expected a symmetric matrix; got entries that differ from their mirror image"),
        (lambda: alignment(skew, y, num_probes=3), "Expected a symmetric operator; got products"),
        (lambda: alignment(K, as_operator(np.eye(3))), "Expected two kernels on the same inputs and outputs; got 4 in"),
        (lambda: alignment(K, kernel), "Expected alignment(kernel, x, other) of two kernels; got a kernel together"),
        (lambda: alignment(kernel, y), "Expected alignment(kernel, x, other); got no other. The inputs x come second"),
        (lambda: alignment(K, np.eye(4), y), "which knows its inputs; got too many"),
        (
            lambda: alignment(K, y, num_probes=1),
            "Expected at least 2 probes, whose differences give the standard error",
        ),
        (lambda: alignment(K, y, key=3), "Expected a key of jax.random, as jax.random.key(3); got int"),
        (lambda: jax.jit(alignment)(jnp.asarray(K), y), "Expected arrays with values in alignment; got traced ones"),
        (lambda: alignment(len, y), "Expected a kernel on inputs: kernel.operator(x)"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)


def test_the_relative_distance_is_that_of_the_matrices(x64):
    K, L = gram(), gram(rank=3, seed=1)
    assert relative_distance(K, L) == pytest.approx(np.sqrt(np.sum((K - L) ** 2) / np.sum(L**2)), rel=1e-12)
    assert relative_distance(2.5 * L, L) == pytest.approx(1.5)
    assert relative_distance(10 * K, 10 * L) == pytest.approx(relative_distance(K, L))
    kernel, limit = nb.empirical_ntk(NET.apply, PARAMS), nb.infinite_ntk(NET)
    assert relative_distance(kernel, X, limit) == pytest.approx(relative_distance(kernel(X), limit(X)))
    assert relative_distance(kernel, X, kernel) == 0
    for wrong, message in (
        (lambda: relative_distance(K, L[:3, :3]), "Expected two kernels on the same inputs"),
        (lambda: relative_distance(K, 0 * L), "Expected another kernel that is not zero"),
        (lambda: relative_distance(K, kernel), "Give other.operator"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()
