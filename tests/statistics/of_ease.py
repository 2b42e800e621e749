"""The ease of labelings: contexts with Gaussian features, of which one carries the labeling, more or less."""

import functools

import numpy as np
from covering import Case

import ntkbias as nb

SCALES = np.array([1.0, 1.0, 0.7, 0.5, 0.3, 0.3, 0.2, 0.2])
STRENGTHS = {"chance": 0.0, "some": 0.5, "most": 4.0}
NUM_CONTEXTS, MANY = 48, 4_000


def drawn(rng, strength):
    """The kernel of contexts, and their labels."""
    labels = rng.choice([-1.0, 1.0], NUM_CONTEXTS)
    features = rng.normal(size=(NUM_CONTEXTS, len(SCALES))) * SCALES
    features[:, 0] = strength * (features[:, 0] + labels)
    return features @ features.T, labels


@functools.cache
def mean_over_samples(strength):
    rng, found = np.random.default_rng(1), []
    for _ in range(MANY):
        K, y = drawn(rng, strength)
        y = y - y.mean()
        found.append((NUM_CONTEXTS - 1) * (y @ K @ y) / (y @ y * (np.trace(K) - K.sum() / NUM_CONTEXTS)))
    return float(np.mean(found))


def of_ease(seed):
    held = {}
    for name, strength in STRENGTHS.items():
        K, y = drawn(np.random.default_rng([seed, 2]), strength)
        ease = nb.behaviors.ease(K, y, num_labelings=1)["labeling"].ease
        held[name] = mean_over_samples(strength) in ease
    return held


CASES = [Case("ease of a labeling", f"{NUM_CONTEXTS} contexts", "mean over samples", of_ease)]
