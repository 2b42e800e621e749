"""The contract of a domain: where inputs live, and what frequency means there.

Harmonics come in levels, the eigenspaces by which power is counted. A level is a degree, or a tuple of degrees if one
number does not suffice (as on a product of spheres). `TensorDomain` (`tensor_domain.py`) serves domains whose harmonics
are products of one function per coordinate. Measures that need no harmonics compare a function with plane waves
(`plane_wave.py`).

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

MAX_PRODUCT_DIMENSIONS = 4  # of a product of one-dimensional rules: with more, a thousand nodes give 3 per dimension
ON_SPHERE = 2.0**-8  # allowed relative error of a radius: above rounding (2^-9 in bfloat16), below a real difference
_BLOCK_BYTES = 2**26  # memory of the projectors that exist at one time


class Edges(NamedTuple):
    """The edges of a neighborhood graph: the indices of both inputs, and their distance.

    >>> import ntkbias as nb
    >>> x, _ = nb.domains.Circle().quadrature(16)
    >>> edges = nb.domains.Circle().neighbors(x)
    >>> len(edges.first) == len(edges.second) == len(edges.distance)
    True
    """

    first: Int[np.ndarray, " e"]
    second: Int[np.ndarray, " e"]
    distance: Float[np.ndarray, " e"]


class Domain(eqx.Module):
    """A set of inputs with distances. `HarmonicDomain` adds functions of known frequency.

    >>> import ntkbias as nb
    >>> cloud = nb.domains.PointCloud()
    >>> isinstance(cloud, nb.domains.Domain), isinstance(cloud, nb.domains.HarmonicDomain)
    (True, False)
    """

    @abc.abstractmethod
    def check(self, x: Array) -> None:
        """Raise an `InputError` unless `x` `(n, ...)` lies in this domain."""

    @abc.abstractmethod
    def intrinsic_dimension(self, x: Array) -> int:
        """The number of directions in which inputs vary."""

    @abc.abstractmethod
    def neighbors(self, x: Array) -> Edges:
        """The neighborhood graph of the inputs, with each edge once. Coinciding inputs have no edge."""

    @abc.abstractmethod
    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Steps of length `scale` off the nodes: the index of the node that each belongs to, its start and its end."""

    @abc.abstractmethod
    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        """One or two coordinates for drawing the inputs, such as an angle or an embedding."""

    def spacing(self, x: Array) -> float:
        """The median distance between an input and its nearest neighbor."""
        first, second, distance = self.neighbors(x)
        nearest = np.full(len(x), np.inf)
        np.minimum.at(nearest, first, distance)
        np.minimum.at(nearest, second, distance)
        return float(np.median(nearest[np.isfinite(nearest)]))

    def step_length(self, x: Array) -> float:
        """The step of a difference quotient: two spacings, so that a step ends away from its node."""
        return 2 * self.spacing(x)

    def correlation(
        self, frequency: Float[np.ndarray, " f"], distance: Float[np.ndarray, " e"], dimension: int
    ) -> Float[np.ndarray, "f e"]:
        """The mean of phi(a) phi(b) / E phi^2 over pairs (a, b) at each distance, for phi of each frequency.

        By default phi is a plane wave in a random direction of flat space.
        """
        return plane_wave(np.outer(frequency, distance), dimension)


class HarmonicDomain(Domain):
    """A domain with harmonics: an orthonormal basis, ordered by degree, in which each degree has a known frequency.

    >>> import ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> isinstance(circle, nb.domains.HarmonicDomain), [float(circle.frequency(k)) for k in (0, 1, 2)]
    (True, [0.0, 1.0, 2.0])
    """

    @abc.abstractmethod
    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Array:
        """Independent inputs from the domain's own distribution, which is uniform if a uniform one exists."""

    @abc.abstractmethod
    def quadrature(self, num_inputs: int) -> tuple[Array, Array]:
        """At most `num_inputs` nodes, and weights that sum to one, for the mean of a function over the domain."""

    def grid(self, num_inputs: int) -> Array:
        """At most `num_inputs` inputs that cover the domain regularly. By default these are the quadrature nodes."""
        return self.quadrature(num_inputs)[0]

    @abc.abstractmethod
    def harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        """The basis functions up to `max_degree` at the inputs. Each has mean square one over the domain."""

    @abc.abstractmethod
    def degrees(self, max_degree: int) -> Int[np.ndarray, "h *leaves"]:
        """The degree of each column of `harmonics`, or its tuple of degrees."""

    @abc.abstractmethod
    def frequency(self, degree: Array | np.ndarray) -> Array:
        """The frequency of harmonics of these degrees: the square root of their Laplacian's eigenvalue."""

    @abc.abstractmethod
    def max_degree(self, num_inputs: int) -> int:
        """The largest degree whose harmonics this many equally spaced inputs can distinguish from lower ones."""

    def levels(self, max_degree: int) -> Int[np.ndarray, "levels *leaves"]:
        """The degree, or tuple of degrees, of each column of `energy`."""
        return np.arange(max_degree + 1)

    def multiplicity(self, degree: Any) -> int:
        """The number of harmonics of a degree, or of a tuple of degrees."""
        return int(np.sum(self.degrees(degree) == degree))

    def harmonic(self, degree: Any, x: Array, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random function of one degree, with mean square one over the domain. The same `key` gives the same one.

        Raises `InputError` if there are no harmonics of this degree.
        """
        degree = require_harmonics(self, degree)
        members = np.flatnonzero(self.degrees(degree) == degree)
        return self.harmonics(x, degree)[:, members] @ random_unit_vector(key, len(members))

    def projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        """The sum of Y(x1) Y(x2) over the harmonics Y of each level. This kernel projects onto the level."""
        basis1, basis2 = self.harmonics(x1, max_degree), self.harmonics(x2, max_degree)
        columns = _level_indices(self.degrees(max_degree), self.levels(max_degree))
        members = jnp.asarray(columns == np.arange(len(self.levels(max_degree)))[:, None], basis1.dtype)
        return jnp.einsum("nh,lh,mh->lnm", basis1, members, basis2, precision="highest")

    def energy(
        self, functions: Array | np.ndarray, x: Array, weights: Array, max_degree: int
    ) -> Float[Array, "k levels"]:
        """The power that each level adds to the lower ones, for each function `(n, *o, k)` by its values on the inputs.

        The powers of a function sum to at most its mean square under the weights. The result is exact on nodes on which
        the harmonics are orthonormal. Otherwise, as on a random sample of n inputs, the harmonics are orthonormalized
        under the weights, in the order of the levels, and each harmonic still adds an error of about 1/n. With h
        harmonics the cost is n h (h + k) multiplications. If there are more harmonics than inputs, `projectors` are
        used in blocks of bounded memory, which costs n^2 k per level; then the powers can sum to more.
        """
        return self.energy_on(x, weights, max_degree)(functions)

    def energy_on(
        self, x: Array, weights: Array, max_degree: int
    ) -> Callable[[Array | np.ndarray], Float[Array, "k levels"]]:
        """`energy` as a function of `functions` alone, for many calls on the same inputs."""
        max_degree = whole_number("max_degree", max_degree)
        if self._num_harmonics(max_degree) > len(x):
            return lambda functions: self._projector_energy(functions, x, weights, max_degree)
        levels = self.levels(max_degree)
        columns = _level_indices(self.degrees(max_degree), levels)
        by_level = np.argsort(columns, kind="stable")
        basis, _ = orthonormalized(self.harmonics(x, max_degree)[:, by_level], weights)
        return lambda functions: _power_per_level(basis, jnp.asarray(functions), columns[by_level], len(levels))

    def _num_harmonics(self, max_degree: int) -> int:
        return sum(self.multiplicity(level) for level in _as_keys(self.levels(max_degree)))

    def _projector_energy(
        self, functions: Array | np.ndarray, x: Array, weights: Array, max_degree: int
    ) -> Float[Array, "k levels"]:
        """The power per level as a double sum over the inputs: weighted values times projectors."""
        weighted = jnp.asarray(weights)[:, None] * jnp.asarray(functions).reshape(len(x), -1)
        num_levels = len(self.levels(max_degree))
        rows = max(1, _BLOCK_BYTES // (num_levels * (len(x) + weighted.shape[1]) * weighted.dtype.itemsize))

        @jax.jit
        def block(part: Array, points: Array) -> Array:
            projectors = self.projectors(points, x, max_degree)
            return jnp.einsum("bf,lbn,nf->fl", part, projectors, weighted, precision="highest")

        starts = range(0, len(x), rows)
        power = sum(
            (block(weighted[i : i + rows], x[i : i + rows]) for i in starts),
            jnp.zeros((weighted.shape[1], num_levels), weighted.dtype),
        )
        return power.reshape(-1, functions.shape[-1], num_levels).sum(0)

    def _degree_by_count(self, num_inputs: int) -> int:
        """The largest degree up to which there are at most half as many harmonics as inputs."""
        degree = 0
        while self._num_harmonics(degree + 1) <= num_inputs / 2:
            degree += 1
        return degree


def whole_number(name: str, value: object) -> int:
    """The value as a Python integer. Raises an `InputError` unless it is a whole number of zero or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"Expected {name} to be a whole number; got {value!r}.")
    if value < 0:
        raise InputError(f"Expected {name} to be zero or more; got {value}.")
    return int(value)


def require_harmonics(domain: HarmonicDomain, degree: object) -> int:
    """The degree as an integer. Raises an `InputError` unless the domain has harmonics of this degree."""
    number = whole_number("degree", degree)
    if domain.multiplicity(number) == 0:
        raise InputError(f"Expected a degree that has harmonics on {domain!r}; got {number}. See `levels`.")
    return number


def orthonormalized(basis: Array, weights: Array | np.ndarray) -> tuple[Float[Array, "n h"], np.ndarray]:
    """Functions times the weights, after each is made orthonormal to those before it, and which ones are independent.

    A function that is a combination of those before it becomes zero. Costs n h^2, in double precision.
    """
    roots = np.sqrt(np.asarray(weights, float))[:, None]
    orthonormal, factor = np.linalg.qr(roots * np.asarray(basis, float))
    eps = float(jnp.finfo(basis.dtype).eps)
    independent = np.abs(np.diag(factor)) > len(roots) * eps * np.linalg.norm(factor, axis=0)
    return jnp.asarray(roots * orthonormal * independent, jnp.result_type(basis.dtype)), independent


@functools.partial(jax.jit, static_argnames="num_levels")
def _power_per_level(basis: Array, functions: Array, columns: Array, num_levels: int) -> Float[Array, "k levels"]:
    """The squares of each function's coefficients, summed by level. The basis has the weights."""
    values = functions.reshape(len(basis), -1)
    coefficients = jnp.einsum("nh,nf->hf", basis, values, precision="highest")
    power = jnp.zeros((num_levels, values.shape[1]), coefficients.dtype).at[columns].add(coefficients**2).T
    return power.reshape(-1, functions.shape[-1], num_levels).sum(0)


def in_one_program(function: Callable[..., Array], *arguments: Any) -> Array:
    """The function's value, computed by one compiled program instead of one per operation."""
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


def nodes_per_dimension(num_inputs: int, dimensions: int) -> int:
    """The largest m with m^dimensions <= num_inputs."""
    root = round(num_inputs ** (1 / dimensions))
    return root if root**dimensions <= num_inputs else root - 1


def _as_keys(degrees: np.ndarray) -> list[Any]:
    """Each row of degrees as a number or a tuple of numbers, which can be hashed."""
    return [tuple(row) if isinstance(row, list) else row for row in degrees.tolist()]


def _level_indices(degrees: np.ndarray, levels: np.ndarray) -> Int[np.ndarray, " h"]:
    """The index of each degree in `levels`."""
    column = {level: index for index, level in enumerate(_as_keys(levels))}
    return np.array([column[degree] for degree in _as_keys(degrees)])
