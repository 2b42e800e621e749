"""Information from counts: identities, known cases, and the estimates of scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

import ntkbias as nb
from ntkbias.complexity import (
    conditional_mutual_information,
    explained_information,
    layer_information,
    mutual_information,
)
from ntkbias.errors import InputError


def labels(count, n=500, seed=0):
    return np.random.default_rng(seed).integers(0, count, n)


def test_agrees_with_scikit_learn():
    a, b = labels(3), (labels(3) + labels(2, seed=1)) % 4
    assert mutual_information(a, b) == pytest.approx(mutual_info_score(a, b) / np.log(2), abs=1e-12)


def test_identities():
    a, noise, c = labels(3), labels(2, seed=1), labels(2, seed=2)
    b = (a + noise) % 4
    assert mutual_information(a, b) == pytest.approx(mutual_information(b, 7.5 - a), abs=1e-12)
    chain = mutual_information(a, c) + conditional_mutual_information(a, b, c)
    assert mutual_information(a, 10 * b + c) == pytest.approx(chain, abs=1e-12)
    assert conditional_mutual_information(a, b, b) == pytest.approx(0, abs=1e-12)
    assert conditional_mutual_information(a, b, 0 * a) == pytest.approx(mutual_information(a, b), abs=1e-12)
    uniform = np.arange(8)
    assert mutual_information(uniform, uniform) == 3.0
    assert mutual_information(uniform // 2, uniform % 2) == 0.0


def test_explained_information():
    y = labels(2, 4_000)
    flips = labels(10, 4_000, seed=1)
    simple, network = np.where(flips < 3, 1 - y, y), np.where(flips < 1, 1 - y, y)  # it corrects errors of L
    # A model explains itself fully, a model without information explains nothing, and the true labels explain all.
    assert explained_information(network, network, y) == pytest.approx(mutual_information(network, y), abs=1e-12)
    assert explained_information(network, 0 * y, y) == pytest.approx(0, abs=1e-12)
    assert explained_information(network, y, y) == pytest.approx(mutual_information(network, y), abs=1e-12)
    explained = explained_information(network, simple, y)
    assert 0 < explained < min(mutual_information(network, y), mutual_information(simple, y)) + 1e-12
    xor = explained_information(y, flips % 2, (y + flips % 2) % 2)  # alone, each knows nothing; both know all
    assert xor == pytest.approx(-1, abs=0.01)


class TestLayers:
    def test_of_known_states(self):
        x = np.linspace(-1, 1, 8)[:, None]
        y = np.arange(8) >= 4
        found = layer_information([x, np.sign(x), 0 * x, x * [[1, -1]]], y, num_bins=8, limits=(-1.0, 1.0))
        lines = str(found).splitlines()
        assert lines[0] == "LayerInformation: activations in 8 bins"
        assert lines[1].split() == ["layer", "bits", "with", "input", "bits", "with", "label"]
        assert lines[4].split() == ["3", "0.000", "0.000"]
        assert len(lines) == 6
        np.testing.assert_allclose(found.with_input, [3, 1, 0, 3], atol=1e-6)
        np.testing.assert_allclose(found.with_label, [1, 1, 0, 1], atol=1e-6)

    def test_processing_loses_information(self):
        """T is a function of X, so I(T; Y) <= I(T; X) <= log2 n. Coarser, nested bins know less."""
        rng = np.random.default_rng(0)
        layer, y = rng.uniform(-1, 1, (200, 2)), labels(2, 200)
        found = [layer_information([layer], y, num_bins=bins, limits=(-1.0, 1.0)) for bins in (2, 4, 8, 16)]
        with_input, with_label = (
            np.array([getattr(f, name)[0] for f in found]) for name in ("with_input", "with_label")
        )
        assert np.all(np.diff(with_input) > 0)
        assert np.all(np.diff(with_label) >= -1e-6)
        assert np.all(with_label <= with_input)
        assert with_input[-1] <= np.log2(200)

    def test_default_limits_are_the_layer_s_own(self):
        layer = np.random.default_rng(0).normal(size=(50, 2))
        own = layer_information([layer], labels(2, 50))
        scaled = layer_information([5 + 3 * layer], labels(2, 50))
        np.testing.assert_allclose(own.with_input, scaled.with_input)

    def test_is_saved(self, tmp_path):
        found = layer_information([np.arange(8.0)], labels(2, 8))
        nb.save(tmp_path / "information", found)
        np.testing.assert_array_equal(nb.load(tmp_path / "information").with_input, found.with_input)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    a = labels(2, 6)
    cases = [
        (lambda: mutual_information(a, a[:3]), "Expected one label for each of 6 inputs in label 2; got shape (3,)"),
        (lambda: mutual_information(a[:0], a[:0]), "Expected at least one example; got none"),
        (lambda: mutual_information(a, "labels"), "Expected label 2 to be an array of numbers"),
        (lambda: layer_information([], a), "Expected a list of the layers' activations"),
        (lambda: layer_information([a, a[:3]], a), "Expected one label for each of 3 inputs"),
        (lambda: layer_information([a], a, num_bins=0), "num_bins to be at least 1"),
        (lambda: layer_information([a], a, limits=(1.0, -1.0)), "Expected limits (low, high) of the bins"),
        (lambda: layer_information([np.nan * a], a), "Expected finite numbers in activations[0]"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
