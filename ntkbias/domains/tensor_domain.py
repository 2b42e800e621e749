"""Domains that are products of equal factors. Their harmonics are products of one function per factor.

>>> from ntkbias.domains import Torus
>>> Torus(2).modes(1).tolist()                     # one label per factor: 0 is the constant, 1 a cosine, -1 a sine
[[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]
"""

import abc
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_key
from ntkbias.domains.domain import HarmonicDomain, in_one_program, random_unit_vector, require_harmonics, whole_number

__all__ = ["TensorDomain"]


class TensorDomain(HarmonicDomain):
    """A product of equal factors. Its harmonics are products of one function per factor, so a mode is a multi-index.

    The functions of a factor have integer labels; label 0 is the constant. `modes` lists one label per factor. The
    degree of a mode is the sum of its labels' degrees.
    """

    @property
    @abc.abstractmethod
    def num_factors(self) -> int:
        """The number of factors c."""

    @abc.abstractmethod
    def labels(self, max_degree: int) -> Int[np.ndarray, " s"]:
        """The labels of a factor's functions up to `max_degree`, ascending in degree."""

    @abc.abstractmethod
    def label_degrees(self, labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The degree of each label."""

    @abc.abstractmethod
    def factor_functions(self, x: Array, labels: Int[np.ndarray, " s"]) -> Float[Array, "n c s"]:
        """The functions with these labels at the inputs, for each factor."""

    def modes(self, max_degree: int) -> Int[np.ndarray, "h c"]:
        """The multi-index of each column of `harmonics`, ordered by degree."""
        labels = self.labels(max_degree)
        return multi_indices(
            tuple(labels.tolist()), tuple(self.label_degrees(labels).tolist()), self.num_factors, max_degree
        )

    def mode_functions(self, x: Array, modes: Int[np.ndarray, "h c"]) -> Float[Array, "n h"]:
        """The products named by these multi-indices. Each has mean square one over the domain."""
        labels, columns = np.unique(modes, return_inverse=True)
        table = self.factor_functions(x, labels)
        columns = columns.reshape(modes.shape)
        values = jnp.ones((len(x), len(modes)), table.dtype)
        for factor in range(self.num_factors):
            values = values * table[:, factor, columns[:, factor]]
        return values

    def harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        return in_one_program(self._harmonics, x, whole_number("max_degree", max_degree))

    def _harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        return self.mode_functions(x, self.modes(max_degree))

    def degrees(self, max_degree: int) -> Int[np.ndarray, "h *leaves"]:
        return self.label_degrees(self.modes(max_degree)).sum(1)

    def levels(self, max_degree: int) -> Int[np.ndarray, "levels *leaves"]:
        """The degrees that have harmonics."""
        return np.flatnonzero(self._multiplicities(max_degree))

    def multiplicity(self, degree: Any) -> int:
        return int(self._multiplicities(degree)[degree])

    def harmonic(self, degree: Any, x: Array, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return in_one_program(self._harmonic, require_harmonics(self, degree), x, require_key(key))

    def _harmonic(self, degree: int, x: Array, key: PRNGKeyArray) -> Float[Array, " n"]:
        modes = self.modes(degree)[self.degrees(degree) == degree]
        return self.mode_functions(x, modes) @ random_unit_vector(key, len(modes))

    def projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        """The coefficients in q of the product over factors of sum_s phi_s(x1) phi_s(x2) q^degree(s).

        No basis is formed.
        """
        return in_one_program(self._projectors, x1, x2, whole_number("max_degree", max_degree))

    def _projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        labels = self.labels(max_degree)
        degrees = self.label_degrees(labels)
        first, second = self.factor_functions(x1, labels), self.factor_functions(x2, labels)
        product = jnp.zeros((max_degree + 1, len(x1), len(x2)), first.dtype).at[0].set(1)
        for factor in range(self.num_factors):
            series = jnp.zeros_like(product)
            for degree in np.unique(degrees):
                members = np.flatnonzero(degrees == degree)
                term = jnp.matmul(first[:, factor, members], second[:, factor, members].T, precision="highest")
                series = series.at[degree:].add(product[: max_degree + 1 - degree] * term)
            product = series
        return product[self.levels(max_degree)]

    def _multiplicities(self, max_degree: int) -> np.ndarray:
        """The number of modes of each degree, as Python integers."""
        one = np.bincount(self.label_degrees(self.labels(max_degree)), minlength=max_degree + 1).astype(object)
        counts = np.array([1] + [0] * max_degree, object)
        for _ in range(self.num_factors):
            counts = np.convolve(counts, one)[: max_degree + 1]
        return counts


@functools.lru_cache(maxsize=64)
def multi_indices(
    labels: tuple[int, ...], degrees: tuple[int, ...], num_factors: int, max_degree: int
) -> Int[np.ndarray, "h c"]:
    """All choices of one label per factor with a sum of degrees up to `max_degree`, ordered by this sum."""
    order = np.argsort(-np.array(degrees), kind="stable")  # the first factor then varies first within a degree
    label, degree = np.array(labels)[order], np.array(degrees)[order]
    modes, totals = np.zeros((1, 0), int), np.zeros(1, int)
    for _ in range(num_factors):
        row, choice = np.nonzero(totals[:, None] + degree <= max_degree)
        modes = np.concatenate([modes[row], label[choice, None]], 1)
        totals = totals[row] + degree[choice]
    modes = modes[np.argsort(totals, kind="stable")]
    modes.setflags(write=False)  # the cache shares it between callers
    return modes
