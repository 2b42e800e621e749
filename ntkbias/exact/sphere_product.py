"""Exact spectra on products of spheres, the inputs of Xiao 2021 (Eigenspace Restructuring, arXiv 2112.05611).

An input has a vector of length `radius` in each leaf of a tree. A kernel that is invariant under rotations of each leaf
is a function K(t) of the leaves' cosines t_u. Its eigenfunctions are products of harmonics, one of degree r_u per leaf.
Their eigenvalue is

    mu_r = E[K(t) prod_u P_{r_u}(t_u)],  t_u independent with density proportional to (1 - t^2)^{(n-3)/2}

where n is the leaves' dimension. Active leaves, those with r_u > 0, are integrated by a product of Gauss-Gegenbauer
rules. Inactive leaves are integrated by the same rule if the product has few enough nodes, else by random draws in
pairs T and -T. K depends on thousands of inactive leaves only through averages over them, so few draws suffice: the
relative deviation of a draw is 1 / sqrt(leaves n), and that of a pair's mean 1 / (leaves n). The spread of the pairs
gives the error.

>>> import ntkbias as nb
>>> leaves = nb.domains.SphereProduct((0, 1), leaf_dimension=4)
>>> exact = product_spectrum(nb.infinite_nngp(nb.nets.mlp(depth=1)), leaves, max_degree=2)
>>> exact.degrees.tolist(), exact.multiplicities.tolist()            # (1, 0) stands for (0, 1) as well
([[0, 0], [1, 0], [2, 0], [1, 1]], [1.0, 8.0, 18.0, 16.0])
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Float, PRNGKeyArray

from ntkbias.checks import key_or_default, require_positive
from ntkbias.domains import SphereProduct
from ntkbias.errors import InputError
from ntkbias.exact.profile import (
    checked_invariance,
    checked_kernel,
    gegenbauer,
    kernel_values,
    rotation,
)
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel

__all__ = ["product_spectrum", "spectrum_of_degrees"]

MAX_NODES = 30_000  # of a product rule over all leaves; if it needs more, inactive leaves are drawn at random
# Nodes per leaf, minus the largest degree, of the coarse and of the fine rule. The keys are numbers of active leaves.
EXTRA_NODES = {1: (20, 30), 2: (11, 16)}
EXTRA_NODES_OF_MANY = (6, 9)  # for three active leaves or more
DEVIATIONS = 3  # standard deviations of the draws' mean, and of its rounding, that the errors allow for
NUM_SHUFFLES = 4  # a single one may leave everything in place
MAX_BATCH = 2**22  # cosines in one batch
PART, LEAST_ROWS = 2**16, 256  # cosines, and inputs at least, that one call of the kernel takes: it compiles once
ROUNDINGS = 8  # the rounding error of a kernel's value, in eps times the largest value

Tree = int | tuple


def product_spectrum(kernel: Kernel, domain: SphereProduct, max_degree: int) -> ExactSpectrum:
    """The eigenvalues of all degrees r with a sum of at most `max_degree`, one row per class under symmetry.

    The tree's symmetries exchange subtrees of equal shape. The `degrees` of a row are one member of its class, and its
    multiplicity counts the harmonics of all members. Raises `InputError` for a kernel without these symmetries.
    """
    _checked_symmetry(kernel, domain)
    classes = [found for total in range(max_degree + 1) for found in _classes(domain.tree, total)]
    leaves = domain.num_leaves
    degrees = np.zeros((len(classes), leaves), int)
    for row, (places, _) in enumerate(classes):
        for leaf, degree in places:
            degrees[row, leaf] = degree
    exact = spectrum_of_degrees(kernel, domain, degrees)
    sizes = np.array([size for _, size in classes], float)
    return ExactSpectrum(**{**vars(exact), "multiplicities": sizes * exact.multiplicities})


def spectrum_of_degrees(
    kernel: Kernel,
    domain: SphereProduct,
    degrees: ArrayLike | Sequence[Sequence[int] | Mapping[int, int]],
    *,
    num_draws: int = 32,
    key: PRNGKeyArray | None = None,
) -> ExactSpectrum:
    """The eigenvalues of a kernel on a product of spheres, for given degrees `(rows, leaves)`.

    A row may also name the active leaves alone, {leaf: degree}, which is shorter on many leaves.

    The multiplicity of a row counts the harmonics with exactly these degrees in these leaves. If a product rule would
    have more than 30,000 nodes, `num_draws` pairs of random cosines replace the inactive leaves; `key` draws them
    (default: a fixed one). Evaluates the kernel on about 4 num_draws m^active pairs per row. Here m is the largest
    degree plus 30 with one active leaf, plus 16 with two, and plus 9 with more.

    Raises `InputError` for a kernel that is not invariant under rotations of each leaf.

    >>> import ntkbias as nb
    >>> net = nb.nets.patch_network(width=8, branching=(2,), activation="relu")
    >>> pair = nb.domains.SphereProduct.regular((2,), 3)
    >>> nb.exact.spectrum_of_degrees(nb.infinite_ntk(net), pair, [[0, 0], [1, 0], [1, 1]]).eigenvalues.shape
    (3,)
    """
    checked_kernel(kernel)
    require_positive("num_draws", num_draws)
    leaves, n = domain.num_leaves, domain.leaf_dimension
    if isinstance(degrees, list | tuple) and any(isinstance(row, Mapping) for row in degrees):
        degrees = np.array([domain.multi_index(row) for row in degrees])
    degrees = np.asarray(degrees)
    if degrees.ndim != 2 or degrees.shape[1] != leaves or degrees.dtype.kind not in "iu" or np.any(degrees < 0):
        raise InputError(
            f"Expected degrees of shape (rows, {leaves}), whole numbers of zero or more, one per leaf; got shape "
            f"{degrees.shape} of {degrees.dtype}."
        )
    seed = np.asarray(jax.random.key_data(key_or_default(key))).tolist()
    space = _Cosines(kernel, domain)
    rows = [_eigenvalue(space, row, num_draws, np.random.default_rng(seed)) for row in degrees]
    eigenvalues, errors = (np.array(column) for column in zip(*rows, strict=True))
    return ExactSpectrum(
        eigenvalues=eigenvalues,
        degrees=degrees,
        multiplicities=np.array([domain.multiplicity(row) for row in degrees.tolist()], float),
        errors=errors,
        frequencies=np.sqrt(np.sum(degrees * (degrees + n - 2.0), 1)) / space.radius,
        trace=np.asarray(space(np.ones((1, leaves)))[0]),
        labels=tuple(f"leaf {leaf}" for leaf in range(leaves)),
    )


class _Cosines:
    """A kernel as a function of the cosines `(q, leaves)`."""

    def __init__(self, kernel: Kernel, domain: SphereProduct) -> None:
        self.kernel, self.leaves, self.n = kernel, domain.num_leaves, domain.leaf_dimension
        self.radius = float(domain.radius)
        rng = np.random.default_rng(0)
        t = rng.uniform(-0.9, 0.9, (8, self.leaves))
        pole, points = self._inputs(t, self.n)
        turns = np.stack([rotation(self.n, seed) for seed in range(min(self.leaves, 16))])
        turns = turns[rng.integers(len(turns), size=self.leaves)]
        turned = (np.einsum("qun,unm->qum", side, turns) for side in (pole, points))
        values = kernel_values(kernel, pole, points)
        checked_invariance(values, kernel_values(kernel, *turned), np.full(values.shape, 1 / 8), "rotated in each leaf")
        self.dimension = self._least_dimension(t, values)

    def __call__(self, cosines: Float[np.ndarray, "q u"]) -> Float[np.ndarray, " q"]:
        """The kernel's values, in parts of one size, so that one program serves all rows of degrees."""
        size = max(LEAST_ROWS, PART // self.leaves)
        values = []
        for start in range(0, len(cosines), size):
            part = cosines[start : start + size]
            padded = np.concatenate([part, np.broadcast_to(part[-1:], (size - len(part), self.leaves))])
            values.append(kernel_values(self.kernel, *self._inputs(padded, self.dimension))[0][: len(part)])
        return np.concatenate(values)

    def _inputs(self, cosines: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
        """A pole on the first axis, and points at these cosines to it.

        The square of a leaf's norm, divided by `dimension`, is as in the domain.
        """
        radius = self.radius * math.sqrt(dimension / self.n)
        pole = np.zeros((1, self.leaves, dimension))
        pole[..., 0] = radius
        points = np.zeros((len(cosines), self.leaves, dimension))
        points[..., 0], points[..., 1] = radius * cosines, radius * np.sqrt(1 - cosines**2)
        return pole, points

    def _least_dimension(self, t: np.ndarray, values: np.ndarray) -> int:
        """Two, if the kernel depends only on a leaf's inner products over its dimension, as layers do; else n.

        Inputs with leaves of dimension two take far less memory.
        """
        try:
            small = kernel_values(self.kernel, *self._inputs(t, 2))
        except (TypeError, ValueError):  # the network accepts only inputs of the domain's shape
            return self.n
        return 2 if np.allclose(small, values, rtol=1e-12, atol=0) else self.n


def _eigenvalue(space: _Cosines, row: np.ndarray, num_draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """mu_r and its error, which adds truncation, rounding and the spread of the draws of inactive leaves."""
    active = np.flatnonzero(row)
    nodes = int(row.max(initial=0)) + max(EXTRA_NODES_OF_MANY)
    if nodes**space.leaves <= MAX_NODES:  # every leaf by its rule
        active, rest = np.arange(space.leaves), np.zeros((1, space.leaves))
    elif len(active) == space.leaves:
        rest = np.zeros((1, space.leaves))
    else:
        t = 2 * rng.beta((space.n - 1) / 2, (space.n - 1) / 2, (num_draws, space.leaves)) - 1
        rest = np.stack([t, -t], 1).reshape(-1, space.leaves)
    rules = EXTRA_NODES.get(len(active), EXTRA_NODES_OF_MANY)
    found = [_means(space, row, active, rest, more) for more in rules]
    few, many = (int(row.max(initial=0)) + more for more in rules)
    (coarse, _), (values, rounding) = found
    pairs = values.reshape(-1, 2).mean(1) if len(values) > 1 else values
    spread = np.std(pairs, ddof=1) / math.sqrt(len(pairs)) if len(pairs) > 1 else 0.0
    # ReLU kernels are singular at cosine 1. If the error falls as nodes^-1, or faster, this bounds it by the gap
    # between the two rules.
    truncation = abs(coarse.mean() - values.mean()) * few / (many - few)
    return float(pairs.mean()), float(DEVIATIONS * spread + rounding + truncation)


def _means(
    space: _Cosines, row: np.ndarray, active: np.ndarray, rest: np.ndarray, more: int
) -> tuple[np.ndarray, float]:
    """E over the active leaves of K prod P, for each draw of the others, and the rounding error of its mean."""
    rules = [_leaf_rule(space.n, int(row[leaf]), int(row.max(initial=0)) + more) for leaf in active]
    points = np.array(list(itertools.product(*(nodes for nodes, _ in rules)))).reshape(-1, len(active))
    weights = np.array([math.prod(w) for w in itertools.product(*(w for _, w in rules))])
    means, largest = [], 0.0
    for draws in np.array_split(rest, -(-rest.size * len(points) // MAX_BATCH)):
        cosines = np.repeat(draws, len(points), 0)
        cosines[:, active] = np.tile(points, (len(draws), 1))
        values = space(cosines).reshape(len(draws), -1)
        means.append(values @ weights)
        largest = max(largest, float(np.abs(values).max()))
    # Neighboring nodes have similar rounding errors, which add up. Random draws make the errors independent.
    sum_of_errors = np.sum(np.abs(weights))
    if len(rest) > 1:
        sum_of_errors = DEVIATIONS * np.linalg.norm(weights) / math.sqrt(len(rest))
    return np.concatenate(means), ROUNDINGS * float(np.finfo(float).eps * largest * sum_of_errors)


def _leaf_rule(n: int, degree: int, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Gegenbauer nodes, and weights for E[f(t) P_degree(t)] on the sphere S^{n-1}."""
    nodes, weights = scipy.special.roots_gegenbauer(num_nodes, n / 2 - 1)
    *_, polynomial = gegenbauer(nodes, n, degree)
    return nodes, weights / weights.sum() * polynomial


def _shape(tree: Tree) -> Tree:
    """The tree without the numbers of its leaves."""
    return 0 if isinstance(tree, int) else tuple(map(_shape, tree))


Placed = tuple[tuple[int, int], ...]  # (leaf, degree) of the active leaves


def _classes(tree: Tree, total: int) -> Iterator[tuple[Placed, int]]:
    """Yield degrees with this sum on the leaves of a tree, one per class under its symmetries, with the class size."""
    if total == 0:
        yield (), 1
    elif isinstance(tree, int):
        yield ((tree, total),), 1
    else:
        by_shape: dict[Tree, list[Tree]] = {}
        for child in tree:
            by_shape.setdefault(_shape(child), []).append(child)
        groups = list(by_shape.values())
        for sums in _compositions(total, len(groups)):
            for parts in itertools.product(*(list(_same_shape(g, s)) for g, s in zip(groups, sums, strict=True))):
                placed = tuple(itertools.chain.from_iterable(places for places, _ in parts))
                yield placed, math.prod(size for _, size in parts)


def _same_shape(children: list[Tree], total: int) -> Iterator[tuple[Placed, int]]:
    """The same for several subtrees of equal shape. A class is then a multiset of classes, active subtrees first."""
    for partition in _partitions(total, len(children)):
        options = []
        for part, run in itertools.groupby(partition):
            # Number the classes: the i-th class of one subtree is the i-th of another.
            count, kinds = len(list(run)), len(list(_classes(children[0], part)))
            options.append([(part, chosen) for chosen in itertools.combinations_with_replacement(range(kinds), count)])
        for choice in itertools.product(*options):
            active = [(part, kind) for part, chosen in choice for kind in chosen]
            placed: Placed = ()
            size = math.perm(len(children), len(active))
            for child, (part, kind) in zip(children, active, strict=False):
                places, inner = list(_classes(child, part))[kind]
                placed, size = placed + places, size * inner
            for pair in set(active):
                size //= math.factorial(active.count(pair))
            yield placed, size


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all tuples of this many numbers of zero or more with this sum."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for others in _compositions(total - first, parts - 1):
            yield (first, *others)


def _partitions(total: int, most: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """Yield all descending tuples of at most `most` positive numbers with this sum."""
    if total == 0:
        yield ()
    elif most:
        for first in range(min(total, total if largest is None else largest), 0, -1):
            for others in _partitions(total - first, most - 1, first):
                yield (first, *others)


def _checked_symmetry(kernel: Kernel, domain: SphereProduct) -> None:
    """Raise an `InputError` if the kernel changes when subtrees of equal shape change places."""
    checked_kernel(kernel)
    rng = np.random.default_rng(0)
    x0, x = rng.normal(size=(2, 4, domain.num_leaves, domain.leaf_dimension))
    x0, x = (side / np.linalg.norm(side, axis=-1, keepdims=True) * domain.leaf_dimension**0.5 for side in (x0, x))
    values = kernel_values(kernel, x0, x)
    for _ in range(NUM_SHUFFLES):
        order = np.array(_shuffled(domain.tree, rng))
        moved = kernel_values(kernel, x0[:, order], x[:, order])
        checked_invariance(values, moved, np.full(values.shape, 1 / 16), "moved between subtrees of equal shape")


def _shuffled(tree: Tree, rng: np.random.Generator) -> list[int]:
    """The leaves after a random symmetry of the tree."""
    if isinstance(tree, int):
        return [tree]
    children = [_shuffled(child, rng) for child in tree]
    shapes = [_shape(child) for child in tree]
    for shape in set(shapes):
        places = [place for place, other in enumerate(shapes) if other == shape]
        moved = rng.permutation(places)
        for place, source in zip(places, [children[source] for source in moved], strict=True):
            children[place] = source
    return list(itertools.chain.from_iterable(children))
