"""Every public function that takes a key refuses a seed in its place, with one sentence."""

import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.domains import Circle, FromHarmonics, Gaussian, Hypercube, PointCloud, Sphere, SphereProduct, Torus
from ntkbias.errors import InputTypeError

SENTENCE = r"^Expected a key of jax.random, as jax.random.key\(3\); got int\.$"
CIRCLE, SPHERES = Circle(), SphereProduct((0, 1), 3)
X = np.asarray(CIRCLE.grid(8))
Y = X[:, 0]
PARAMS = np.array([1.0, 2.0])
SGD = {"optimizer": optax.sgd(0.1), "num_steps": 1}
CURVE = np.arange(1.0, 9), 1 / np.arange(1.0, 9)


def f(params, x):
    return x @ params


KERNEL = nb.kernels.DotProductKernel(lambda t: t + 0.1)
K = X @ X.T + 0.1
LABELS = np.arange(8) % 2
POSTERIOR = nb.kernel_posterior(KERNEL, X, Y, X, noise=1.0, covariance=True)

CALLS = {
    "spectrum": lambda key: nb.spectrum(KERNEL, X, key=key),
    "top_modes": lambda key: nb.top_modes(K, 2, key=key),
    "spectral_density": lambda key: nb.spectral_density(K, key=key),
    "log_determinant": lambda key: nb.eigen.log_determinant(K, 1.0, key=key),
    "effective_dimension": lambda key: nb.eigen.effective_dimension(K, 1.0, key=key),
    "alignment": lambda key: nb.alignment(K, Y, key=key),
    "nystrom": lambda key: nb.nystrom(KERNEL, X, 2, key=key),
    "Spectrum.decay_exponent": lambda key: nb.eigen.eigh(K).decay_exponent(first=0, last=2, key=key),
    "spectrum_of_degrees": lambda key: nb.exact.spectrum_of_degrees(KERNEL, SPHERES, [[1, 0]], key=key),
    "compare": lambda key: nb.compare({"a": KERNEL}, X, CIRCLE, key=key),
    "compare_grid": lambda key: nb.compare_grid(nb.nets.mlp, X, CIRCLE, width=[2], seeds=1, key=key),
    "rank_by_frequency": lambda key: nb.rank_by_frequency(nb.spectrum(KERNEL, X), CIRCLE, key=key),
    "dirichlet_frequency": lambda key: nb.frequency.dirichlet_frequency(nb.spectrum(KERNEL, X), CIRCLE, key=key),
    "gradient_frequency": lambda key: nb.frequency.gradient_frequency(nb.spectrum(KERNEL, X), CIRCLE, key=key),
    "image_frequencies": lambda key: nb.frequency.image_frequencies(
        lambda x: x.sum((1, 2, 3)), np.random.default_rng(0).normal(size=(4, 8, 8, 1)), key=key
    ),
    "interpolation_spectrum": lambda key: nb.frequency.interpolation_spectrum(lambda x: x, X, LABELS, key=key),
    "sketch": lambda key: nb.kernels.sketch(nb.empirical_ntk(f, PARAMS), X, 2, key=key),
    "pseudo_ntk": lambda key: nb.kernels.pseudo_ntk(f, PARAMS, key=key),
    "named_targets": lambda key: nb.learning.named_targets(X, CIRCLE, key=key),
    "learnability": lambda key: nb.learnability(K, Y, key=key),
    "measured_learning_curve": lambda key: nb.measured_learning_curve(K, Y, [2], key=key),
    "data_scaling": lambda key: nb.learning.data_scaling(f, PARAMS[None], (X, Y), (X, Y), [2], **SGD, key=key),
    "critical_learning_rate": lambda key: nb.critical_learning_rate(K, key=key),
    "scaling_law": lambda key: nb.scaling_law(*CURVE, key=key),
    "preferred_scaling_law": lambda key: nb.scaling.preferred_scaling_law(*CURVE, key=key),
    "hessian_eigenvalues": lambda key: nb.complexity.hessian_eigenvalues(f, PARAMS, X, Y, key=key),
    "sharpness": lambda key: nb.complexity.sharpness(f, PARAMS, X, Y, key=key),
    "gradient_noise": lambda key: nb.complexity.gradient_noise(f, PARAMS, X, Y, batch_size=2, num_draws=2, key=key),
    "shuffled_auc": lambda key: nb.complexity.shuffled_auc(f, PARAMS, X, LABELS, [0], key=key),
    "shuffle_coordinates": lambda key: nb.complexity.shuffle_coordinates(X, [0], key=key),
    "train": lambda key: nb.train(f, PARAMS, (X, Y), **SGD, key=key),
    "trained": lambda key: nb.training.trained(f, PARAMS, (X, Y), **SGD, key=key),
    "steps_until": lambda key: nb.training.steps_until(f, PARAMS, (X, Y), lambda p: True, **SGD, key=key),
    "local_energy": lambda key: nb.complexity.local_energy(f, PARAMS, X, np.sign(Y), [0.1], key=key),
    "kernel_posterior": lambda key: nb.kernel_posterior(KERNEL, X, Y, X, noise=1.0, method="products", key=key),
    "Posterior.samples": lambda key: nb.kernel_posterior(KERNEL, X, Y, X, noise=1.0, covariance=True).samples(
        1, key=key
    ),
    "lora": lambda key: nb.adapters.lora(f, PARAMS[:, None], 1, key=key),
    "ease": lambda key: nb.behaviors.ease(K, LABELS, key=key),
    "held_out_accuracy": lambda key: nb.behaviors.held_out_accuracy(K, LABELS, num_train=4, key=key),
    "random_weights": lambda key: nb.behaviors.random_weights({"w": X}, key=key),
    "permuted_weights": lambda key: nb.behaviors.permuted_weights({"w": X}, key=key),
    "disk": lambda key: nb.tasks.disk(5, key=key),
    "spiral": lambda key: nb.tasks.spiral(5, key=key),
    "staircase": lambda key: nb.tasks.staircase(5, 3, key=key),
    "slabs": lambda key: nb.tasks.slabs(5, 2, key=key),
    "power_law_signal": lambda key: nb.tasks.power_law_signal(5, key=key),
    "whitened": lambda key: nb.tasks.whitened(5, 2, key=key),
    "with_random_labels": lambda key: nb.tasks.with_random_labels(LABELS, 0.5, key=key),
    "Task.split": lambda key: nb.tasks.Task(X, Y, np.abs).split(2, key=key),
    "track": lambda key: nb.track(f, PARAMS, (X, Y), **SGD, key=key),
    "track_many": lambda key: nb.track_many(f, PARAMS[None], (X, Y), **SGD, key=key),
    "track_snapshots": lambda key: nb.track_snapshots(f, [(0, PARAMS)], (X, Y), key=key),
    "Setting.of": lambda key: nb.tracking.Setting.of(f, PARAMS, (X, Y), key=key),
}
BY_CLASS = {  # methods that each class has: tested below, and for layers in tests/layers/test_layers.py
    *("sample", "steps", "walk", "harmonic", "init"),
}


def public_functions():
    """The public functions and the methods of public classes that take a key, by name."""
    spaces = [nb, *(space for name in nb.__all__ if isinstance(space := getattr(nb, name), types.ModuleType))]
    for value in (getattr(space, name) for space in spaces for name in space.__all__):
        members = vars(value).items() if inspect.isclass(value) else [("", value)]
        for name, member in members:
            function = member.__func__ if isinstance(member, classmethod) else member
            if not inspect.isfunction(function) or name.startswith("_") or name in BY_CLASS:
                continue
            if "key" in inspect.signature(function).parameters:
                yield f"{value.__name__}.{name}" if name else value.__name__


def test_the_table_covers_every_public_function_with_a_key():
    assert set(CALLS) == set(public_functions())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", CALLS)
def test_a_seed_is_refused_in_place_of_a_key(name):
    with pytest.raises(InputTypeError, match=SENTENCE):
        CALLS[name](3)


HARMONIC = [Circle(), Torus(2), Sphere(3), Hypercube(4), Gaussian(2), SPHERES]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("domain", HARMONIC, ids=lambda domain: type(domain).__name__)
def test_a_seed_is_refused_by_domains(domain):
    x = domain.sample(6, key=jax.random.key(0))
    degree = (1, 0) if isinstance(domain, SphereProduct) else 1
    calls = [
        lambda: domain.sample(3, key=3),
        lambda: domain.steps(x, domain.step_length(x), 2, key=3),
        lambda: domain.harmonic(degree, x, key=3),
    ]
    if hasattr(domain, "walk"):
        calls.append(lambda: domain.walk(x, jnp.ones(len(x)), key=3))
    for call in calls:
        with pytest.raises(InputTypeError, match=SENTENCE):
            call()


@pytest.mark.usefixtures("unchecked")
def test_a_seed_is_refused_by_point_clouds():
    basis = FromHarmonics(lambda x, max_degree: x[:, :1], [1])
    for domain in (PointCloud(), basis):
        with pytest.raises(InputTypeError, match=SENTENCE):
            domain.steps(jnp.asarray(X), 0.1, 2, key=3)
