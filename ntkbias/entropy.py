"""The effective rank of nonnegative numbers: the number of equal ones that have the same entropy.

    rank(v) = exp(-sum_i p_i log p_i),   p_i = v_i / sum_j v_j                         (Roy and Vetterli 2007)

>>> import numpy as np
>>> from ntkbias.entropy import entropic_rank
>>> float(entropic_rank(np.array([3.0, 3.0, 0.0]))), float(entropic_rank(np.array([5.0, 0.0])))
(2.0, 1.0)
"""

from typing import Any

__all__ = ["entropic_rank", "entropy"]


def entropic_rank(values: Any) -> Any:
    """exp of the entropy of the shares of values `(k,)`: from 1 to k. Negative values, due to rounding, count as zero.

    NumPy values are computed by NumPy and JAX values by JAX, in their own precision.
    """
    array = values.__array_namespace__()
    positive = array.maximum(values, 0.0)
    return array.exp(array.sum(entropy(positive / array.sum(positive))))


def entropy(shares: Any) -> Any:
    """-p log p of each share p; zero for p = 0."""
    array = shares.__array_namespace__()
    return -shares * array.log(array.where(shares > 0, shares, 1.0))
