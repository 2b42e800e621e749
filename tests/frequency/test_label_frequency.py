"""Which frequencies of label noise a network fits (Fridovich-Keil et al. 2021, arXiv 2110.02424), on real images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.frequency import interpolation_spectrum, radial_wave, smoothed_labels
from ntkbias.losses import cross_entropy

NUM_TRAIN = 1_500
FREQUENCIES = (0.125, 0.25, 0.5, 1.0)  # cycles per standard deviation of an image's norm


@functools.cache
def digits():
    x, y = nb.datasets.digits()
    x = np.asarray(x).reshape(len(x), -1)
    return x / np.linalg.norm(x, axis=1).std(), np.asarray(y).argmax(1) if np.ndim(y) > 1 else np.asarray(y)


def trained(labels, seed, num_steps, measure):
    """`measure(probabilities)` every tenth step of training a 64-256-256-10 ReLU network on the first digits."""
    x, _ = digits()
    x = jnp.asarray(x * 0.5)
    net = nb.nets.mlp(width=256, depth=2, num_outputs=10)
    params = net.init(jax.random.key(seed), (64,))
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        gradients = jax.grad(lambda p: cross_entropy(net.apply(p, x[:NUM_TRAIN]), labels[:NUM_TRAIN]))(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state

    softmax = jax.jit(lambda params: jax.nn.softmax(net.apply(params, x)))
    measured = []
    for count in range(1, num_steps + 1):
        params, state = step(params, state)
        if count % 10 == 0:
            measured.append(measure(np.asarray(softmax(params))))
    return np.array(measured), functools.partial(net.apply, params)


@pytest.mark.slow
def test_confidence_follows_low_waves_and_these_are_fitted_first():
    """Three seeds. Held out, the correlation of confidence and wave falls with f; in training low f is fitted first."""
    x, y = digits()
    held_out, first = np.zeros((3, len(FREQUENCIES))), np.zeros((3, len(FREQUENCIES)))
    for place, frequency in enumerate(FREQUENCIES):
        wave = np.asarray(radial_wave(x, frequency))
        labels = smoothed_labels(jnp.asarray(y), jnp.asarray(wave), 0.5, 10)

        def correlations(probabilities, wave=wave):
            confidence = probabilities[np.arange(len(y)), y]
            parts = slice(NUM_TRAIN), slice(NUM_TRAIN, None)
            return [np.corrcoef(confidence[part], -wave[part])[0, 1] for part in parts]

        for seed in range(3):
            measured, _ = trained(labels, seed, 200, correlations)
            held_out[seed, place] = measured[-1, 1]
            first[seed, place] = np.argmax(measured[:, 0] > 0.6) if (measured[:, 0] > 0.6).any() else 99
    print(held_out.round(2), first)
    assert np.all(np.diff(held_out.mean(0)) < 0)
    assert held_out[:, 1].min() > 0.5
    assert np.abs(held_out[:, -1]).max() < 0.2  # standard error of 297 examples: 0.06
    assert np.all(np.diff(first.mean(0)) >= 0)
    assert np.all(first[:, 1] < first[:, 2])


@pytest.mark.slow
def test_paths_within_a_class_are_lower_than_between_classes():
    """On digits, of which all of a class should look alike to the network: less power, at lower frequency."""
    x, y = digits()
    _, predict = trained(jnp.asarray(y), 0, 100, lambda probabilities: 0)
    spectrum = interpolation_spectrum(
        predict, jnp.asarray(x * 0.5), jnp.asarray(y), num_pairs=100, spacing=0.25, num_frequencies=40
    )
    within, between = np.asarray(spectrum.within), np.asarray(spectrum.between)
    print(within.sum() / between.sum(), spectrum.mean_frequency)
    assert within.sum() < 0.5 * between.sum()
