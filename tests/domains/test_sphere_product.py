"""Products of spheres: the indices of Xiao (2021), and functions of several leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.domains import SphereProduct
from ntkbias.errors import InputError, InputTypeError


def target(*active):
    """The degrees of the 16 leaves, given pairs (leaf, degree)."""
    degrees = [0] * 16
    for leaf, degree in active:
        degrees[leaf] = degree
    return tuple(degrees)


# One leaf linear, quadratic, cubic; two leaves in one patch; two in different patches; three in one patch.
TARGETS = [
    target((0, 1)),
    target((3, 2)),
    target((5, 3)),
    target((0, 1), (1, 1)),
    target((0, 1), (4, 1)),
    target((8, 1), (9, 1), (11, 1)),
]
DEEP = SphereProduct.regular((4, 4), 4)  # D-CNN
SHALLOW = SphereProduct.regular((16,), 4)  # S-CNN
DENSE = SphereProduct.regular((), 64)  # MLP: one leaf, in which the degrees add up


def test_learning_indices_are_those_of_the_paper():
    np.testing.assert_allclose([DEEP.learning_index(r) for r in TARGETS], [1, 4 / 3, 5 / 3, 5 / 3, 2, 7 / 3])
    np.testing.assert_allclose([SHALLOW.learning_index(r) for r in TARGETS], [1, 4 / 3, 5 / 3, 2, 2, 3])
    np.testing.assert_allclose([DENSE.learning_index((sum(r),)) for r in TARGETS], [1, 2, 3, 2, 2, 3])


def test_degrees_of_active_leaves_alone_mean_the_same():
    sparse = [{leaf: degree for leaf, degree in enumerate(row) if degree} for row in TARGETS]
    assert [DEEP.multi_index(row) for row in sparse] == TARGETS == [DEEP.multi_index(row) for row in TARGETS]
    assert [DEEP.learning_index(row) for row in sparse] == [DEEP.learning_index(row) for row in TARGETS]
    x = DEEP.sample(3, key=jax.random.key(0))
    both = [DEEP.harmonic(form[3], x, key=jax.random.key(1)) for form in (sparse, TARGETS)]
    np.testing.assert_array_equal(*both)
    pair = SphereProduct.regular((2,), 3)
    kernel = nb.infinite_ntk(nb.nets.patch_network(width=8, branching=(2,), activation="relu"))
    found = [nb.exact.spectrum_of_degrees(kernel, pair, rows) for rows in ([{1: 2}, {}], [[0, 2], [0, 0]])]
    np.testing.assert_array_equal(found[0].eigenvalues, found[1].eigenvalues)
    np.testing.assert_array_equal(found[0].degrees, [[0, 2], [0, 0]])
    for wrong, message in (
        ({16: 1}, "Expected leaves from 0 to 15; got 16"),
        ({0: -1}, "Expected degrees of 16 whole"),
    ):
        with pytest.raises(InputError, match=message):
            DEEP.multi_index(wrong)


def test_indices_of_space_and_frequency():
    assert DEEP.total_dimension == SHALLOW.total_dimension == DENSE.total_dimension == 64
    np.testing.assert_allclose([DEEP.frequency_index(r) for r in TARGETS], np.array([1, 2, 3, 2, 2, 3]) / 3)
    np.testing.assert_allclose([DEEP.spatial_index(r) for r in TARGETS], np.array([2, 2, 2, 3, 4, 4]) / 3)
    np.testing.assert_allclose([SHALLOW.spatial_index(r) for r in TARGETS], np.array([2, 2, 2, 4, 4, 6]) / 3)
    assert DENSE.spatial_index((3,)) == 0
    constant = target()
    assert DEEP.spatial_index(constant) == DEEP.learning_index(constant) == 0
    read_out = SphereProduct((DEEP.tree,), 4)  # a node with one child above the root adds nothing
    assert [read_out.learning_index(r) for r in TARGETS] == [DEEP.learning_index(r) for r in TARGETS]


def test_an_uneven_tree():
    """d = 6 * 2: the root has 2 children, a node of 3 leaves and one of 2 nodes, of which one has 2 leaves."""
    domain = SphereProduct(((0, 1, 2), ((3, 4), 5)), 2)
    log = np.log([2, 3]) / np.log(12)
    assert domain.spatial_index((1, 1, 0, 0, 0, 0)) == pytest.approx(log[0] + 2 * log[1])
    assert domain.spatial_index((0, 0, 0, 1, 0, 0)) == pytest.approx(3 * log[0])
    assert domain.spatial_index((0, 0, 0, 0, 2, 1)) == pytest.approx(log[0] + 2 * log[0] + log[0])
    assert domain.spatial_index((1, 0, 0, 0, 0, 1)) == pytest.approx(2 * log[0] + log[1] + log[0])


def test_eigenvalues_of_the_deep_kernel_scale_with_the_learning_index():
    """K = g(mean over patches of g(mean over leaves of g(t_u))) with g(s) = exp(s - 1): a readout above the root.

    To lowest order in 1/d the eigenvalue of a product of degrees is the mixed derivative at t = 0 times
    prod E[t^r P_r(t)], a constant times d^-L. The test compares p with 2 p, by the product rule on the smallest trees
    that contain these degrees.
    """
    for kinds, expected in (((1, 0), 1.0), ((2, 0), 4 / 3), ((1, 1), 5 / 3)):  # one leaf, its square, two in a patch
        values = []
        for p in (512, 1_024):

            def kernel(s, t, p=p):
                patch = (jnp.exp(s - 1) + jnp.exp(t - 1) + (p - 2) * jnp.exp(-1.0)) / p
                return jnp.exp((jnp.exp(patch - 1) + (p - 1) * jnp.exp(jnp.exp(-1.0) - 1)) / p - 1)

            derivative = kernel
            for argument, order in enumerate(kinds):
                for _ in range(order):
                    derivative = jax.grad(derivative, argument)
            values.append(float(derivative(0.0, 0.0)) / float(p) ** sum(kinds))
        domain = SphereProduct.regular((4, 4), 4)
        assert np.log2(values[0] / values[1]) / 3 == pytest.approx(expected, abs=0.01)  # d = p^3
        assert domain.learning_index(target(*enumerate(kinds))) == pytest.approx(expected)


def test_levels_are_tuples_and_their_frequency_that_of_the_sum():
    domain = SphereProduct((0, 1), 4)
    assert domain.radius == 2.0
    assert domain.levels(2).tolist() == [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    assert [domain.multiplicity(tuple(r)) for r in domain.levels(2).tolist()] == [1, 4, 4, 9, 16, 9]
    np.testing.assert_allclose(domain.frequency(domain.levels(2)) ** 2, np.array([0, 3, 3, 8, 6, 8]) / 4, rtol=1e-6)


@pytest.mark.slow
def test_a_dense_kernel_is_ranked_across_leaves():
    """For exp(mean of t) the leaves' linear functions share an eigenspace, and each has half of its power."""
    domain = SphereProduct((0, 1), 2)
    x, weights = domain.quadrature(64)
    kernel = jnp.exp(jnp.einsum("nud,mud->nm", x, x) / 4)
    modes = nb.eigen.eigh(kernel, weights=weights, num_modes=5)
    ranking = nb.rank_by_frequency(nb.Spectrum(**{**vars(modes), "x": x}), domain)
    np.testing.assert_allclose(ranking.frequencies, [0] + [0.5**0.5] * 4, rtol=1e-6)
    np.testing.assert_allclose(ranking.energy[1:, 1:3], 0.5, atol=1e-4)


@pytest.mark.slow
def test_targets_have_unit_variance_on_many_leaves(x64):
    x = DEEP.sample(4_000, key=jax.random.key(0))
    DEEP.check(x)
    values = np.asarray(DEEP.harmonic(target((0, 2), (1, 1), (4, 1)), x, key=jax.random.key(1)))
    assert abs(values.mean()) < 4 * values.std() / 4_000**0.5
    assert abs((values**2).mean() - 1) < 4 * (values**2).std() / 4_000**0.5


def test_frames_matched_at_random(x64):
    x, _ = DEEP.quadrature(1_000)
    DEEP.check(x)
    assert len(x) == 1_000
    assert len(np.unique(np.asarray(x).reshape(1_000, -1).round(9), axis=0)) == 1_000
    x = np.asarray(x)
    np.testing.assert_allclose(
        np.einsum("nud,nue->ude", x, x) / 1_000, np.broadcast_to(np.eye(4), (16, 4, 4)), atol=1e-12
    )
    across = np.einsum("nd,ne->de", x[:, 0], x[:, 5]) / 1_000
    assert np.abs(across).max() < 5 / 1_000**0.5
    assert DEEP.max_degree(1_000) == 1  # 1 + 64 harmonics, and 144 + 1,920 of degree 2


def test_it_can_be_saved(tmp_path):
    nb.save(tmp_path / "domain", DEEP)
    assert nb.load(tmp_path / "domain") == DEEP


def test_bad_input_is_named(unchecked):
    with pytest.raises(InputError, match="tuple whose leaves are 0, 1, 2, ... in order, e.g. .*; got \\(1, 0\\)"):
        SphereProduct((1, 0), 3)
    for empty in ((), ((), 0)):
        with pytest.raises(InputError, match="Expected a nested tuple whose leaves"):
            SphereProduct(empty, 3)
    with pytest.raises(InputTypeError, match="Expected a tree of tuples and whole numbers; got list in it"):
        SphereProduct(([0, 1],), 3)
    with pytest.raises(InputError, match="Expected leaves of at least 2 dimensions; got 1"):
        SphereProduct((0, 1), 1)
    with pytest.raises(InputError, match="Expected a radius above zero; got -1"):
        SphereProduct((0, 1), 3, -1)
    with pytest.raises(InputError, match="branching to be at least 1; got 0"):
        SphereProduct.regular((2, 0), 3)
    domain = SphereProduct((0, 1), 3)
    with pytest.raises(InputError, match="Expected inputs \\(n, 2, 3\\), one sphere per leaf; got shape \\(5, 6\\)"):
        domain.check(jnp.ones((5, 6)))
    with pytest.raises(InputError, match="at distance 1.73205 from the origin.*Give SphereProduct\\(radius=...\\)"):
        domain.check(jnp.ones((5, 2, 3)) * 2)
    for wrong in ((1,), (1, -1), (1, 0.5), 1):
        with pytest.raises(InputError, match="Expected degrees of 2 whole numbers of zero or more, one per leaf; got"):
            domain.learning_index(wrong)
    with pytest.raises(InputError, match="at least 8 nodes for a sphere in 4 dimensions; got 7"):
        SphereProduct((0, 1), 4).quadrature(7)
