"""Inputs made of patches: a product of spheres, one per leaf of the tree in which a convolutional network joins them.

A harmonic is a product of one harmonic per leaf, with degrees r = (r_1, ..., r_w). Let n be the dimension of a leaf and
d = n w the total dimension. A node u with c children has a_u = log_d c, and a leaf has a_leaf = log_d n. Xiao (2021,
arXiv 2112.05611) defines

    frequency index  F(r) = a_leaf (r_1 + ... + r_w)
    spatial index    S(r) = the sum of a_u over the edges (u, child) of the smallest subtree that joins the leaves with
                            r_u > 0 to the root
    learning index   L(r) = S(r) + F(r)

The kernel's eigenvalue scales as d^-L, and regression on d^rho examples learns the functions with L < rho.

Examples of trees: if one convolution acts on patches of dimension n, a second one joins p = 2 patches, and a dense
layer joins the rest, the tree is `((0, 1), (2, 3))`. If one dense layer joins all patches, it is `(0, 1, 2, 3)`. A
dense network on flat inputs is a single leaf, `0`, of dimension d. The network has one more node, its readout, whose
only child is the root. It has a = log_d 1 = 0 and adds nothing to S. But without the activation between the root and
the readout, functions of several children of the root are not learned at all.

>>> from ntkbias.domains import SphereProduct
>>> deep, shallow = SphereProduct.regular((4, 4), 4), SphereProduct.regular((16,), 4)
>>> one_patch, two_patches = (1, 1) + 14 * (0,), (1, 0, 0, 0, 1) + 11 * (0,)
>>> [round(net.learning_index(r), 3) for net in (deep, shallow) for r in (one_patch, two_patches)]
[1.667, 2.0, 2.0, 2.0]
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.domains.domain import (
    MAX_PRODUCT_DIMENSIONS,
    Edges,
    in_one_program,
    nodes_per_dimension,
    random_steps,
    whole_number,
)
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.domains.sphere import (
    Sphere,
    arc_length,
    nearest_pairs,
    random_frames,
    require_on_spheres,
    require_radius,
    walk_on_spheres,
)
from ntkbias.domains.tensor_domain import TensorDomain, multi_indices
from ntkbias.errors import InputError, InputTypeError

__all__ = ["SphereProduct"]

Degrees = Sequence[int] | Mapping[int, int]  # of all leaves in order, or of the active leaves alone, {leaf: degree}


class SphereProduct(TensorDomain):
    """Inputs `(n, leaves, leaf_dimension)`. Each leaf lies on the sphere of `radius`, by default sqrt(leaf_dimension).

    `tree` is a nested tuple whose leaves are 0, 1, 2, ... in order. A `degree` is a tuple with one degree per leaf, and
    `max_degree` bounds their sum.

    >>> import jax, ntkbias as nb
    >>> pair = nb.domains.SphereProduct.regular((2,), 3)
    >>> pair.sample(16, key=jax.random.key(0)).shape  # two leaves of dimension 3
    (16, 2, 3)
    """

    tree: int | tuple = eqx.field(static=True)
    leaf_dimension: int = eqx.field(static=True)
    radius: float

    def __init__(self, tree: Any, leaf_dimension: int, radius: float | None = None):
        require_positive("leaf_dimension", leaf_dimension)
        if leaf_dimension < 2:
            raise InputError(f"Expected leaves of at least 2 dimensions; got {leaf_dimension}.")
        leaves = _leaves(tree)
        if not leaves or leaves != list(range(len(leaves))):
            raise InputError(
                f"Expected a nested tuple whose leaves are 0, 1, 2, ... in order, e.g. ((0, 1), (2, 3)); got {tree!r}."
            )
        self.tree = tree
        self.leaf_dimension = leaf_dimension
        self.radius = leaf_dimension**0.5 if radius is None else radius
        require_radius("radius", self.radius)

    @classmethod
    def regular(cls, branching: Sequence[int], leaf_dimension: int, radius: float | None = None) -> "SphereProduct":
        """The tree whose root has `branching[0]` children, each of which has `branching[1]`, ...; () is one leaf."""
        for count in branching:
            require_positive("branching", count)
        tree: Any = tuple(range(math.prod(branching)))
        for count in reversed(branching):
            tree = tuple(tree[start : start + count] for start in range(0, len(tree), count))
        return cls(tree[0], leaf_dimension, radius)

    @property
    def num_leaves(self) -> int:
        """The number of leaves."""
        return len(_leaves(self.tree))

    @property
    def total_dimension(self) -> int:
        """d, the sum of the leaves' dimensions."""
        return self.num_leaves * self.leaf_dimension

    @property
    def leaf(self) -> Sphere:
        """The domain of one leaf."""
        return Sphere(self.leaf_dimension, self.radius)

    def multi_index(self, degrees: Degrees) -> tuple[int, ...]:
        """The degree in every leaf, from those of the active leaves alone, {leaf: degree}.

        Degrees of all leaves stay as they are: every function of degrees takes both forms. Leaves count from 0, as in
        the tree.

        >>> import ntkbias as nb
        >>> nb.domains.SphereProduct.regular((2, 2), 3).multi_index({1: 2})
        (0, 2, 0, 0)
        """
        return self._checked(degrees)

    def frequency_index(self, degrees: Degrees) -> float:
        """F = a_leaf times the sum of the degrees, where leaf_dimension = d^a_leaf."""
        return math.log(self.leaf_dimension, self.total_dimension) * sum(self._checked(degrees))

    def spatial_index(self, degrees: Degrees) -> float:
        """S = the sum of a_u over the edges of the smallest subtree that joins the active leaves to the root."""
        degrees = self._checked(degrees)

        def sum_below(node: Any) -> float | None:
            """The sum over the edges below a node, or None if no leaf below it is active."""
            if isinstance(node, int):
                return 0.0 if degrees[node] > 0 else None
            sums = [below for child in node if (below := sum_below(child)) is not None]
            return sum(sums) + len(sums) * math.log(len(node), self.total_dimension) if sums else None

        return sum_below(self.tree) or 0.0

    def learning_index(self, degrees: Degrees) -> float:
        """L = S + F. The eigenvalue of these harmonics scales as d^-L."""
        return self.spatial_index(degrees) + self.frequency_index(degrees)

    def check(self, x: Array) -> None:
        shape = (self.num_leaves, self.leaf_dimension)
        if x.shape[1:] != shape or len(x) == 0:
            raise InputError(
                f"Expected inputs (n, {shape[0]}, {shape[1]}), one sphere per leaf; got shape {x.shape}. "
                "Reshape flat inputs."
            )
        require_on_spheres(x, self.radius, "Give SphereProduct(radius=...), or normalize each leaf.")

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Float[Array, "n leaves d"]:
        """Independent points, uniform on each leaf."""
        require_positive("num_inputs", num_inputs)
        x = self.leaf.sample(num_inputs * self.num_leaves, key=key)
        return x.reshape(num_inputs, self.num_leaves, self.leaf_dimension)

    def quadrature(self, num_inputs: int) -> tuple[Float[Array, "n leaves d"], Float[Array, " n"]]:
        """At most `num_inputs` nodes, and their weights.

        In up to four intrinsic dimensions this is the product of the leaves' rules. In more, it has equal weights on
        random orthonormal frames in each leaf, matched at random between leaves, and is the same in every call. It is
        exact for polynomials of degree 3 in one leaf. Functions of several leaves with mean square one have a random
        error of about 1 / sqrt(n).
        """
        require_positive("num_inputs", num_inputs)
        if self._has_product_rule:
            x, weights = self.leaf.quadrature(nodes_per_dimension(num_inputs, self.num_leaves))
            choice = np.stack(np.meshgrid(*[np.arange(len(x))] * self.num_leaves, indexing="ij"), -1)
            choice = choice.reshape(-1, self.num_leaves)
            return x[choice], weights[choice].prod(1)
        nodes = random_frames(num_inputs, self.leaf_dimension)
        rng = np.random.default_rng(1)
        x = jnp.asarray(np.stack([rng.permutation(nodes) for _ in range(self.num_leaves)], 1))
        return self.radius * x, jnp.full(len(x), 1 / len(x))

    @property
    def num_factors(self) -> int:
        return self.num_leaves

    def labels(self, max_degree: int) -> Int[np.ndarray, " s"]:
        """The index of a leaf's harmonic in `leaf.harmonics`."""
        return np.arange(len(self.leaf.degrees(max_degree)))

    def label_degrees(self, labels: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        counts, last = [1], int(np.max(labels, initial=0))
        while sum(counts) <= last:
            counts.append(self.leaf.multiplicity(len(counts)))
        return np.searchsorted(np.cumsum(counts), labels, side="right")

    def factor_functions(self, x: Array, labels: Int[np.ndarray, " s"]) -> Float[Array, "n c s"]:
        max_degree = int(self.label_degrees(labels).max(initial=0))
        flat = self.leaf.harmonics(x.reshape(-1, self.leaf_dimension), max_degree)
        return flat[:, labels].reshape(len(x), self.num_leaves, len(labels))

    def degrees(self, max_degree: int) -> Int[np.ndarray, "h leaves"]:
        """The degrees of each column of `harmonics`, one per leaf."""
        return self.label_degrees(self.modes(max_degree))

    def levels(self, max_degree: int) -> Int[np.ndarray, "levels leaves"]:
        """All tuples of degrees with a sum up to `max_degree`, ordered by this sum."""
        each = tuple(range(max_degree + 1))
        return multi_indices(each, each, self.num_leaves, max_degree)

    def multiplicity(self, degree: Degrees) -> int:
        """The product of the leaves' multiplicities."""
        return math.prod(self.leaf.multiplicity(r) for r in self._checked(degree))

    def harmonic(self, degree: Degrees, x: Array, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """The product over leaves of one random harmonic of each degree: leaves are independent."""
        return in_one_program(self._harmonic, self._checked(degree), x, require_key(key))

    def _harmonic(self, degrees: Any, x: Array, key: PRNGKeyArray) -> Float[Array, " n"]:
        keys = jax.random.split(key, self.num_leaves)
        value = jnp.ones_like(x[:, 0, 0])
        for leaf, r in enumerate(degrees):
            if r > 0:
                value = value * self.leaf.harmonic(r, x[:, leaf], key=keys[leaf])
        return value

    def projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        """The product over leaves of N(n, r_u) P_{r_u}(<x1_u, x2_u> / radius^2)."""
        return in_one_program(self._projectors, x1, x2, whole_number("max_degree", max_degree))

    def _projectors(self, x1: Array, x2: Array, max_degree: int) -> Float[Array, "levels n m"]:
        levels = self.levels(max_degree)
        product = jnp.ones((len(levels), len(x1), len(x2)), x1.dtype)
        for leaf in range(self.num_leaves):
            product = product * self.leaf.projectors(x1[:, leaf], x2[:, leaf], max_degree)[levels[:, leaf]]
        return product

    def frequency(self, degree: Array | np.ndarray) -> Array:
        """sqrt(sum of r_u (r_u + leaf_dimension - 2)) / radius, for tuples of degrees `(..., leaves)`."""
        return jnp.sqrt(jnp.sum(degree * (degree + self.leaf_dimension - 2.0), -1)) / self.radius

    def max_degree(self, num_inputs: int) -> int:
        """The largest degree up to which the harmonics are orthonormal on the product rule of `quadrature`.

        In more than four intrinsic dimensions: the largest one up to which there are at most half as many harmonics as
        inputs.
        """
        if self._has_product_rule:
            return self.leaf.max_degree(nodes_per_dimension(num_inputs, self.num_leaves))
        return self._degree_by_count(num_inputs)

    def intrinsic_dimension(self, x: Array) -> int:
        return self.num_leaves * (self.leaf_dimension - 1)

    def distance(self, x1: Float[Array, "n leaves d"], x2: Float[Array, "n leaves d"]) -> Float[np.ndarray, " n"]:
        """The geodesic distance of each pair: the root of the sum of squared arcs over leaves."""
        return arc_length(x1, x2, self.radius)

    def neighbors(self, x: Array) -> Edges:
        """Edges from each point to its ten nearest neighbors by Euclidean distance, with geodesic distances."""
        first, second = nearest_pairs(x)
        return Edges(first, second, self.distance(x[first], x[second]))

    def walk(self, x: Array, lengths: Float[Array, " n"], *, key: PRNGKeyArray) -> Array:
        """Each point, moved by its length along a geodesic in a random direction."""
        return walk_on_spheres(x, lengths, self.radius, key)

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """Geodesics of length `scale` in random directions, which start within one spacing of a node."""
        return random_steps(self, self.walk, x, scale, num_steps, key)

    def chart(self, x: Array) -> Float[np.ndarray, "n 2"]:
        """The first two principal components."""
        return PointCloud().chart(x)

    @property
    def _has_product_rule(self) -> bool:
        return self.num_leaves * (self.leaf_dimension - 1) <= MAX_PRODUCT_DIMENSIONS

    def _checked(self, degrees: Degrees) -> tuple[int, ...]:
        if isinstance(degrees, Mapping):
            for leaf in degrees.keys() - set(range(self.num_leaves)):
                raise InputError(f"Expected leaves from 0 to {self.num_leaves - 1}; got {leaf!r}.")
            degrees = [degrees.get(leaf, 0) for leaf in range(self.num_leaves)]
        values = np.asarray(degrees)
        if values.shape != (self.num_leaves,) or values.dtype.kind not in "iu" or values.min() < 0:
            raise InputError(
                f"Expected degrees of {self.num_leaves} whole numbers of zero or more, one per leaf; got {degrees!r}."
            )
        return tuple(values.tolist())


def _leaves(tree: Any) -> list[int]:
    """The leaves of a tree from left to right."""
    if isinstance(tree, tuple):
        return [leaf for child in tree for leaf in _leaves(child)] if all(child != () for child in tree) else []
    if isinstance(tree, bool) or not isinstance(tree, int):
        raise InputTypeError(f"Expected a tree of tuples and whole numbers; got {type(tree).__name__} in it.")
    return [tree]
