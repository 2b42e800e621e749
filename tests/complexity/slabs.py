"""Slab data of Shah et al. 2020, arXiv 2006.07710."""

import numpy as np


def slabs(num_examples, *, num_coordinates, num_slabs=5, margin=0.1, seed=0):
    """LMS-k: coordinate 0 is linearly separable, each other one in k slabs of alternating class; x (n, d), y of -1, +1.

    Coordinates are independent given the class, and lie in [-1, 1]. The blocks of coordinate 0 are [margin, 1] with the
    class's sign. The k slabs have equal widths and gaps of 2 margin / (k - 1); outer ones of the positive class hold
    a share 1 / (k - 1) each, inner ones double that, so that no line separates the classes by one coordinate.
    """
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.where(np.arange(num_examples) % 2, 1.0, -1.0))
    x = np.empty((num_examples, num_coordinates))
    x[:, 0] = y * rng.uniform(margin, 1, num_examples)
    gap = 2 * margin / (num_slabs - 1)
    width = (2 - gap * (num_slabs - 1)) / num_slabs
    positive = np.arange(0, num_slabs, 2)  # the outer slabs are of the positive class
    negative = np.arange(1, num_slabs, 2)
    shares = np.where((positive == 0) | (positive == num_slabs - 1), 1, 2) / (num_slabs - 1)
    for column in range(1, num_coordinates):
        slab = np.where(y > 0, rng.choice(positive, num_examples, p=shares), rng.choice(negative, num_examples))
        x[:, column] = -1 + slab * (width + gap) + rng.uniform(0, width, num_examples)
    return x.astype(np.float32), y
