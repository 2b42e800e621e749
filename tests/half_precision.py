"""Every public function with parameters and data of half precision: a new one is one line here.

`tests/test_half_precision.py` has the law.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ntkbias as nb
from ntkbias.domains import Circle


class HalfProblem(NamedTuple):
    """A network and data in half precision, or the same numbers in float32."""

    f: Callable
    params: Any
    x: Any  # (12, 3)
    y: Any  # (12, 1)
    cast: Callable  # any array to this type, through half precision
    folder: Any

    @property
    def kernel(self):
        return nb.empirical_ntk(self.f, self.params)

    @property
    def gram(self):
        """A positive definite matrix, (12, 12)."""
        distance = jnp.linalg.norm(self.x.astype(jnp.float32)[:, None] - self.x.astype(jnp.float32), axis=-1)
        return self.cast(jnp.exp(-distance))

    @property
    def labels(self):
        return jnp.arange(12) % 2

    @property
    def spectrum(self):
        return nb.eigen.eigh(self.gram)

    def path(self):
        sizes = [(1 + step / 4) ** 2 for step in range(5)]
        return [jax.tree.map(self.cast, jax.tree.map(lambda p, s=s: p * s, self.params)) for s in sizes]


def _half_network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["o"]


@functools.cache
def _half_numbers():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 8)) / 2, "o": rng.normal(size=(8, 1)) / 2}
    return params, rng.normal(size=(12, 3)), rng.normal(size=(12, 1))


def half_problem(dtype, folder, through=None):
    """The problem in a type, its numbers rounded to `through`."""
    through = dtype if through is None else through

    def cast(array):
        return jnp.asarray(array, jnp.float32).astype(through).astype(dtype)

    return HalfProblem(_half_network, *jax.tree.map(cast, _half_numbers()), cast, folder)


class Half(NamedTuple):
    """What a public function gives in half precision, and how far that may be from float32, of the largest entry."""

    call: Callable[[HalfProblem], Any]
    error: float = 0.03  # a few roundings of the network's own, each 2^-9
    keeps_type: bool = False  # the type is that of what was given


def _key():
    return jax.random.key(0)


def _modes(spectrum):
    """What does not depend on signs of eigenvectors."""
    return spectrum.eigenvalues, spectrum.trace


def _ensemble(found):
    return found.mean, found.variance


def _scaled_by_mup(h):
    net = nb.nets.mlp(8, 1, parameterization="mup")
    updates = jax.tree.map(h.cast, net.init(_key(), (3,)))
    return nb.training.scale_by_mup(net, (3,), "adam").update(updates, optax.EmptyState())[0]


def _trained(path):
    return [params for _, params in path]


_SGD = {"optimizer": optax.sgd(0.1), "num_steps": 4}
_CIRCLE = Circle()


def _circle(h):
    """A kernel's spectrum on the circle, from inputs of this type."""
    angles = 2 * np.pi * np.arange(24) / 24
    x = h.cast(np.stack([np.cos(angles), np.sin(angles)], 1))
    return nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.5)), x)


def _points(h):
    """That of the infinite kernel on the inputs: with a kernel that extends it."""
    return nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.5)), h.x)


def _image(h):
    return h.cast(np.random.default_rng(5).uniform(size=(3, 8, 8, 1)))


def _bright(images):
    return images.reshape(len(images), -1) @ jnp.cos(jnp.arange(64.0)).astype(images.dtype)


def _cauchy(h):
    return h.cast(np.random.default_rng(3).standard_cauchy(4_000))


def _net(h):
    net = nb.nets.mlp(width=8, depth=1)
    return net, jax.tree.map(h.cast, net.init(jax.random.key(0), (3,)))


def _stored(h):
    nb.gram_on_disk(h.folder / "kernel", h.kernel, h.x)
    return nb.open_gram(h.folder / "kernel")[:4, :4]


def _history(h, run=nb.track, **options):
    """All measures of a run, those that are no indices or random functions."""
    taken = nb.tracking.measures.ALL
    options |= _SGD | {"measures": taken, "probe": nb.tracking.Probe(test=(h.x, h.y))}
    history = run(h.f, options.pop("params", h.params), (h.x, h.y), **options)
    return {name: history[name] for name in ("loss", "eigenvalues", "trace", "weight_norm", "sharpness", "outputs")}


def _followed(h):
    """Measures of a loop of one's own."""
    names = "loss", "eigenvalues", "trace", "weight_norm"
    taken = nb.tracking.measures.chosen(*names)
    snapshots = nb.train(h.f, h.params, (h.x, h.y), **_SGD)
    history = nb.track_snapshots(h.f, snapshots, (h.x, h.y), learning_rate=0.1, measures=taken)
    return {name: history[name] for name in names}


def _law():
    return 2.0 ** np.arange(3, 9), 2.0 ** -np.arange(6)


def _normed(ranking):
    return ranking.eigenvalues, ranking.frequencies


def _by_name(kernels, h):
    return {path: kernel(h.x) for path, kernel in kernels.items()}


def _problem(h):
    return h.f, h.params, h.x, h.y


def _low_rank(h):
    return nb.empirical_ntk(*nb.adapters.lora(h.f, h.params, 1, key=_key()), wrt="['factors']")


# name -> what is asked of it; further words tell the lines of one function apart
HALF_PRECISION = {
    "kernels.adam_preconditioner": Half(
        lambda h: nb.kernels.adam_preconditioner(optax.adam(0.1).update(h.params, optax.adam(0.1).init(h.params))[1]),
        0.1,
        True,
    ),
    "alignment": Half(lambda h: nb.alignment(h.gram, h.y).value),
    "alignment by probes": Half(lambda h: nb.alignment(h.kernel, h.x, h.gram, num_probes=4).value),
    "rayleigh_quotient": Half(lambda h: nb.rayleigh_quotient(h.gram, h.y)),
    "rayleigh_quotient over the trace": Half(lambda h: nb.rayleigh_quotient(h.gram, h.y, relative=True)),
    "kernels.relative_distance": Half(lambda h: nb.kernels.relative_distance(h.gram, 2 * h.gram.astype(jnp.float32))),
    "kernels.as_operator": Half(lambda h: nb.kernels.as_operator(h.gram) @ h.y),
    "kernels.as_operator of NumPy's": Half(lambda h: nb.kernels.as_operator(np.asarray(h.gram)).trace()),
    "critical_learning_rate": Half(lambda h: nb.critical_learning_rate(h.gram)),
    "critical_learning_rate of a kernel": Half(
        lambda h: nb.critical_learning_rate(nb.empirical_ntk(h.f, h.params, outputs="all"), h.x)
    ),
    "eigen.eigh": Half(lambda h: _modes(nb.eigen.eigh(h.gram))),
    "spectrum": Half(lambda h: _modes(nb.spectrum(h.kernel, h.x))),
    "spectrum of few modes": Half(lambda h: nb.spectrum(h.kernel, h.x, num_modes=2).eigenvalues),
    "top_modes": Half(lambda h: _modes(nb.top_modes(nb.kernels.as_operator(h.gram), 3, key=_key()))),
    "top_modes of a kernel": Half(lambda h: nb.top_modes(h.kernel, h.x, 3, key=_key()).eigenvalues),
    "nystrom": Half(lambda h: nb.nystrom(h.kernel, h.x, 3, key=_key()).eigenvalues),
    "kernels.sketch": Half(lambda h: nb.kernels.sketch(h.kernel, h.x, 16, key=_key()).features[:, 0] ** 2, 0.1),
    "spectral_density": Half(
        lambda h: nb.spectral_density(nb.kernels.as_operator(h.gram), key=_key()).density(0.1, 0.3).value
    ),
    "eigen.log_determinant": Half(
        lambda h: nb.eigen.log_determinant(nb.kernels.as_operator(h.gram), 0.5, key=_key()).value
    ),
    "eigen.effective_dimension": Half(
        lambda h: nb.eigen.effective_dimension(nb.kernels.as_operator(h.gram), 0.5, key=_key()).value
    ),
    "empirical_ntk": Half(lambda h: h.kernel(h.x)),
    "cross_ntk": Half(lambda h: nb.cross_ntk(h.f, h.f, h.params, outputs="all")(h.x, h.x[:3]).reshape(12, 3)),
    "block_ntk": Half(lambda h: nb.block_ntk({"f": h.f, "g": h.f}, h.params)({"f": h.x, "g": h.x[:3]})),
    "kernels.holomorphic_ntk": Half(
        lambda h: abs(
            nb.kernels.holomorphic_ntk(lambda p, x: h.f(p, x).astype(jnp.float32) * (1 + 1j), h.params, h.x)
        ).reshape(12, 12)
    ),
    "empirical_nngp": Half(lambda h: nb.empirical_nngp(h.f, h.params)(h.x)),
    "empirical_ntk_by_layer": Half(lambda h: _by_name(nb.empirical_ntk_by_layer(h.f, h.params), h)),
    "ntk_velocity": Half(lambda h: nb.ntk_velocity(h.f, h.params, h.params)(h.x), 0.1),
    "loss_weighted_ntk": Half(lambda h: nb.loss_weighted_ntk(h.f, h.params, "logistic")(h.x)),
    "preconditioned_ntk": Half(lambda h: nb.preconditioned_ntk(h.f, h.params, jax.tree.map(jnp.abs, h.params))(h.x)),
    "kernels.sign_ntk": Half(lambda h: nb.kernels.sign_ntk(h.f, h.params)(h.x)),
    "kernels.asymmetric_sign_ntk": Half(lambda h: nb.kernels.asymmetric_sign_ntk(h.f, h.params)(h.x, h.x)),
    "kernels.sign_preconditioner": Half(lambda h: nb.kernels.sign_preconditioner(h.params)["w"], keeps_type=True),
    "adapters.lora": Half(lambda h: _low_rank(h)(h.x)),
    "kernels.pseudo_ntk": Half(lambda h: nb.kernels.pseudo_ntk(h.f, h.params, key=_key())(h.x)),
    "infinite_ntk": Half(lambda h: nb.infinite_ntk(nb.nets.mlp(depth=2))(h.x)),
    "infinite_nngp": Half(lambda h: nb.infinite_nngp(nb.nets.mlp(depth=2, activation="erf"))(h.x)),
    "gram_on_disk": Half(_stored),
    "compare_grid": Half(
        lambda h: (
            nb.compare_grid(nb.nets.mlp, h.x, nb.domains.PointCloud(), width=[4], seeds=1, targets=h.y)
            .spectra[0]
            .eigenvalues
        )
    ),
    "compare": Half(
        lambda h: (
            nb.compare(
                {"a": h.kernel, "b": nb.infinite_ntk(nb.nets.mlp(depth=1))}, h.x, nb.domains.PointCloud(), targets=h.y
            )
            .spectra[0]
            .eigenvalues
        )
    ),
    "learnability": Half(lambda h: nb.learnability(h.gram, h.labels).learning_time),
    "learning.named_targets": Half(
        lambda h: list(nb.learning.named_targets(h.x, labels=h.labels, values=h.y, key=_key()).values())
    ),
    "learnability of few modes": Half(lambda h: nb.learnability(h.gram, h.y[:, 0], modes=4).learning_time, 0.1),
    "learnability of a kernel": Half(lambda h: nb.learnability(h.kernel, h.x, h.y[:, 0]).rayleigh_quotient),
    "learning_curve": Half(lambda h: nb.learning_curve(h.spectrum, h.y[:, 0], [2, 4, 8]).errors),
    "measured_learning_curve": Half(
        lambda h: nb.measured_learning_curve(h.gram, h.y[:, 0], [2, 4, 8], key=_key()).errors
    ),
    "learning.data_scaling": Half(
        lambda h: (
            nb.learning.data_scaling(
                h.f,
                jax.tree.map(lambda p: p[None], h.params),
                (h.x, h.y),
                (h.x, h.y),
                [4, 8],
                ridges=(1e-2,),
                key=_key(),
                **_SGD,
            ).errors
        ),
        0.1,
    ),
    "learning.learning_times": Half(lambda h: nb.learning.learning_times(h.spectrum)),
    "kernel_regression": Half(lambda h: nb.kernel_regression(h.gram, h.y).outputs),
    "kernel_regression with a ridge": Half(
        lambda h: nb.kernel_regression(h.gram, h.y, ridge=0.1).predict(K_test=h.gram)
    ),
    "gradient_flow": Half(
        lambda h: nb.gradient_flow(h.gram, h.y, h.cast([0.0, 1.0, 4.0]), P=h.cast(np.full(12, 1 / 12))).outputs
    ),
    "gradient_descent": Half(
        lambda h: nb.gradient_descent(h.gram, h.y, [0, 1, 4], 0.5, K_test=h.gram, f0=h.y, f0_test=h.y).test_outputs
    ),
    "linearize": Half(lambda h: nb.linearize(h.f, h.params).loss(h.params, h.x, h.y)),
    "learning.lazy": Half(lambda h: nb.learning.lazy(h.f, h.params, 2.0).loss(h.params, h.x, h.y)),
    "track": Half(_history, 0.1),
    "track_many": Half(
        lambda h: _history(h, nb.track_many, params=jax.tree.map(lambda p: jnp.stack([p, p]), h.params)), 0.1
    ),
    "track_snapshots": Half(_followed, 0.1),
    "train": Half(lambda h: [p for _, p in nb.train(h.f, h.params, (h.x, h.y), **_SGD)], keeps_type=True),
    "training.trained": Half(lambda h: nb.training.trained(h.f, h.params, (h.x, h.y), **_SGD), keeps_type=True),
    "tracking.path_spectrum": Half(
        lambda h: (
            nb.tracking.path_spectrum(
                nb.track(h.f, h.params, (h.x, h.y), **_SGD, measures=nb.tracking.measures.chosen("path_kernel"))
            ).eigenvalues
        ),
        0.1,
    ),
    "rank_by_frequency": Half(
        lambda h: nb.rank_by_frequency(_circle(h), nb.domains.PointCloud(), num_modes=5).frequencies
    ),
    "rank_by_frequency of a kernel": Half(
        lambda h: nb.rank_by_frequency(nb.spectrum(h.kernel, h.x), nb.domains.PointCloud(), num_modes=1).eigenvalues
    ),
    "frequency.local_frequency": Half(
        lambda h: nb.frequency.local_frequency(
            h.cast(np.cos(np.arange(32.0))), np.arange(32.0), h.cast([0.0, 15.0, 31.0])
        )
    ),
    "frequency.graph_frequency": Half(
        lambda h: nb.frequency.graph_frequency(_points(h), nb.domains.PointCloud())[:3], 0.1
    ),
    "frequency.gradient_frequency": Half(
        lambda h: nb.frequency.gradient_frequency(_points(h), nb.domains.PointCloud(), num_modes=2), 0.1
    ),
    "frequency.dirichlet_frequency": Half(
        lambda h: nb.frequency.dirichlet_frequency(_points(h), nb.domains.PointCloud(), num_modes=2), 0.1
    ),
    "frequency.harmonic_energy": Half(lambda h: nb.frequency.harmonic_energy(_circle(h), _CIRCLE)[:3], 0.1),
    "frequency.directional_wave": Half(lambda h: nb.frequency.directional_wave(h.x, 0.3, h.x[0])),
    "frequency.radial_wave": Half(lambda h: nb.frequency.radial_wave(h.x, 0.3)),
    "frequency.smoothed_labels": Half(
        lambda h: nb.frequency.smoothed_labels(h.labels, h.cast(np.linspace(0, 2, 12)), 0.25, 2)
    ),
    "frequency.interpolation_path": Half(lambda h: nb.frequency.interpolation_path(h.x[0], h.x[1], 0.1)),
    "frequency.interpolation_spectrum": Half(
        lambda h: (
            nb.frequency.interpolation_spectrum(
                lambda x: jnp.concatenate([h.f(h.params, x), -h.f(h.params, x)], 1), h.x, h.labels, num_pairs=4
            ).between
        ),
        0.2,
    ),
    "frequency.image_frequencies": Half(
        lambda h: nb.frequency.image_frequencies(_bright, _image(h), num_bands=3, scale=0.1).energy, 0.2
    ),
    "frequency.image_gradient_frequencies": Half(
        lambda h: nb.frequency.image_gradient_frequencies(_bright, _image(h), num_bands=3).energy
    ),
    "frequency.autocorrelation": Half(lambda h: nb.frequency.autocorrelation(h.x[:, 0], 1, periodic=True)),
    "frequency.derivative_along": Half(
        lambda h: nb.frequency.derivative_along(lambda w, x: x @ w, h.x[0, :2], _CIRCLE.point, h.x[:, 0])
    ),
    "frequency.wave_correlation": Half(
        lambda h: nb.frequency.wave_correlation(h.x[:, :2], h.labels, h.cast(np.linspace(0, 2, 12)))
    ),
    "frequency.power_spectrum": Half(lambda h: nb.frequency.power_spectrum(h.x[:, 0])),
    "scaling_law": Half(lambda h: nb.scaling_law(*map(h.cast, _law()), num_resamples=4).exponent.value),
    "scaling.preferred_scaling_law": Half(
        lambda h: nb.scaling.preferred_scaling_law(*map(h.cast, _law()), num_resamples=4).exponent.value
    ),
    "scaling.exponent_difference": Half(
        lambda h: nb.scaling.exponent_difference(*[nb.scaling_law(*map(h.cast, _law()), num_resamples=4)] * 2).value
    ),
    "complexity.activations": Half(lambda h: nb.complexity.activations(*_net(h), h.x), keeps_type=True),
    "complexity.hidden_activations": Half(lambda h: nb.complexity.hidden_activations(*_net(h), h.x), keeps_type=True),
    "complexity.agreement": Half(lambda h: nb.complexity.agreement(h.cast(np.stack([h.labels, h.labels[::-1]])))),
    "complexity.local_energy": Half(
        lambda h: nb.complexity.local_energy(h.f, h.params, h.x, h.y, [0.0, 0.5], loss="mse", num_draws=4)
    ),
    "complexity.class_distance_variance": Half(lambda h: nb.complexity.class_distance_variance(h.x, h.labels)),
    "complexity.conditional_mutual_information": Half(
        lambda h: nb.complexity.conditional_mutual_information(h.cast(h.labels), h.labels, h.labels)
    ),
    "complexity.mutual_information": Half(lambda h: nb.complexity.mutual_information(h.cast(h.labels), h.labels)),
    "complexity.explained_information": Half(
        lambda h: nb.complexity.explained_information(h.cast(h.labels), h.labels, h.labels)
    ),
    "complexity.displacement_exponent": Half(lambda h: nb.complexity.displacement_exponent(h.path())),
    "complexity.local_displacement_exponents": Half(
        lambda h: nb.complexity.local_displacement_exponents(h.path(), np.array([1, 2]))
    ),
    "complexity.mean_squared_displacement": Half(
        lambda h: nb.complexity.mean_squared_displacement(h.x, np.array([1, 2]))
    ),
    "complexity.path_complexity": Half(lambda h: nb.complexity.path_complexity(h.f, h.path(), h.x)),
    "complexity.effective_depth": Half(lambda h: nb.complexity.effective_depth([h.x, h.x], h.labels)),
    "complexity.layer_separation": Half(lambda h: nb.complexity.layer_separation([h.x, h.x], h.labels)),
    "complexity.nearest_center_accuracy": Half(lambda h: nb.complexity.nearest_center_accuracy(h.x, h.labels)),
    "complexity.layer_information": Half(lambda h: nb.complexity.layer_information([h.x], h.labels).with_label),
    "complexity.effective_rank": Half(lambda h: nb.complexity.effective_rank(h.x)),
    "complexity.embedding_effective_rank": Half(lambda h: nb.complexity.embedding_effective_rank(h.x, centered=True)),
    "complexity.stable_rank": Half(lambda h: nb.complexity.stable_rank(h.x)),
    "complexity.end_to_end_matrix": Half(
        lambda h: nb.complexity.end_to_end_matrix(lambda w, x: x @ w, h.params["w"], (3,))
    ),
    "complexity.feature_responses": Half(lambda h: nb.complexity.feature_responses(h.gram, h.y, jnp.sign(h.y))),
    "complexity.geometric_complexity": Half(lambda h: nb.complexity.geometric_complexity(h.f, h.params, h.x)),
    "complexity.loss_gradient": Half(lambda h: nb.complexity.loss_gradient(*_problem(h))),
    "complexity.gradient_norm": Half(lambda h: nb.complexity.gradient_norm(*_problem(h))),
    "complexity.example_gradient_norms": Half(lambda h: nb.complexity.example_gradient_norms(*_problem(h))),
    "complexity.gradient_noise": Half(
        lambda h: nb.complexity.gradient_noise(*_problem(h), batch_size=4, num_draws=2, key=_key())
    ),
    "complexity.implicit_gradient_regularization": Half(
        lambda h: nb.complexity.implicit_gradient_regularization(*_problem(h), h.cast(0.5))
    ),
    "complexity.modified_loss": Half(lambda h: nb.complexity.modified_loss(*_problem(h), h.cast(0.5))),
    "complexity.hessian_eigenvalues": Half(lambda h: nb.complexity.hessian_eigenvalues(*_problem(h), 2)),
    "complexity.hessian_operator": Half(
        lambda h: nb.complexity.hessian_operator(*_problem(h)) @ np.ones(32, np.float32)
    ),
    "complexity.average_gradient_outer_product": Half(
        lambda h: nb.complexity.average_gradient_outer_product(h.f, h.params, h.x)
    ),
    "complexity.feature_correlations": Half(
        lambda h: jnp.stack([*nb.complexity.feature_correlations(h.f, h.params, h.x).values()])
    ),
    "complexity.sharpness": Half(lambda h: nb.complexity.sharpness(*_problem(h))),
    "complexity.shift_curvature": Half(lambda h: nb.complexity.shift_curvature(h.f, h.params, h.params, h.x, h.y)),
    "complexity.shuffle_coordinates": Half(
        lambda h: nb.complexity.shuffle_coordinates(h.x, [0], key=_key()), keeps_type=True
    ),
    "complexity.shuffled_auc": Half(
        lambda h: nb.complexity.shuffled_auc(h.f, h.params, h.x, h.labels, [0], key=_key()).plain
    ),
    "complexity.hill_tail_index": Half(lambda h: nb.complexity.hill_tail_index(_cauchy(h)).value),
    "complexity.stable_tail_index": Half(lambda h: nb.complexity.stable_tail_index(_cauchy(h)).value),
    "complexity.kesten_tail_index": Half(
        lambda h: (
            nb.complexity.kesten_tail_index(jnp.exp(h.cast(np.random.default_rng(0).normal(size=500)) - 0.5)).value
        )
    ),
    "complexity.weight_norm": Half(lambda h: nb.complexity.weight_norm(h.params)),
    "complexity.weight_norms": Half(lambda h: nb.complexity.weight_norms(h.params)),
    "domains.density_weights": Half(lambda h: nb.domains.density_weights(h.x)),
    "domains.merge_coinciding": Half(lambda h: nb.domains.merge_coinciding(h.x).weights),
    "domains.minimum_norm_weights": Half(lambda h: nb.domains.minimum_norm_weights(_CIRCLE, _circle(h).x, 2)),
    "domains.quadrature_weights": Half(lambda h: nb.domains.quadrature_weights(_CIRCLE, _circle(h).x, 2)),
    "losses.sobolev": Half(
        lambda h: nb.losses.sobolev(_CIRCLE, _circle(h).x, 1, max_degree=2)(_circle(h).x, 0 * _circle(h).x)
    ),
    "losses.weighted_mse": Half(lambda h: nb.losses.weighted_mse(h.cast([1 / 16] * 8 + [1 / 8] * 4))(h.y, 0 * h.y)),
    "losses.checked_targets": Half(lambda h: nb.losses.checked_targets("mse", h.y, h.y), keeps_type=True),
    "behaviors.ease": Half(lambda h: nb.behaviors.ease(h.gram, h.labels, num_labelings=20, key=_key()).ease),
    "behaviors.held_out_accuracy": Half(
        lambda h: nb.behaviors.held_out_accuracy(h.gram, h.labels, key=_key()).accuracy
    ),
    "behaviors.fine_tuning_prediction": Half(
        lambda h: nb.behaviors.fine_tuning_prediction(h.f, h.params, h.x, h.y, num_steps=4).outputs
    ),
    "exact.predicted_spectrum": Half(
        lambda h: (
            nb.exact.predicted_spectrum(
                nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.5)), h.cast(np.eye(4)), 5
            ).eigenvalues
        )
    ),
    "inference.ensemble_flow": Half(
        lambda h: _ensemble(nb.inference.ensemble_flow(nb.nets.mlp(b_std=0.5), h.x, h.y, h.x[:2], [0.0, 1.0]))
    ),
    "inference.log_marginal_likelihood": Half(
        lambda h: nb.inference.log_marginal_likelihood(h.gram.astype(jnp.float32), h.y, 0.1)
    ),
    "kernel_posterior": Half(
        lambda h: _ensemble(nb.kernel_posterior(nb.infinite_nngp(nb.nets.mlp()), h.x, h.y, h.x[:2], noise=0.1))
    ),
    "learning.steps_to_learn": Half(lambda h: nb.learning.steps_to_learn(h.gram, h.y, 0.5, 0.5)),
    "training.accuracy": Half(lambda h: nb.training.accuracy(h.y, jnp.sign(h.y))),
    "scaling.crossing": Half(lambda h: nb.scaling.crossing(*map(h.cast, _law()), 0.3)),
    "scaling.first_passage": Half(lambda h: nb.scaling.first_passage([0, 1, 2], h.x[:3, 0], h.x[1, 0] - 0.1)),
    "tasks.polar": Half(lambda h: nb.tasks.polar(h.x[:, :2])),
    "training.scale_by_mup": Half(_scaled_by_mup, keeps_type=True),
    "training.parameter_flow": Half(
        lambda h: nb.training.parameter_flow(lambda p: nb.losses.mse(h.f(p, h.x), h.y), h.params, [0.5])
    ),
    "scaling.power_law": Half(lambda h: nb.scaling.power_law(*(np.asarray(h.cast(v)) for v in _law())).exponent),
}
# Public functions that take no parameters or data, or of which another line has the values.
NOT_NUMERICAL = {
    *(
        "kernels.explain_ntk",
        "training.log_steps",
        "training.steps_until",
        "training.effective_learning_rates",
        "load",
        "open_gram",
        "open_history",
    ),
    "save",  # which refuses bfloat16 by a sentence: NumPy's files do not hold it
    *("exact_spectrum", "predicted_decay", "exact.beside", "exact.by_hermite_degree", "exact.spectrum_of_degrees"),
    *(
        "frequency.measure_on",
        "report.figures",
        "report.figure_names",
        "report.table",
        "report.write_facts",
        "report.write_report",
    ),
    *(f"behaviors.{name}" for name in ("continuation_contrast", "contrast", "permuted_weights", "random_weights")),
    "language.read_gguf",
    *("losses.named", "layers.activation", "layers.split_fixed"),
    *(f"datasets.{name}" for name in ("cifar10", "digits", "from_file", "mnist", "one_hot")),
    *(
        f"tasks.{name}"
        for name in (
            "disk",
            "eigenfunction_labels",
            "modular_addition",
            "power_law_signal",
            "slabs",
            "spiral",
            "staircase",
            "uneven_circle",
            "whitened",
        )
    ),
    "tasks.with_random_labels",
    *(
        f"nets.{name}"
        for name in ("cnn", "fourier_features", "mlp", "myrtle", "patch_network", "resnet", "transformer")
    ),
    *(f"adapters.{name}" for name in ("equinox", "flax_linen", "flax_nnx", "haiku", "keras", "neural_tangents")),
    "adapters.sklearn_kernel",  # of a kernel, and scikit-learn passes float64
    *("studies.run_study", "studies.study_of"),
    *(f"plots.{name}" for name in nb.plots.__all__),  # of results, whose types the other lines know
}
