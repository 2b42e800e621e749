"""The contract of a domain: where inputs live, and what frequency means there.

Harmonics come in levels: the eigenspaces by which power is counted. A level is a degree, or where one number does not
say enough (a product of spheres) a tuple of degrees. `TensorDomain` (`tensor_domain.py`) is for domains whose harmonics
are products of one function a coordinate. Measures that need no harmonics compare with plane waves (`plane_wave.py`).

>>> from ntkbias.domains import Circle
>>> x, weights = Circle().quadrature(6)
>>> Circle().neighbors(x).distance.round(4).tolist()
[1.0472, 1.0472, 1.0472, 1.0472, 1.0472, 1.0472]
"""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_key
from ntkbias.compilation import Function, compiled
from ntkbias.domains.plane_wave import plane_wave
from ntkbias.errors import InputError, InputTypeError

__all__ = ["MAX_PRODUCT_DIMENSIONS", "ON_SPHERE", "Domain", "Edges", "HarmonicDomain"]

MAX_PRODUCT_DIMENSIONS = 4  # of a product of one-dimensional rules: beyond, a thousand nodes are three a dimension
ON_SPHERE = 2.0**-8  # by which a radius may be off: above rounding, 2^-9 in bfloat16, below a real difference
_BLOCK_BYTES = 2**26  # of projectors at a time


class Edges(NamedTuple):
    """The edges of a neighborhood graph: pairs of inputs and their distance."""

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
        """The neighborhood graph of the inputs, each edge once; coinciding inputs have no edge."""

    @abc.abstractmethod
    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Pairs of points at distance `scale`, off the nodes: the node each belongs to, its start and its end."""

    @abc.abstractmethod
    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """One or two coordinates to draw the inputs by: an angle, an embedding."""

    def spacing(self, x: Array) -> float:
        """The median distance of an input to its nearest neighbor."""
        first, second, distance = self.neighbors(x)
        nearest = np.full(len(x), np.inf)
        np.minimum.at(nearest, first, distance)
        np.minimum.at(nearest, second, distance)
        return float(np.median(nearest[np.isfinite(nearest)]))

    def step_length(self, x: Array) -> float:
        """The length of a difference quotient's step: two spacings, so that it leaves the nodes behind."""
        return 2 * self.spacing(x)

    def correlation(
        self, frequency: Float[np.ndarray, " f"], distance: Float[np.ndarray, " e"], dimension: int
    ) -> Float[np.ndarray, "f e"]:
        """The mean of phi(a) phi(b) / E phi^2 over pairs (a, b) at each distance, for phi of each frequency.

        Here that of plane waves in random directions of flat space.
        """
        return plane_wave(np.outer(frequency, distance), dimension)


class HarmonicDomain(Domain):
    """A domain with harmonics: an orthonormal basis ordered by degree, each degree of known frequency."""

    @abc.abstractmethod
    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Array:
        """Independent inputs of the domain's own distribution: uniform where there is a uniform one."""

    @abc.abstractmethod
    def quadrature(self, num_inputs: int) -> tuple[Array, Array]:
        """At most `num_inputs` nodes and their weights, summing to one, for the mean of a function over the domain."""

    def grid(self, num_inputs: int) -> Array:
        """At most `num_inputs` inputs that cover the domain regularly: by default the nodes of `quadrature`."""
        return self.quadrature(num_inputs)[0]

    @abc.abstractmethod
    def harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        """The basis functions up to `max_degree` at the inputs, mean square one over the domain."""

    @abc.abstractmethod
    def degrees(self, max_degree: int) -> Int[np.ndarray, "h *leaves"]:
        """The degree of each of `harmonics`, or its tuple of degrees."""

    @abc.abstractmethod
    def frequency(self, degree: Array | np.ndarray) -> Array:
        """The frequency of harmonics of these degrees: the square root of their Laplacian eigenvalue."""

    @abc.abstractmethod
    def max_degree(self, num_inputs: int) -> int:
        """The largest degree that this many equally spaced inputs tell apart from lower ones."""

    def levels(self, max_degree: int) -> Int[np.ndarray, "levels *leaves"]:
        """The degrees, or tuples of degrees, that the columns of `energy` stand for."""
        return np.arange(max_degree + 1)

    def multiplicity(self, degree: Any) -> int:
        """The number of harmonics of a degree, or of a tuple of degrees."""
        return int(np.sum(self.degrees(degree) == degree))

    def harmonic(self, degree: Any, x: Array, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random function of one degree, of mean square one over the domain: the same one for the same `key`.

        Raises `InputError` where there are no harmonics of this degree.
        """
        degree = require_harmonics(self, degree)
        members = np.flatnonzero(self.degrees(degree) == degree)
        return self.harmonics(x, degree)[:, members] @ random_unit_vector(key, len(members))

    def projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        """The sum of Y(x1) Y(x2) over the harmonics Y of each level: the kernel that projects on the level."""
        basis1, basis2 = self.harmonics(x1, max_degree), self.harmonics(x2, max_degree)
        columns = _columns(self.degrees(max_degree), self.levels(max_degree))
        members = jnp.asarray(columns == np.arange(len(self.levels(max_degree)))[:, None], basis1.dtype)
        return jnp.einsum("nh,lh,mh->lnm", basis1, members, basis2, precision="highest")

    def energy(
        self, functions: Array | np.ndarray, x: Array, weights: Array, max_degree: int
    ) -> Float[Array, "k levels"]:
        """The power of each function `(n, *o, k)` in the harmonics of each level, from its values on the inputs.

        Exact for nodes on which the harmonics are orthonormal; on a random sample of n inputs each harmonic adds
        about 1/n. Costs n h k multiplications with the h harmonics as a basis, or where they are more than the inputs
        n^2 k a level with `projectors`, in blocks of bounded memory.
        """
        max_degree = whole("max_degree", max_degree)
        if self._num_harmonics(max_degree) <= len(x):
            levels = self.levels(max_degree)
            columns = _columns(self.degrees(max_degree), levels)
            return _power_in_levels(self.harmonics(x, max_degree), functions, weights, columns, len(levels))
        values = jnp.asarray(functions).reshape(len(x), -1)
        power = self._projector_energy(values, x, weights, max_degree)
        return power.reshape(-1, functions.shape[-1], power.shape[-1]).sum(0)

    def _num_harmonics(self, max_degree: int) -> int:
        return sum(self.multiplicity(level) for level in _names(self.levels(max_degree)))

    def _projector_energy(self, values: Array, x: Array, weights: Array, max_degree: int) -> Float[Array, "f levels"]:
        """The double sum of weights, values and projectors."""
        weighted = jnp.asarray(weights)[:, None] * values
        num_levels = len(self.levels(max_degree))
        rows = max(1, _BLOCK_BYTES // (num_levels * (len(x) + values.shape[1]) * weighted.dtype.itemsize))

        @jax.jit
        def block(part: Array, points: Array) -> Array:
            projectors = self.projectors(points, x, max_degree)
            return jnp.einsum("bf,lbn,nf->fl", part, projectors, weighted, precision="highest")

        starts = range(0, len(x), rows)
        return sum(
            (block(weighted[i : i + rows], x[i : i + rows]) for i in starts),
            jnp.zeros((values.shape[1], num_levels), weighted.dtype),
        )

    def _counted_degree(self, num_inputs: int) -> int:
        """The largest degree with at most half as many harmonics up to it as there are inputs."""
        degree = 0
        while self._num_harmonics(degree + 1) <= num_inputs / 2:
            degree += 1
        return degree


def whole(name: str, value: object) -> int:
    """The value as Python's integer; raises an `InputError` unless it is a whole number of zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"Expected {name} to be a whole number; got {value!r}.")
    if value < 0:
        raise InputError(f"Expected {name} to be zero or more; got {value}.")
    return int(value)


def require_harmonics(domain: HarmonicDomain, degree: object) -> int:
    """The degree; raises an `InputError` unless the domain has harmonics of it."""
    number = whole("degree", degree)
    if domain.multiplicity(number) == 0:
        raise InputError(f"Expected a degree that has harmonics on {domain!r}; got {number}. See `levels`.")
    return number


@functools.partial(jax.jit, static_argnames="num_levels")
def _power_in_levels(
    basis: Array, functions: Array, weights: Array, columns: Array, num_levels: int
) -> Float[Array, "k levels"]:
    """The squares of each function's coefficients, summed by level. The basis is formed outside: it compiles longer."""
    values = functions.reshape(len(basis), -1)
    coefficients = jnp.einsum("nh,n,nf->hf", basis, weights, values, precision="highest")
    power = jnp.zeros((num_levels, values.shape[1]), coefficients.dtype).at[columns].add(coefficients**2).T
    return power.reshape(-1, functions.shape[-1], num_levels).sum(0)


def in_one_program(function: Callable[..., Array], *arguments: Any) -> Array:
    """The function's value by one compiled program, in place of one for each operation of it."""
    return _evaluated(Function.of(function), *arguments)


@compiled
def _evaluated(function: Function, *arguments: Any) -> Array:
    return function(*arguments)


def random_unit_vector(key: PRNGKeyArray, size: int) -> Float[Array, " h"]:
    """A vector of length one in a uniform direction."""
    vector = jax.random.normal(require_key(key), (size,))
    return vector / jnp.linalg.norm(vector)


def random_steps(
    domain: Domain, walk: Callable[..., Array], x: Array, scale: float, num_steps: int, key: PRNGKeyArray
) -> tuple[Array, Array, Array]:
    """`Domain.steps` of length `scale` that start within one spacing of a node, by `walk(x, lengths, key=)`."""
    node_key, offset_key, start_key, end_key = jax.random.split(require_key(key), 4)
    nodes = jax.random.permutation(node_key, len(x))[:num_steps]
    offsets = domain.spacing(x) * jax.random.uniform(offset_key, nodes.shape)
    start = walk(x[nodes], offsets, key=start_key)
    return nodes, start, walk(start, jnp.full(nodes.shape, scale, offsets.dtype), key=end_key)


def nodes_a_dimension(num_inputs: int, dimensions: int) -> int:
    """The largest m with m^dimensions <= num_inputs."""
    root = round(num_inputs ** (1 / dimensions))
    return root if root**dimensions <= num_inputs else root - 1


def _names(degrees: np.ndarray) -> list[Any]:
    """Each row of degrees as a number, or a tuple of numbers."""
    return [tuple(row) if isinstance(row, list) else row for row in degrees.tolist()]


def _columns(degrees: np.ndarray, levels: np.ndarray) -> Int[np.ndarray, " h"]:
    """Which of the levels each degree is."""
    column = {level: index for index, level in enumerate(_names(levels))}
    return np.array([column[degree] for degree in _names(degrees)])
