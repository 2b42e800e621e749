"""Several networks and kernels side by side."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.comparison import subsets
from ntkbias.comparison.answers import answer_of, uncertainty_of
from ntkbias.comparison.evidence import Evidence, Sample
from ntkbias.comparison.subsets import Modes
from ntkbias.errors import InputError

CIRCLE = nb.domains.Circle()
KERNELS = {f"depth {depth}": nb.infinite_ntk(nb.nets.mlp(depth=depth, b_std=0.1)) for depth in (1, 4)}
POINTS = nb.domains.PointCloud()
X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
TARGETS = {"linear": lambda x: x[:, 0], "product": lambda x: x[:, 0] * x[:, 1], "labels": (X[:, 2] > 0.1).astype(int)}
NETS = {"small": nb.nets.mlp(width=16, depth=1, b_std=0.1), "limit": nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))}


@pytest.fixture(scope="module")
def sampled():
    """A network over three seeds and a kernel, on random inputs, with three targets."""
    return nb.compare(NETS, X, POINTS, seeds=3, targets=TARGETS)


@pytest.fixture(scope="module")
def exact():
    """Two kernels on quadrature nodes: nothing is random."""
    x, weights = CIRCLE.quadrature(32)
    return nb.compare(KERNELS, x, CIRCLE, weights=weights, targets=x)


def test_a_comparison_has_the_results_of_each_kernel_alone(exact, tmp_path):
    x, weights = CIRCLE.quadrature(32)
    assert exact.names == ("depth 1", "depth 4")
    for name, spectrum, ranking in zip(exact.names, exact.spectra, exact.rankings, strict=True):
        alone = nb.spectrum(KERNELS[name], x, weights=weights)
        np.testing.assert_array_equal(spectrum.eigenvalues, alone.eigenvalues)
        np.testing.assert_array_equal(ranking.frequencies, nb.rank_by_frequency(alone, CIRCLE).frequencies)
    nb.save(tmp_path / "comparison", exact)
    loaded = nb.load(tmp_path / "comparison")
    assert loaded.names == exact.names
    np.testing.assert_array_equal(loaded.targets, x)
    np.testing.assert_array_equal(loaded.rankings[1].frequencies, exact.rankings[1].frequencies)


def test_numbers_are_those_of_the_functions_for_one_kernel(sampled):
    values, kernel = sampled["limit"].values, NETS["limit"]
    alone = nb.learnability(kernel, X, TARGETS)
    spectrum = nb.spectrum(kernel, X)
    np.testing.assert_allclose(values["effective rank"], spectrum.effective_rank(), rtol=1e-5)
    for name in TARGETS:
        found = alone[name]
        np.testing.assert_allclose(values[f"learning time: {name}"], found.learning_time.value, rtol=1e-4)
        np.testing.assert_allclose(values[f"samples needed: {name}"], found.samples_needed.value, rtol=1e-4)
        share = found.rayleigh_quotient.value / float(spectrum.trace)
        np.testing.assert_allclose(values[f"share of the trace: {name}"], share, rtol=1e-4)
    y = X[:, 0] - X[:, 0].mean()
    curve = nb.learning_curve(spectrum, y, [3, 6])
    for size, error in zip((3, 6), np.asarray(curve.errors) / np.mean(y**2), strict=True):
        np.testing.assert_allclose(values[f"test error: linear, {size} examples"], error, rtol=1e-4)


def test_seeds_are_runs_of_one_traced_function():
    traced = []

    def f(params, x):
        traced.append(1)
        return jnp.tanh(x @ params["w"]) @ params["v"]

    def init(key):
        keys = jax.random.split(key)
        return {"w": jax.random.normal(keys[0], (3, 8)), "v": jax.random.normal(keys[1], (8, 1))}

    two = nb.compare({"own": (f, init)}, X[:12], POINTS, seeds=2)
    count = len(traced)
    four = nb.compare({"own": (f, init)}, X[:12], POINTS, seeds=4)
    assert len(traced) == count
    assert (two.runs, four.runs) == ((2,), (4,))
    ranks = four["own"].values["effective rank"]
    assert len(np.unique(ranks)) == 4


def test_a_run_does_not_depend_on_what_is_beside_it(sampled):
    alone = nb.compare({"small": NETS["small"]}, X, POINTS, seeds=3)
    np.testing.assert_array_equal(alone["small"].values["effective rank"], sampled["small"].values["effective rank"])


def test_a_domain_stands_for_its_quadrature():
    found = nb.compare({"limit": KERNELS["depth 1"]}, CIRCLE, keep=5)
    assert found.spectra[0].eigenvalues.shape == (5,)
    assert found.eigenvalues[0].shape == (1, 256)
    assert found["limit"].spectrum.eigenfunctions.shape == (256, 5)
    assert {fact.label: fact.text for fact in found["limit"].facts()}["modes above the noise floor"] == "256 of 256"


class TestParts:
    """The spectrum without a group of inputs, from the modes on all of them."""

    def parts(self):
        spectrum = nb.spectrum(NETS["limit"], X)
        y = X[:, :2] - X[:, :2].mean(0)
        return Modes.of(spectrum, y, [1]), np.arange(0, 24, 1)[np.arange(24) % 5 > 0]

    def test_is_the_spectrum_on_these_inputs(self):
        modes, chosen = self.parts()
        part, alone = modes.on(chosen), nb.spectrum(NETS["limit"], X[chosen])
        np.testing.assert_allclose(part.eigenvalues, alone.eigenvalues, rtol=1e-3)
        y = X[chosen, 0] - X[chosen, 0].mean()
        np.testing.assert_allclose(part.power[:, 0], np.asarray(alone.project(y)) ** 2, atol=1e-5)
        np.testing.assert_allclose(part.trace, alone.trace, rtol=1e-5)

    def test_in_the_span_of_the_first_modes_it_is_close(self, monkeypatch):
        exact = self.parts()[0].on(self.parts()[1])
        monkeypatch.setattr(subsets, "EXACT", 8)
        monkeypatch.setattr(subsets, "FIRST", 12)
        modes, chosen = self.parts()
        part = modes.on(chosen)
        assert part.functions.shape == (len(chosen), 12)
        np.testing.assert_allclose(part.eigenvalues[:6], exact.eigenvalues[:6], rtol=0.02)
        np.testing.assert_allclose(part.power.sum(0) + part.beyond, exact.power.sum(0) + exact.beyond, rtol=1e-5)
        np.testing.assert_allclose(part.trace, exact.trace, rtol=1e-5)


def test_one_kernel_twice_is_a_tie_in_everything():
    kernel = NETS["limit"]
    twice = nb.compare({"a": kernel, "b": kernel}, X, POINTS, targets=TARGETS)
    verdicts = twice.verdicts()
    assert len(verdicts) == 3 + 2 * 3
    assert all(verdict.is_tie for verdict in verdicts.rows)
    assert len(verdicts.ties) == len(verdicts)
    similar = twice.similarity(4)
    np.testing.assert_allclose(similar.angles, 0, atol=0.1)
    np.testing.assert_allclose(similar.cka, 1, rtol=1e-5)


def test_similarity_is_that_of_the_kernels(exact):
    similar = exact.similarity(3)
    x, _ = CIRCLE.quadrature(32)
    alone = nb.alignment(KERNELS["depth 1"], x, KERNELS["depth 4"])
    np.testing.assert_allclose(similar.cka[0], float(alone), rtol=1e-5)
    assert similar.pairs == (("depth 1", "depth 4"),)
    np.testing.assert_allclose(similar.angles, 0, atol=0.1)  # on the circle, all kernels have the same eigenfunctions
    assert "cut an eigenspace" in str(exact.similarity(2))


def test_verdicts_without_chance_are_exact(exact):
    verdict = exact.verdicts("effective rank")["effective rank", "depth 1", "depth 4"]
    ranks = [float(exact[name].values["effective rank"][0]) for name in exact.names]
    np.testing.assert_allclose(verdict.difference.value, ranks[0] / ranks[1], rtol=1e-5)
    assert verdict.difference.low == verdict.difference.high == verdict.difference.value
    assert verdict.outcome == ("depth 1 higher" if ranks[0] > ranks[1] else "depth 1 lower")
    assert "differences are exact" in exact.uncertainty()


def test_verdicts_are_wider_together_than_alone(sampled):
    name = "samples needed: linear"
    alone, together = sampled.verdicts("samples needed"), sampled.verdicts()
    widths = [np.log(each[name, "small", "limit"].difference.high) for each in (alone, together)]
    assert widths[0] < widths[1]


def test_the_answer_has_two_sentences(sampled, exact):
    for found in (sampled, exact, nb.compare({"a": NETS["limit"]}, X, POINTS)):
        answer = found.answer()
        assert answer.count(". ") == 1
        assert answer.split(". ")[1].startswith("How sure: ")
    assert sampled.answer().startswith("The function learned first is ")
    assert "over new initializations and new draws of 24 inputs" in sampled.answer()


def test_the_answer_names_ties():
    noise = np.array([[-0.1, 0.1, 0.0], [0.1, -0.1, 0.1], [0.0, 0.0, -0.1]])
    evidence = Evidence([Sample(noise + np.array(mean), None) for mean in ([1.0, 1.1, 3.0], [1.0, 3.0, 3.0])])
    columns = tuple(("learning time", name) for name in ("x0", "x1", "cubic"))
    first, sure = answer_of(evidence, ("mlp, wide", "cnn"), columns, "over new initializations")
    assert first == 'The function learned first is x0 or x1 in "mlp, wide"; x0 in cnn.'
    assert 'names joined by "or" are ties' in sure
    assert "in cnn, x1 takes 7.39 times as long" in sure


def test_the_answer_claims_no_order_without_an_error():
    steady = np.full((3, 1), -1.0)
    evidence = Evidence([Sample(steady, None), Sample(np.full((3, 1), np.nan), None)])
    first, _ = answer_of(evidence, ("mlp", "cnn"), (("Spearman's rho", ""),), "over new initializations")
    assert "seem to come first, without an error to judge by, in mlp (-1.00)" in first
    assert "they have no order to speak of in cnn" in first
    few = nb.compare({"a": NETS["limit"]}, X[:4], nb.domains.PointCloud(num_neighbors=2))  # four modes
    assert "have no order to speak of in a" in few.answer()
    assert "Spearman's rho" not in str(few["a"]) or "not defined" in str(few["a"])


def test_one_target_is_learned_from_the_fewest_examples_by_one(exact):
    assert exact.answer().startswith("The fewest examples of target are needed by depth ")


def test_uncertainty_names_what_intervals_leave_out():
    net = NETS["small"]
    one = nb.compare({"net": net, "kernel": NETS["limit"]}, X, POINTS, seeds=1)
    said = one.uncertainty()
    assert "by a jackknife over groups" in said
    assert "net has one: they are about this network" in said
    assert "nothing is random in kernel" in said
    assert "too few" in uncertainty_of(("kernel",), (1,), (False,), None, True)


def test_it_is_saved_whole(sampled, tmp_path):
    nb.save(tmp_path / "sampled", sampled)
    loaded = nb.load(tmp_path / "sampled")
    assert str(loaded) == str(sampled)
    assert loaded.answer() == sampled.answer()
    assert str(loaded.verdicts()) == str(sampled.verdicts())
    assert str(loaded.similarity(3)) == str(sampled.similarity(3))
    nb.save(tmp_path / "verdicts", sampled.verdicts())
    assert str(nb.load(tmp_path / "verdicts")) == str(sampled.verdicts())


def test_tables_show_means_with_intervals(sampled):
    text = str(sampled)
    ranks = np.log(sampled["small"].values["effective rank"])
    assert "runs" in text
    estimate = sampled["small"].estimates["effective rank"]
    np.testing.assert_allclose(estimate.value, np.exp(ranks.mean()), rtol=1e-5)
    assert str(estimate) in text
    for table in (sampled.by_target(), sampled.learning_curves(), sampled.by_frequency(), sampled.verdicts()):
        assert "not shown" not in str(table)
        assert table._repr_html_().startswith("<div>")
    assert f"{sampled['small'].estimates['samples needed: linear']}" in str(sampled.by_target())
    total = sum(sampled.by_frequency().value[: len(sampled.by_frequency().of) // 2])
    assert 0.5 < total <= 1.001


def test_vector_valued_kernels_are_compared():
    net = nb.nets.mlp(width=8, depth=1, num_outputs=2)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (3,)), outputs="all")
    found = nb.compare({"all": kernel, "half": 0.5 * kernel}, X[:12], POINTS)
    assert found["all"].values["effective rank"] > 1
    np.testing.assert_allclose(found.similarity(2).cka, 1, rtol=1e-5)
    ties = {verdict.quantity: verdict.is_tie for verdict in found.verdicts().rows}
    assert ties == {"effective rank": True, "Spearman's rho": True, "decay exponent": False}  # no exponent is defined
    with pytest.raises(InputError, match="Expected kernels with one value per pair of inputs"):
        nb.compare({"all": kernel}, X[:12], POINTS, targets={"a": X[:12, 0]})


class TestGrid:
    def test_every_combination_has_its_limit(self):
        found = nb.compare_grid(
            nb.nets.mlp, CIRCLE, width=[8, 32, 128], depth=[1, 2], b_std=0.1, seeds=3, limits=("finite", "infinite")
        )
        widths = dict(found.grid)["width"]
        assert found.names[0] == "width 8, depth 1"
        assert found.names[-1] == "infinite width, depth 2"
        assert widths == (8, 8, 32, 32, 128, 128, np.inf, np.inf)
        distances = [np.asarray(found[name].values["distance to the limit"]) for name in found.names]
        kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
        x, _ = CIRCLE.quadrature(256)
        limit, own = np.asarray(kernel(x)), np.asarray(found["width 8, depth 1"].spectrum.kernel(x))
        np.testing.assert_allclose(distances[0][0], np.linalg.norm(own - limit) / np.linalg.norm(limit), rtol=1e-4)
        assert np.isnan(distances[-1]).all()
        slopes = found.slopes("distance to the limit")
        assert slopes.names == ("width 8 to 128, depth 1", "width 8 to 128, depth 2")
        assert np.all(slopes.low < -0.5)
        assert np.all(slopes.high > -0.5)

    def test_bad_input_is_named(self, unchecked):
        for options, message in (
            ({}, "Expected one option or more as a list"),
            ({"width": [8, 8]}, "Expected different values in the list width"),
            ({"width": []}, "Expected different values in the list width"),
        ):
            with pytest.raises(InputError, match=message):
                nb.compare_grid(nb.nets.mlp, X, POINTS, **options)
        with pytest.raises(TypeError, match=r"Expected a function that returns a network, e\.g\. nb\.nets\.mlp"):
            nb.compare_grid("mlp", X, POINTS, width=[8])
        with pytest.raises(TypeError, match=r"Expected make\(\*\*options\) to return a network of layers; got int"):
            nb.compare_grid(lambda width: width, X, POINTS, width=[8])
        with pytest.raises(TypeError, match="Expected options of mlp; got an error: .*unexpected keyword.*'widht'"):
            nb.compare_grid(nb.nets.mlp, X, POINTS, widht=[8])
        found = nb.compare({"a": NETS["limit"]}, X, POINTS)
        with pytest.raises(InputError, match="Expected an axis of a grid, of compare_grid: none; got 'width'"):
            found.slopes("effective rank")
        grid = nb.compare_grid(nb.nets.mlp, X[:12], POINTS, width=[4, 8], activation=["relu"], seeds=1)
        with pytest.raises(InputError, match="Expected a positive quantity of this comparison: 'trace', 'effective"):
            grid.slopes("decay exponent")
        with pytest.raises(InputError, match="Expected two different numbers or more on the axis 'activation'"):
            grid.slopes("effective rank", "activation")


def test_bad_input_is_named(unchecked):
    x, _ = CIRCLE.quadrature(8)
    with pytest.raises(TypeError, match="Expected a dict of one or more kernels by name; got an empty dict"):
        nb.compare({}, x, CIRCLE)
    with pytest.raises(TypeError, match="Expected a dict of one or more kernels by name; got InfiniteKernel"):
        nb.compare(KERNELS["depth 1"], x, CIRCLE)
    with pytest.raises(TypeError, match="Expected a kernel, e.g. empirical_ntk"):
        nb.compare({"a": jnp.eye(8)}, x, CIRCLE)
    with pytest.raises(TypeError, match="Expected the names of kernels to be strings; got 3"):
        nb.compare({3: KERNELS["depth 1"]}, x, CIRCLE)
    with pytest.raises(InputError, match="Expected a name for each kernel; got ' '"):
        nb.compare({" ": KERNELS["depth 1"]}, x, CIRCLE)
    with pytest.raises(InputError, match="Expected targets that vary over the inputs; got constant ones"):
        nb.compare(KERNELS, x, CIRCLE, targets=jnp.ones(8))
    with pytest.warns(UserWarning, match="12 of the 24 inputs repeat others"):
        nb.compare({"a": NETS["limit"]}, np.repeat(X[:12], 2, 0), POINTS)
    with pytest.raises(InputError, match="Expected one row of targets for each of 8 inputs"):
        nb.compare(KERNELS, x, CIRCLE, targets=jnp.ones(7))
    with pytest.raises(InputError, match="Expected finite numbers in targets"):
        nb.compare(KERNELS, x, CIRCLE, targets=jnp.full(8, jnp.inf))
    with pytest.raises(InputError, match="Expected seeds to be"):
        nb.compare(KERNELS, x, CIRCLE, seeds=0)
    with pytest.raises(InputError, match="Expected keep to be"):
        nb.compare(KERNELS, x, CIRCLE, keep=0)
    with pytest.raises(InputError, match="Expected limits to be"):
        nb.compare(NETS, X, POINTS, limits=())
    with pytest.raises(InputError, match="Expected limits to be"):
        nb.compare(NETS, X, POINTS, limits=("large",))
    with pytest.raises(TypeError, match="Expected a domain as x, which has its own quadrature"):
        nb.compare(KERNELS, CIRCLE, CIRCLE)
    with pytest.raises(TypeError, match="Expected inputs .*, or a domain with a quadrature"):
        nb.compare(KERNELS, POINTS)
    with pytest.raises(TypeError, match=r"Expected compare\(kernels, x, domain\), with the domain"):
        nb.compare(KERNELS, x)
    with pytest.raises(InputError, match="Expected different names; got 'a, finite' twice"):
        nb.compare({"a": NETS["small"], "a, finite": NETS["limit"]}, X, POINTS, limits=("finite", "infinite"))


def test_messages_of_a_result(exact, sampled, unchecked):
    with pytest.raises(InputError, match="Expected the name of a quantity of this comparison; got 'speed'"):
        exact.verdicts("speed")
    with pytest.raises(InputError, match="Expected .quantity, first, second. of a verdict"):
        exact.verdicts()["effective rank", "depth 4", "depth 1"]
    with pytest.raises(InputError, match="Expected k of at most 24, the modes above the noise"):
        sampled.similarity(25)
    plain = nb.compare({"a": NETS["limit"]}, X[:12], POINTS)
    with pytest.raises(InputError, match="Expected a comparison with targets; got none"):
        plain.by_target()
    assert len(plain.verdicts()) == 0
    history = nb.track(
        lambda p, x: x @ p, jnp.ones((3, 1)), (X[:4], X[:4, :1]), optimizer=__import__("optax").sgd(0.1), num_steps=1
    )
    with pytest.raises(TypeError, match="got History for 'a'. A history keeps only its last parameters"):
        nb.compare({"a": history}, X, POINTS)


def test_pairs_of_names_are_all_there(sampled):
    pairs = {(row.first, row.second) for row in sampled.verdicts().rows}
    assert pairs == set(itertools.combinations(sampled.names, 2))
