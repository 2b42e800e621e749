"""What is tracked, in NumPy's terms: a CNN on MNIST, its weights at the start, and its batches.

The network: three convolutions of 3 x 3 with 16, 32, 32 channels and strides 1, 2, 2, padded by one, ReLU, the mean
over positions, a dense layer of 10 outputs; He's standard deviations, no biases. Training: gradient descent on the
cross entropy, batches of 64.
"""

import itertools
from pathlib import Path

import numpy as np

CHANNELS, STRIDES, CLASSES = (1, 16, 32, 32), (1, 2, 2), 10
BATCH, RATE = 64, 0.05
NUM_TRAIN = 10_000


def problem(mnist: Path, num_probe: int) -> dict[str, np.ndarray]:
    """Images, labels, and weights; random images where there are no files."""
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
    """The examples of a step, in an order that all packages share."""
    steps = n // BATCH
    order = np.random.default_rng(step // steps).permutation(n)
    return order[step % steps * BATCH :][:BATCH]
