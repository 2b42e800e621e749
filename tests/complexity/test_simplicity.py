"""Which coordinates a network uses; gradient starvation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import ntkbias as nb
from ntkbias.complexity import feature_responses, shuffle_coordinates, shuffled_auc
from ntkbias.errors import InputError
from ntkbias.tasks import slabs


class TestShuffledAUC:
    def test_tells_what_a_known_function_uses(self):
        """On LMS-5 data, the block coordinate or one slab decides alone: the AUC is 1 with it, and 1/2 without it."""
        x, y = slabs(4_000, num_coordinates=4, key=jax.random.key(0)).data
        key = jax.random.key(0)
        simple = shuffled_auc(lambda w, x: x @ w, jnp.array([1.0, 0, 0, 0]), x, y, [0], key=key)
        assert (simple.plain, simple.others_shuffled) == (1.0, 1.0)
        assert simple.shuffled == pytest.approx(0.5, abs=4 / np.sqrt(3 * 4_000))  # four standard errors

        def of_slab(w, x):  # five slabs of width 0.36, 0.05 apart: above zero in the first, third and fifth
            return w * jnp.cos(2 * jnp.pi * x[:, 1] / 0.82)

        complex_ = shuffled_auc(of_slab, jnp.ones(()), x, y, [0], key=key)
        assert (complex_.plain, complex_.shuffled) == (1.0, 1.0)
        assert complex_.others_shuffled == pytest.approx(0.5, abs=4 / np.sqrt(3 * 4_000))

    @pytest.mark.slow
    def test_an_inverted_score_inverts_the_auc(self):
        x, y = slabs(300, num_coordinates=2, key=jax.random.key(1)).data
        linear = lambda w, x: x @ w + 0.5 * x[:, 1]  # noqa: E731
        plain, inverted = (
            shuffled_auc(lambda w, x, s=sign: s * linear(w, x), jnp.array([0.2, 0.0]), x, y, [0], key=jax.random.key(0))
            for sign in (1, -1)
        )
        for name in ("plain", "shuffled", "others_shuffled"):
            assert getattr(inverted, name) == pytest.approx(1 - getattr(plain, name), abs=1e-6)

    def test_shuffling_keeps_each_coordinate_s_values_together(self):
        x = np.arange(24.0).reshape(6, 2, 2)
        found = np.asarray(shuffle_coordinates(x, [1, 2], key=jax.random.key(0))).reshape(6, 4)
        np.testing.assert_array_equal(found[:, [0, 3]], x.reshape(6, 4)[:, [0, 3]])
        assert sorted(map(tuple, found[:, [1, 2]])) == sorted(map(tuple, x.reshape(6, 4)[:, [1, 2]]))
        assert not np.array_equal(found, x.reshape(6, 4))


class TestFeatureResponses:
    def test_is_the_singular_value_decomposition_of_signed_features(self, x64):
        rng = np.random.default_rng(0)
        Phi, y, outputs = rng.normal(size=(5, 8)), np.array([1.0, -1, 1, 1, -1]), rng.normal(size=5)
        found = feature_responses(Phi @ Phi.T, outputs, y)
        U, S, _ = np.linalg.svd(y[:, None] * Phi, full_matrices=False)
        np.testing.assert_allclose(found.strengths, S, rtol=1e-8)
        np.testing.assert_allclose(np.abs(found.responses), np.abs(U.T @ (y * outputs)), rtol=1e-8)
        np.testing.assert_allclose(np.sum(found.responses**2), np.sum(outputs**2), rtol=1e-10)
        np.testing.assert_allclose(found.directions @ found.responses, y * outputs, rtol=1e-8)

    def test_one_response_falls_as_the_other_feature_grows(self, x64):
        """Two coupled features under weight decay and the logistic loss (Pezeshki et al., theorem 2)."""
        angle = 0.3  # between the features and the examples' axes: at pi / 4, a feature treats all examples alike
        U = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        y = np.array([1.0, -1.0])
        weak, strong = [], []
        for strength in (1.2, 2.0, 4.0, 8.0):
            Phi = y[:, None] * U @ np.diag([strength, 1.0])
            found = feature_responses(Phi @ Phi.T, trained_outputs(Phi, y, decay=0.01), y)
            assert found.strengths.tolist() == pytest.approx([strength, 1.0])
            strong.append(float(found.responses[0]))
            weak.append(abs(float(found.responses[1])))
        assert np.all(np.diff(strong) > 0)
        assert np.all(np.diff(weak) < 0)

    def test_uncoupled_features_do_not_starve(self, x64):
        y = np.array([1.0, -1.0])
        weak = []
        for strength in (1.2, 8.0):
            Phi = y[:, None] * np.diag([strength, 1.0])
            weak.append(float(feature_responses(Phi @ Phi.T, trained_outputs(Phi, y, decay=0.01), y).responses[1]))
        assert weak[0] == pytest.approx(weak[1], rel=1e-5)


def trained_outputs(Phi, y, decay):
    """The outputs f = Phi theta at the minimum of sum log(1 + exp(-y f)) + decay / 2 |theta|^2."""

    def objective(theta):
        margins = y * (Phi @ theta)
        loss = np.sum(np.logaddexp(0, -margins)) + decay / 2 * theta @ theta
        return loss, Phi.T @ (-y / (1 + np.exp(margins))) + decay * theta

    found = scipy.optimize.minimize(objective, np.zeros(Phi.shape[1]), jac=True, options={"gtol": 1e-10})
    return Phi @ found.x


def test_values_are_saved(tmp_path):
    found = feature_responses(np.diag([4.0, 1.0]), np.ones(2), np.array([1, -1]))
    nb.save(tmp_path / "responses", found)
    np.testing.assert_array_equal(nb.load(tmp_path / "responses").responses, found.responses)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    x, y = slabs(20, num_coordinates=3, key=jax.random.key(0)).data
    f, w, key = (lambda w, x: x @ w), jnp.ones(3), jax.random.key(0)
    cases = [
        (lambda: shuffled_auc(f, w, x, y[:3], [0], key=key), "Expected labels (20,) of two values"),
        (lambda: shuffled_auc(f, w, x, 0 * y, [0], key=key), "Expected labels (20,) of two values; got 1 in shape"),
        (
            lambda: shuffled_auc(f, jnp.ones((3, 2)), x, y, [0], key=key),
            "to return one number per input; got shape (20, 2)",
        ),
        (lambda: shuffled_auc(f, w, x, y, [3], key=key), "Expected coordinates from 0 to 2; got 3 to 3"),
        (lambda: shuffled_auc(f, w, x, y, [0.5], key=key), "Expected coordinates as a list of whole numbers"),
        (lambda: shuffled_auc(f, w, x, y, [0], key=None), "Expected a key of jax.random"),
        (lambda: feature_responses(np.ones((2, 3)), y, y), "Expected a matrix K (n, n); got shape (2, 3)"),
        (lambda: feature_responses(np.eye(2), np.ones(3), np.ones(2)), "Expected outputs (2,), one per input"),
        (lambda: feature_responses(np.eye(2), np.ones(2), np.array([0, 1])), "Expected labels y of -1 and +1"),
        (lambda: feature_responses(np.array([[1, 2], [0, 1]]), np.ones(2), np.ones(2)), "Expected a symmetric K"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
