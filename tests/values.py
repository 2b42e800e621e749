"""One value of each public type of result, small and quick to compute: for tests of what all of them can do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ntkbias as nb
from ntkbias import complexity
from ntkbias.scaling import scaling_law
from ntkbias.studies.running import measured
from ntkbias.tracking import track

CIRCLE = nb.domains.Circle()
X, WEIGHTS = CIRCLE.quadrature(24)
TAKEN = nb.tracking.measures.chosen("loss", "trace", "eigenvalues")
AWKWARD = "<b>名前</b> & \x1b[31m\u202e"


def f(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


PARAMS = {"hidden": jnp.ones((2, 5)), "out": jnp.ones((5, 1))}


@functools.cache
def results():
    """One value of each type that prints as a table, by its place and the name of its type."""
    limit = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))
    spectrum = nb.spectrum(limit, X, weights=WEIGHTS)
    ranking = nb.rank_by_frequency(spectrum, CIRCLE, num_resamples=5)
    y = X[:, 0] * X[:, 1]
    kernels = {"mlp": limit, AWKWARD: 2 * limit}
    operator = limit.operator(X)
    images = jax.random.normal(jax.random.key(0), (4, 4, 4, 1))
    sizes = 2.0 ** np.arange(4, 10)
    law = scaling_law(sizes, 2 / sizes, num_resamples=20)
    density = nb.spectral_density(operator, key=jax.random.key(0), num_probes=2, num_steps=4)
    found = [
        spectrum,
        nb.nystrom(limit, X, 8),
        nb.exact_spectrum(limit, CIRCLE, 15),
        nb.predicted_decay(limit, CIRCLE),
        ranking,
        ranking.by_eigenspace(),
        spectrum.decay_exponent(num_resamples=3, last=5),
        nb.compare(kernels, X, CIRCLE, weights=WEIGHTS),
        track(f, PARAMS, (X, y), optimizer=optax.sgd(0.1), num_steps=2, measures=TAKEN),
        nb.learnability({name: kernel(X) for name, kernel in kernels.items()}, {"y": y, AWKWARD: X[:, 0]}),
        nb.learning_curve(spectrum, y, [2, 4]),
        nb.measured_learning_curve(limit(X), y, [2, 4], num_draws=2, key=jax.random.key(0)),
        nb.learning.DataScaling(jnp.array([2, 4]), jnp.ones((2, 3, 2)), ("network", AWKWARD)),
        nb.kernel_regression(limit(X), y, ridge=0.1),
        nb.gradient_flow(limit(X), y, [0.0, 1.0]),
        law,
        law.exponent,
        law.extrapolate(sizes[:2]),
        density,
        density.cumulative(1e-3),
        density.cumulative(np.array([1e-3, 1e-2])),
        nb.frequency.image_gradient_frequencies(lambda x: jnp.sum(x**2, (1, 2, 3)), images, num_bands=2),
        nb.frequency.InterpolationSpectrum(jnp.arange(3.0), jnp.ones((2, 3)), jnp.ones((1, 3))),
        complexity.feature_responses(jnp.eye(2), jnp.ones(2), jnp.array([1.0, -1.0])),
        complexity.ShuffledAUC(1.0, 0.5, 1.0),
        complexity.agreement(np.array([[True, True, False], [True, False, False]])),
        complexity.LayerInformation(jnp.ones(2), jnp.ones(2), 30),
        nb.learning.LossTrajectory(jnp.arange(2.0), jnp.ones((2, 3)), None, jnp.ones(2)),
        nb.inference.Ensemble(jnp.arange(2.0), jnp.ones((2, 3)), jnp.ones((2, 3, 3))),
        nb.inference.Posterior(jnp.ones(3), jnp.ones(3), None, 0.1, jnp.ones(4), jnp.ones(4), -1.5, 0.0),
        nb.exact.PredictedSpectrum(
            jnp.array([0.5, 0.2]), jnp.array([[-1], [0]]), jnp.array([2.0, 1.0]), jnp.eye(2), jnp.ones(())
        ),
        nb.behaviors.ease(limit(X), {"y": np.sign(y + 0.1), AWKWARD: np.sign(X[:, 0] + 0.1)}, num_labelings=50),
        nb.behaviors.fine_tuning_prediction(f, PARAMS, X, y[:, None], num_steps=2),
        nb.behaviors.held_out_accuracy(limit(X), {"y": np.arange(len(X)) % 2, AWKWARD: np.arange(len(X)) // 2 % 2}),
    ]
    comparison = found[7]
    verdicts = comparison.verdicts()
    found += [comparison["mlp"], verdicts, verdicts.rows[0], comparison.similarity(3), comparison.by_frequency()]
    claim = nb.studies.Claim("It holds.", "slope", nb.studies.Bound(0.0, 1.0))
    findings = [{"slope": 0.5}, {"slope": 0.6}]
    judged = measured(claim, findings)
    found += [judged, nb.studies.StudyResult("own", "small", 2, 1.0, (judged,), findings)]
    return {f"{index} {type(value).__name__}": value for index, value in enumerate(found)}
