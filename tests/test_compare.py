"""Several kernels side by side."""

import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError

CIRCLE = nb.domains.Circle()
KERNELS = {f"depth {depth}": nb.infinite_ntk(nb.nets.mlp(depth=depth, b_std=0.1)) for depth in (1, 4)}


def test_a_comparison_has_the_results_of_each_kernel_alone(tmp_path):
    x, weights = CIRCLE.quadrature(32)
    comparison = nb.compare(KERNELS, x, CIRCLE, weights=weights, targets=x)
    assert comparison.names == ("depth 1", "depth 4")
    for name, spectrum, ranking in zip(comparison.names, comparison.spectra, comparison.rankings, strict=True):
        alone = nb.spectrum(KERNELS[name], x, weights=weights)
        np.testing.assert_array_equal(spectrum.eigenvalues, alone.eigenvalues)
        np.testing.assert_array_equal(ranking.frequencies, nb.rank_by_frequency(alone, CIRCLE).frequencies)
    nb.save(tmp_path / "comparison", comparison)
    loaded = nb.load(tmp_path / "comparison")
    assert loaded.names == comparison.names
    np.testing.assert_array_equal(loaded.targets, x)
    np.testing.assert_array_equal(loaded.rankings[1].frequencies, comparison.rankings[1].frequencies)


def test_bad_input_is_named(unchecked):
    x, _ = CIRCLE.quadrature(8)
    with pytest.raises(TypeError, match="Expected a dict of one or more kernels by name; got an empty dict"):
        nb.compare({}, x, CIRCLE)
    with pytest.raises(TypeError, match="Expected a dict of one or more kernels by name; got InfiniteKernel"):
        nb.compare(KERNELS["depth 1"], x, CIRCLE)
    with pytest.raises(TypeError, match="Expected a kernel, e.g. empirical_ntk"):
        nb.compare({"a": jnp.eye(8)}, x, CIRCLE)
    with pytest.raises(InputError, match="Expected one row of targets for each of 8 inputs"):
        nb.compare(KERNELS, x, CIRCLE, targets=jnp.ones(7))
    with pytest.raises(InputError, match="Expected finite numbers in targets"):
        nb.compare(KERNELS, x, CIRCLE, targets=jnp.full(8, jnp.inf))
