"""The uncertainty that a ranking states: eigenspaces, modes that are not resolved, and intervals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import ntkbias as nb
from ntkbias.domains import Circle, PointCloud, Sphere
from ntkbias.errors import InputError

CIRCLE = Circle()


def of_functions(functions, x, eigenvalues):
    """A spectrum with these eigenfunctions, scaled to mean square one."""
    functions = functions / jnp.sqrt(jnp.mean(functions**2, 0))
    modes = nb.eigen.eigh(jnp.eye(len(x)), num_modes=len(eigenvalues))
    fields = {"eigenvalues": jnp.asarray(eigenvalues), "eigenfunctions": functions, "x": x}
    return nb.Spectrum(**{**vars(modes), **fields, "eigenspace": jnp.arange(len(eigenvalues))})


@pytest.fixture(scope="module")
def ten():
    """A former defect: on 400 points of a sphere in ten dimensions, most modes got the last degree, 2."""
    x = Sphere(10).sample(400, key=jax.random.key(0))
    return nb.rank_by_frequency(nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x), Sphere(10))


def test_modes_beyond_the_degrees_are_not_resolved_and_do_not_count(ten):
    resolved = np.asarray(ten.resolved)
    assert 50 <= resolved.sum() <= 65  # out of 1 + 10 + 54 harmonics up to degree 2
    assert resolved[:50].all()
    assert not resolved[70:].any()
    assert np.unique(ten.frequencies).tolist() == np.unique(Sphere(10).frequency(jnp.arange(3.0))).tolist()
    assert ten.decay is None  # two frequencies above zero
    assert np.all(np.asarray(ten.interval)[~resolved, 1] == np.inf)
    known = scipy.stats.spearmanr(ten.eigenvalues[resolved], ten.frequencies[resolved]).statistic
    assert ten.spearman == pytest.approx(known, abs=0.01)  # up to equal eigenvalues


@pytest.mark.slow
def test_noise_is_not_taken_for_a_degree():
    """One in a hundred random functions on 60 inputs, with harmonics up to degree 29, may seem to have a degree."""
    x = CIRCLE.sample(60, key=jax.random.key(0))
    functions = jax.random.normal(jax.random.key(1), (60, 60))
    ranking = nb.rank_by_frequency(of_functions(functions, x, np.linspace(2, 1, 60)), CIRCLE, num_resamples=0)
    assert ranking.resolved.sum() <= 3  # 0.6 are expected: more than 3 occur once in 400 times
    waves = CIRCLE.harmonics(x, 10)
    ranking = nb.rank_by_frequency(of_functions(waves, x, np.linspace(2, 1, 21)), CIRCLE, num_resamples=0)
    assert ranking.resolved.all()


@pytest.mark.slow
def test_the_graphs_limit_is_marked():
    x, weights = CIRCLE.quadrature(24)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights)
    ranking = nb.rank_by_frequency(spectrum, CIRCLE, measure="graph", num_resamples=10)
    unresolved = np.flatnonzero(~np.asarray(ranking.resolved))
    assert len(unresolved) == 1  # degree 12 changes sign at every node
    assert ranking.frequencies[unresolved[0]] == pytest.approx(12, rel=1e-3)
    assert ranking.spearman == pytest.approx(-1)


@pytest.mark.slow
def test_an_eigenspace_is_one_row():
    x, weights = CIRCLE.quadrature(32)
    ranking = nb.rank_by_frequency(
        nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1)), x, weights=weights), CIRCLE, num_resamples=10
    )
    spaces = ranking.by_eigenspace()
    assert spaces.frequencies.tolist() == [*range(16), 15]
    assert spaces.multiplicities.tolist() == [1] + [2] * 15 + [1]
    assert spaces.resolved.tolist() == [True] * 16 + [False]
    np.testing.assert_allclose(spaces.eigenvalues[:9], ranking.eigenvalues[::2][:9], rtol=0.05)
    np.testing.assert_allclose(spaces.interval[:16], np.arange(16)[:, None] * np.ones(2))
    np.testing.assert_allclose(spaces.purity[:16], 1, rtol=1e-4)
    lines = str(spaces).splitlines()
    assert lines[0] == "Eigenspaces: 17"
    heads = ["eigenvalue", "multiplicity", "frequency", "95", "%", "interval", "purity"]
    assert lines[1].split() == heads
    assert lines[3].split()[1:] == ["2", "1.00", "1.00", "to", "1.00", "100.0%"]
    assert lines[-1] == "... and 5 more"
    assert "not resolved" in str(spaces.table(20)).splitlines()[-1]


@pytest.mark.slow
def test_a_product_rule_splits_eigenspaces_of_kernels_that_are_not_smooth():
    """The nodes lack the symmetry of the sphere. For a smooth kernel, their error is only rounding."""
    x, weights = Sphere(3).quadrature(200)

    def multiplicities(activation):
        kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, activation=activation, b_std=0.1))
        return (
            nb.rank_by_frequency(nb.spectrum(kernel, x, weights=weights), Sphere(3))
            .by_eigenspace()
            .multiplicities.tolist()
        )

    assert multiplicities("erf")[:8] == [3, 1, 7, 5, 11, 9, 15, 13]
    assert multiplicities("relu")[:3] == [1, 2, 1]  # degree 1 splits in two


def test_a_ranking_prints_its_first_modes(ten):
    lines = str(ten).splitlines()
    known = f"{int(ten.resolved.sum())} of resolved frequency, by {ten.measure}"
    assert lines[0] == f"FrequencyRanking: {len(ten.eigenvalues)} modes, {known}"
    assert lines[1].split()[:6] == ["mode", "eigenvalue", "frequency", "95", "%", "interval"]
    assert lines[1].endswith("learning time")
    assert f"\n... and {len(ten.eigenvalues) - 12} more\nSpearman's rho {ten.spearman_text}, decay exponent not" in str(
        ten
    )
    assert float(ten.spearman_text.partition(" ")[0]) == pytest.approx(ten.spearman, abs=5e-4)
    last = jax.tree.map(lambda v: v[-1:], ten)
    last = dataclasses.replace(last, resamples=ten.resamples[:0, -1:], energy=None, levels=None)
    assert "not resolved" in str(last)
    assert "rho not defined" in str(last)


def test_a_ranking_and_its_eigenspaces_are_saved(tmp_path, ten):
    nb.save(tmp_path / "both", {"ranking": ten, "spaces": ten.by_eigenspace()})
    loaded = nb.load(tmp_path / "both")
    np.testing.assert_array_equal(loaded["ranking"].resamples, ten.resamples)
    np.testing.assert_array_equal(loaded["spaces"].interval, ten.by_eigenspace().interval)


def test_without_resamples_there_are_no_intervals(ten):
    ranking = dataclasses.replace(ten, resamples=ten.resamples[:0])
    assert np.isnan(ranking.interval).all()
    assert np.isnan(ranking.spearman_interval).all()


@pytest.mark.parametrize("measure", ["graph", "harmonic"])
@pytest.mark.slow
def test_intervals_cover_what_other_samples_give(measure):
    """For functions of two degrees on 40 samples of 150 inputs, 95 % of the intervals hold the mean, up to noise."""
    sphere = Sphere(3)
    domain = sphere if measure == "harmonic" else PointCloud(dimension=2)
    found, spans = [], []
    for seed in range(40):
        x = sphere.sample(150, key=jax.random.key(seed))
        y = sphere.harmonics(x, 3)
        functions = jnp.stack([y[:, 2], y[:, 5], y[:, 10], y[:, 2] + y[:, 7] + y[:, 12]], 1)
        spectrum = of_functions(functions, x, [4.0, 3.0, 2.0, 1.0])
        ranking = nb.rank_by_frequency(spectrum, domain, measure=measure, key=jax.random.key(seed))
        found.append(ranking.frequencies)
        spans.append(ranking.interval)
    found, spans = np.asarray(found), np.asarray(spans)
    center = found.mean(0) if measure == "graph" else np.median(found, 0)
    covered = np.mean((spans[..., 0] <= center * (1 + 1e-6)) & (center * (1 - 1e-6) <= spans[..., 1]), 0)
    assert covered.min() > 0.95 - 3 * (0.95 * 0.05 / 40) ** 0.5
    if measure == "graph":  # and they are no wider than the scatter
        np.testing.assert_allclose((spans[..., 1] - spans[..., 0]).mean(0) / 2, 1.96 * found.std(0), rtol=0.5)


def test_bad_input_is_named(unchecked):
    x, weights = CIRCLE.quadrature(12)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), x, weights=weights)
    for wrong in (-1, 2.5, True):
        with pytest.raises(InputError, match="num_resamples to be a whole number, zero or more; got"):
            nb.rank_by_frequency(spectrum, CIRCLE, num_resamples=wrong)
