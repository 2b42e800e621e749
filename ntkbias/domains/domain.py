"""The contract of a domain: where inputs live, and what frequency means there.

Two measures need only distances. For edges e = (i, j) of length d_e between neighbouring inputs, a function phi has the
ratio of mean squared difference to mean square

    r(phi) = sum_e c_e (phi_i - phi_j)^2 / sum_e c_e d_e^2 (phi_i^2 + phi_j^2) / 2

With c_e = 1 / d_e^2 over the neighbourhood graph it is the Rayleigh quotient of the graph's Laplacian; with edges of
one length h laid off the nodes, and phi extended to their ends, it is the Dirichlet energy by difference quotients. A
plane wave of frequency k in m dimensions, in random directions, has (phi_i - phi_j)^2 = 2 phi^2 (1 - L(k d)) on
average, with L(z) = 0F1(m / 2, -z^2 / 4): cos z on a line. `plane_wave_frequency` finds the k with the same ratio, so
a finite step does not bias the frequency. For small steps it is sqrt(m r), and tends to sqrt(E |grad phi|^2 / E
phi^2).

>>> from ntkbias.domains import Circle
>>> x, weights = Circle().quadrature(6)
>>> Circle().neighbors(x).distance.round(4).tolist()
[1.0472, 1.0472, 1.0472, 1.0472, 1.0472, 1.0472]
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int, PRNGKeyArray

__all__ = ["Domain", "Edges", "HarmonicDomain", "plane_wave_frequency"]


class Edges(NamedTuple):
    """The edges of a neighbourhood graph: pairs of inputs and their distance."""

    first: Int[np.ndarray, " e"]
    second: Int[np.ndarray, " e"]
    distance: Float[np.ndarray, " e"]


class Domain(eqx.Module):
    """A set of inputs with distances. `HarmonicDomain` adds functions of known frequency."""

    @abc.abstractmethod
    def check(self, x: Array) -> None:
        """Raise an `InputError` unless `x` `(n, ...)` lies in this domain."""

    @abc.abstractmethod
    def intrinsic_dimension(self, x: Array) -> int:
        """The number of directions in which inputs vary."""

    @abc.abstractmethod
    def neighbors(self, x: Array) -> Edges:
        """The neighbourhood graph of the inputs, each edge once; coinciding inputs have no edge."""

    @abc.abstractmethod
    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Pairs of points at distance `scale`, off the nodes: the node each belongs to, its start and its end."""

    @abc.abstractmethod
    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """One or two coordinates to draw the inputs by: an angle, an embedding."""

    def spacing(self, x: Array) -> float:
        """The median distance of an input to its nearest neighbour."""
        first, second, distance = self.neighbors(x)
        nearest = np.full(len(x), np.inf)
        np.minimum.at(nearest, first, distance)
        np.minimum.at(nearest, second, distance)
        return float(np.median(nearest[np.isfinite(nearest)]))


class HarmonicDomain(Domain):
    """A domain with harmonics: an orthonormal basis ordered by degree, each degree of known frequency."""

    @abc.abstractmethod
    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Array:
        """Independent uniform inputs."""

    @abc.abstractmethod
    def quadrature(self, num_inputs: int) -> tuple[Array, Array]:
        """Nodes and weights, summing to one, for the mean of a function over the domain."""

    @abc.abstractmethod
    def harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        """The basis functions up to `max_degree` at the inputs, mean square one over the domain."""

    @abc.abstractmethod
    def degrees(self, max_degree: int) -> Int[np.ndarray, " h"]:
        """The degree of each of `harmonics`."""

    @abc.abstractmethod
    def frequency(self, degree: Array) -> Array:
        """The frequency of harmonics of a degree: the square root of their Laplacian eigenvalue."""

    @abc.abstractmethod
    def max_degree(self, num_inputs: int) -> int:
        """The largest degree that this many equally spaced inputs tell apart from lower ones."""

    def energy(self, functions: Array, x: Array, weights: Array, max_degree: int) -> Float[Array, "k degrees"]:
        """The power of each function `(n, *o, k)` in the harmonics of each degree, from its values on the inputs.

        Exact for nodes on which the harmonics are orthonormal; on a random sample of n inputs each harmonic adds
        about 1/n.
        """
        basis = self.harmonics(x, max_degree)
        coefficients = jnp.einsum("nh,n,n...k->hk...", basis, weights, functions, precision="highest")
        power = jnp.sum(coefficients.reshape(*coefficients.shape[:2], -1) ** 2, -1)
        per_degree = jnp.zeros((max_degree + 1, power.shape[1]), power.dtype)
        return per_degree.at[self.degrees(max_degree)].add(power).T


def plane_wave_frequency(
    ratios: np.ndarray, distances: np.ndarray, coefficients: np.ndarray, dimension: int
) -> Float[np.ndarray, " k"]:
    """The frequency of the plane wave whose ratio r over these edges is that of a function; see this module's text.

    `ratios` `(k,)`; `distances` and `coefficients` c_e `(e,)`. A ratio beyond the largest that a plane wave has gives
    the frequency of that wave: the limit of what edges of these lengths resolve.
    """
    groups = np.array_split(np.argsort(distances), min(128, len(distances)))  # edges of nearly one length
    lengths = np.array([distances[group].mean() for group in groups])
    shares = np.array([coefficients[group].sum() for group in groups])
    waves = np.linspace(0, (dimension + 2 * np.pi) / np.average(lengths, weights=shares), 4_001)
    table = 2 * (1 - _plane_wave(np.outer(waves, lengths), dimension)) @ shares / (shares @ lengths**2)
    rising = slice(int(table.argmax()) + 1)
    return np.interp(ratios, table[rising], waves[rising])


def _plane_wave(z: np.ndarray, dimension: int) -> np.ndarray:
    """The mean of cos(z u_1) over the unit vectors u of this dimension."""
    return np.cos(z) if dimension == 1 else scipy.special.hyp0f1(dimension / 2, -(z**2) / 4)
