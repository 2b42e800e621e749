"""The tracked case as NumPy arrays: a CNN on MNIST, its initial weights, and its batches.

The network has three 3 x 3 convolutions with 16, 32 and 32 channels, strides 1, 2 and 2, padding one and ReLU, then the
mean over positions and a dense layer with 10 outputs. It has He's standard deviations and no biases. It is trained by
gradient descent on the cross entropy, in batches of 64.
"""

import itertools
from pathlib import Path

import numpy as np

CHANNELS, STRIDES, CLASSES = (1, 16, 32, 32), (1, 2, 2), 10
BATCH, RATE = 64, 0.05
NUM_TRAIN = 10_000


def problem(mnist: Path, num_probe: int) -> dict[str, np.ndarray]:
    """The images, labels and weights. Without the MNIST files, the images are random."""
    rng = np.random.default_rng(0)
    if mnist.is_dir():
        import ntkbias as nb

        x, y = nb.datasets.mnist(mnist, num_examples=NUM_TRAIN)
    else:
        x = rng.normal(size=(NUM_TRAIN, 28, 28, 1)).astype(np.float32)
        y = rng.integers(0, CLASSES, NUM_TRAIN)
    found = {"x": np.asarray(x), "y": np.asarray(y, np.int32), "probe": np.asarray(x[:num_probe])}
    for k, (a, b) in enumerate(itertools.pairwise(CHANNELS)):
        found[f"w{k}"] = rng.normal(scale=(2 / (9 * a)) ** 0.5, size=(3, 3, a, b)).astype(np.float32)
    found["out"] = rng.normal(scale=CHANNELS[-1] ** -0.5, size=(CHANNELS[-1], CLASSES)).astype(np.float32)
    return found


def batch_at(step: int, n: int) -> np.ndarray:
    """The examples of a step, in the same order for all packages."""
    steps = n // BATCH
    order = np.random.default_rng(step // steps).permutation(n)
    return order[step % steps * BATCH :][:BATCH]
