"""The contract of a domain: where inputs live, and what frequency means there.

Two measures need only distances. For edges e = (i, j) of length d_e between neighbouring inputs, a function phi has the
ratio of mean squared difference to mean square

    r(phi) = sum_e c_e (phi_i - phi_j)^2 / sum_e c_e d_e^2 (phi_i^2 + phi_j^2) / 2

With c_e = 1 / d_e^2 over the neighbourhood graph it is the Rayleigh quotient of the graph's Laplacian; with edges of
one length h laid off the nodes, and phi extended to their ends, it is the Dirichlet energy by difference quotients. A
plane wave of frequency k in m dimensions, in random directions, has (phi_i - phi_j)^2 = 2 phi^2 (1 - L(k d)) on
average, with L(z) = 0F1(m / 2, -z^2 / 4): cos z on a line. `plane_wave_frequency` finds the k with the same ratio, so
a finite step does not bias the frequency. For small steps it is sqrt(m r), and tends to sqrt(E |grad phi|^2 / E
phi^2). A domain that knows its own L, as the sphere and the cube do, gives it as `correlation`.

Harmonics come in levels: the eigenspaces by which power is counted. A level is a degree, or where one number does not
say enough (a product of spheres) a tuple of degrees. `TensorDomain` is for domains whose harmonics are products of one
function a coordinate.

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
import scipy.special
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.compilation import Function, compiled
from ntkbias.errors import InputError, InputTypeError

__all__ = ["MAX_PRODUCT_DIMENSIONS", "Domain", "Edges", "HarmonicDomain", "TensorDomain", "plane_wave_frequency"]

MAX_PRODUCT_DIMENSIONS = 4  # of a product of one-dimensional rules: beyond, a thousand nodes are three a dimension
_BLOCK_BYTES = 2**26  # of projectors at a time


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

    def step_length(self, x: Array) -> float:
        """The length of a difference quotient's step: two spacings, so that it leaves the nodes behind."""
        return 2 * self.spacing(x)

    def correlation(
        self, frequency: Float[np.ndarray, " f"], distance: Float[np.ndarray, " e"], dimension: int
    ) -> Float[np.ndarray, "f e"]:
        """The mean of phi(a) phi(b) / E phi^2 over pairs (a, b) at each distance, for phi of each frequency.

        Here that of plane waves in random directions of flat space.
        """
        return _plane_wave(np.outer(frequency, distance), dimension)


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

    def energy(self, functions: Array, x: Array, weights: Array, max_degree: int) -> Float[Array, "k levels"]:
        """The power of each function `(n, *o, k)` in the harmonics of each level, from its values on the inputs.

        Exact for nodes on which the harmonics are orthonormal; on a random sample of n inputs each harmonic adds
        about 1/n. Costs n h k multiplications with the h harmonics as a basis, or where they are more than the inputs
        n^2 k a level with `projectors`, in blocks of bounded memory.
        """
        max_degree = whole("max_degree", max_degree)
        values = jnp.asarray(functions).reshape(len(x), -1)
        if self._num_harmonics(max_degree) <= len(x):
            levels = self.levels(max_degree)
            columns = jnp.asarray(_columns(self.degrees(max_degree), levels))
            power = _power_in_levels(self.harmonics(x, max_degree), values, weights, columns, len(levels))
        else:
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


class TensorDomain(HarmonicDomain):
    """A product of equal factors, whose harmonics are products of one function of each: a mode is a multi-index.

    A factor's functions have integer labels, label 0 the constant; `modes` lists one label a factor. The degree of a
    mode is the sum of its labels' degrees.
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
        """The functions of these labels, of each factor, at the inputs."""

    def modes(self, max_degree: int) -> Int[np.ndarray, "h c"]:
        """The multi-index of each of `harmonics`, ordered by degree."""
        labels = self.labels(max_degree)
        return multi_indices(
            tuple(labels.tolist()), tuple(self.label_degrees(labels).tolist()), self.num_factors, max_degree
        )

    def mode_functions(self, x: Array, modes: Int[np.ndarray, "h c"]) -> Float[Array, "n h"]:
        """The products that these multi-indices name, mean square one over the domain."""
        labels, columns = np.unique(modes, return_inverse=True)
        table = self.factor_functions(x, labels)
        columns = columns.reshape(modes.shape)
        values = jnp.ones((len(x), len(modes)), table.dtype)
        for factor in range(self.num_factors):
            values = values * table[:, factor, columns[:, factor]]
        return values

    def harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        return in_one_program(self._harmonics, x, whole("max_degree", max_degree))

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
        return in_one_program(self._harmonic, require_harmonics(self, degree), x, key)

    def _harmonic(self, degree: int, x: Array, key: PRNGKeyArray) -> Float[Array, " n"]:
        modes = self.modes(degree)[self.degrees(degree) == degree]
        return self.mode_functions(x, modes) @ random_unit_vector(key, len(modes))

    def projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        """The coefficients of the product over factors of sum_s phi_s(x1) phi_s(x2) q^degree(s): no basis is formed."""
        return in_one_program(self._projectors, x1, x2, whole("max_degree", max_degree))

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
        """The number of modes of each degree, as Python's integers."""
        one = np.bincount(self.label_degrees(self.labels(max_degree)), minlength=max_degree + 1).astype(object)
        counts = np.array([1] + [0] * max_degree, object)
        for _ in range(self.num_factors):
            counts = np.convolve(counts, one)[: max_degree + 1]
        return counts


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
    basis: Array, values: Array, weights: Array, columns: Int[Array, " h"], num_levels: int
) -> Float[Array, "f levels"]:
    """The squares of each function's coefficients, summed by level. The basis is formed outside: it compiles longer."""
    coefficients = jnp.einsum("nh,n,nf->hf", basis, weights, values, precision="highest")
    return jnp.zeros((num_levels, values.shape[1]), coefficients.dtype).at[columns].add(coefficients**2).T


def in_one_program(function: Callable[..., Array], *arguments: Any) -> Array:
    """The function's value by one compiled program, in place of one for each operation of it."""
    return _evaluated(Function.of(function), *arguments)


@compiled
def _evaluated(function: Function, *arguments: Any) -> Array:
    return function(*arguments)


def random_unit_vector(key: PRNGKeyArray, size: int) -> Float[Array, " h"]:
    """A vector of length one in a uniform direction."""
    vector = jax.random.normal(key, (size,))
    return vector / jnp.linalg.norm(vector)


def random_steps(
    domain: Domain, walk: Callable[..., Array], x: Array, scale: float, num_steps: int, key: PRNGKeyArray
) -> tuple[Array, Array, Array]:
    """`Domain.steps` of length `scale` that start within one spacing of a node, by `walk(x, lengths, key=)`."""
    node_key, offset_key, start_key, end_key = jax.random.split(key, 4)
    nodes = jax.random.permutation(node_key, len(x))[:num_steps]
    offsets = domain.spacing(x) * jax.random.uniform(offset_key, nodes.shape)
    start = walk(x[nodes], offsets, key=start_key)
    return nodes, start, walk(start, jnp.full(nodes.shape, scale, offsets.dtype), key=end_key)


def nodes_a_dimension(num_inputs: int, dimensions: int) -> int:
    """The largest m with m^dimensions <= num_inputs."""
    root = round(num_inputs ** (1 / dimensions))
    return root if root**dimensions <= num_inputs else root - 1


def plane_wave_frequency(
    ratios: np.ndarray,
    distances: np.ndarray,
    coefficients: np.ndarray,
    dimension: int,
    correlation: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None,
) -> Float[np.ndarray, " k"]:
    """The frequency of the plane wave whose ratio r over these edges is that of a function; see this module's text.

    `ratios` `(k,)`; `distances` and `coefficients` c_e `(e,)`. `correlation` replaces L by a domain's own. A ratio
    beyond the largest that a plane wave has gives the frequency of that wave: the limit of what edges of these lengths
    resolve.
    """
    groups = np.array_split(np.argsort(distances), min(128, len(distances)))  # edges of nearly one length
    lengths = np.array([distances[group].mean() for group in groups])
    shares = np.array([coefficients[group].sum() for group in groups])
    waves = np.linspace(0, (dimension + 2 * np.pi) / np.average(lengths, weights=shares), 4_001)
    mean = _plane_wave(np.outer(waves, lengths), dimension)
    if correlation is not None:
        mean = correlation(waves, lengths, dimension)
    table = 2 * (1 - mean) @ shares / (shares @ lengths**2)
    rising = slice(int(table.argmax()) + 1)
    return np.interp(ratios, table[rising], waves[rising])


def _plane_wave(z: np.ndarray, dimension: int) -> np.ndarray:
    """The mean of cos(z u_1) over the unit vectors u of this dimension."""
    return np.cos(z) if dimension == 1 else scipy.special.hyp0f1(dimension / 2, -(z**2) / 4)


def _names(degrees: np.ndarray) -> list[Any]:
    """Each row of degrees as a number, or a tuple of numbers."""
    return [tuple(row) if isinstance(row, list) else row for row in degrees.tolist()]


def _columns(degrees: np.ndarray, levels: np.ndarray) -> Int[np.ndarray, " h"]:
    """Which of the levels each degree is."""
    column = {level: index for index, level in enumerate(_names(levels))}
    return np.array([column[degree] for degree in _names(degrees)])


@functools.lru_cache(maxsize=64)
def multi_indices(
    labels: tuple[int, ...], degrees: tuple[int, ...], num_factors: int, max_degree: int
) -> Int[np.ndarray, "h c"]:
    """All choices of one label a factor with sum of degrees at most `max_degree`, ordered by it."""
    order = np.argsort(-np.array(degrees), kind="stable")  # so that the first factor varies first within a degree
    label, degree = np.array(labels)[order], np.array(degrees)[order]
    modes, totals = np.zeros((1, 0), int), np.zeros(1, int)
    for _ in range(num_factors):
        row, choice = np.nonzero(totals[:, None] + degree <= max_degree)
        modes = np.concatenate([modes[row], label[choice, None]], 1)
        totals = totals[row] + degree[choice]
    modes = modes[np.argsort(totals, kind="stable")]
    modes.setflags(write=False)  # it is shared by all callers
    return modes
