"""The laws of every measure of frequency in the table."""

import jax
import numpy as np
import pytest
from cases import FREQUENCY_MEASURES

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.frequency import MEASURES, FrequencyMeasure, measure_on
from ntkbias.layers import Scale, Sequential
from ntkbias.report import comparison

each_measure = pytest.mark.parametrize("name", FREQUENCY_MEASURES)
DEGREES = (np.arange(13) + 1) // 2  # 0, 1, 1, ... 6, 6: up to a fifth of 31


def spectrum_on(radius):
    x, weights = nb.domains.Circle(radius).quadrature(64)
    net = Sequential((Scale(1 / radius), nb.nets.mlp(depth=2, b_std=0.1)))
    return nb.spectrum(nb.infinite_ntk(net), x, weights=weights)


@pytest.fixture(scope="module")
def spectrum():
    return spectrum_on(1.0)


def ranked(spectrum, name, radius=1.0, **options):
    options = {"num_modes": 13, "num_resamples": 0} | options
    return nb.rank_by_frequency(spectrum, FREQUENCY_MEASURES[name].domain(radius), measure=name, **options)


def test_the_table_has_all_measures():
    assert list(FREQUENCY_MEASURES) == list(MEASURES)
    assert all(measure.name == name for name, measure in MEASURES.items())


@each_measure
def test_a_wave_has_its_degree(spectrum, name):
    ranking = ranked(spectrum, name)
    error = FREQUENCY_MEASURES[name].error
    np.testing.assert_allclose(ranking.frequencies[1:], DEGREES[1:], rtol=error)
    assert abs(float(ranking.frequencies[0])) < 0.1
    assert ranking.resolved.all()
    assert ranking.measure == name


@each_measure
def test_members_of_an_eigenspace_share_it(spectrum, name):
    frequencies = np.asarray(ranked(spectrum, name).frequencies)
    np.testing.assert_allclose(frequencies[1::2], frequencies[2::2], rtol=1e-5)


@each_measure
def test_it_is_the_inverse_of_a_length(spectrum, name):
    """The same functions at inputs twice as far apart have half the frequency."""
    found = ranked(spectrum_on(2.0), name, 2.0).frequencies
    np.testing.assert_allclose(found[1:], ranked(spectrum, name).frequencies[1:] / 2, rtol=1e-3)


@each_measure
def test_resamples_give_an_interval_that_holds_it(spectrum, name):
    ranking = ranked(spectrum, name, num_resamples=20, key=jax.random.key(1))
    assert ranking.resamples.shape == (20, 13)
    low, high = np.asarray(ranking.interval).T
    assert np.all((low <= ranking.frequencies) & (ranking.frequencies <= high))


@each_measure
def test_the_whole_comparison_takes_it(name):
    x, weights = nb.domains.Circle().quadrature(32)
    domain = FREQUENCY_MEASURES[name].domain(1.0)
    found = nb.compare({"mlp": nb.infinite_ntk(nb.nets.mlp())}, x, domain, weights=weights, measure=name)
    assert found.rankings[0].measure == name
    assert any(MEASURES[name].text in part for part in comparison.body(found, {}))


def test_a_custom_measure(spectrum):
    def of_index(spectrum, domain, weights, num_modes, key):
        return MEASURES["graph"].function(spectrum, domain, weights, num_modes, key)

    mine = FrequencyMeasure("mine", of_index, "that of the graph")
    ranking = nb.rank_by_frequency(spectrum, nb.domains.PointCloud(), measure=mine, num_modes=5)
    assert ranking.measure == "mine"
    np.testing.assert_array_equal(ranking.frequencies, ranked(spectrum, "graph").frequencies[:5])


def test_the_default_measure_and_refused_measures(unchecked, spectrum):
    assert measure_on(nb.domains.Circle()) is MEASURES["harmonic"]
    assert measure_on(nb.domains.PointCloud()) is MEASURES["graph"]
    with pytest.raises(InputTypeError, match="Expected a domain with harmonics.* PointCloud. Use measure='graph' or"):
        measure_on(nb.domains.PointCloud(), "harmonic")
    with pytest.raises(InputError, match="Expected measure to be one of harmonic, graph, dirichlet; got 'wavelet'"):
        measure_on(nb.domains.Circle(), "wavelet")
