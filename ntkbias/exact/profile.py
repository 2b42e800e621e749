"""The profile of a zonal kernel: its values as a function of the angle between two inputs of equal length.

A kernel that shares the sphere's symmetry is K(x, x') = f(t) with cos t = <x, x'> / (|x| |x'|). Its profile f is
evaluated in float64 on pairs of inputs, and again on the same pairs after a random rotation. A small difference between
the two measures the rounding error at every node. A large one shows that the kernel is not invariant.

Profiles are smooth inside (0, pi) and singular at its ends. ReLU kernels are analytic in t, not in cos t. The deeper a
network of step functions, the lower is the power with which its kernel begins: t^(1/2), then t^(1/4). The double
exponential rule (Takahasi and Mori 1974)

    t = pi / (1 + exp(-pi sinh u)),  u = -m h, ..., m h

converges geometrically for every algebraic singularity at the ends. Every other node makes the coarse rule of step 2 h.

>>> import numpy as np
>>> rule = angle_rule(0.05)
>>> print(np.sum(rule.weights * np.sqrt(rule.near * (np.pi - rule.near))))            # pi^3 / 8
3.8757845850
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ntkbias.errors import InputError
from ntkbias.kernels import Kernel
from ntkbias.kernels.kernel import require_kernel

__all__ = [
    "PI",
    "AngleRule",
    "angle_rule",
    "checked_invariance",
    "checked_kernel",
    "gauss_legendre",
    "gegenbauer",
    "kernel_values",
    "on_plane",
    "rotation",
    "rounding_of",
]

MAX_CALL_SIZE = 2**20  # numbers in the inputs of one call of the kernel
MIN_CALL_ROWS = 256  # inputs
MAX_U = 3.6  # the u at which the rule ends, 1e-24 from the end of the interval
NOISE_FACTOR = 2  # the mean rounding error at a node is at most this many times the difference after one rotation
ROUNDINGS = 8  # in a node and its weight, per dimension
PI = 4 * np.arctan(np.longdouble(1))
INVARIANT = 1e-5  # allowed relative change under a symmetry: above float32 rounding, below the noise of finite widths


class AngleRule(NamedTuple):
    """Nodes on (0, pi) and their weights, in the longest float type; sums with them keep this type."""

    near: Float[np.ndarray, " q"]  # the distance of a node to the nearest end
    at_pi: Bool[np.ndarray, " q"]  # whether that end is pi
    weights: Float[np.ndarray, " q"]
    coarse: Bool[np.ndarray, " q"]  # whether the node belongs to the coarse rule

    def density(self, dimension: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights for means over S^{dimension - 1}, with density sin^{d-2}, for this rule and for the coarse one."""
        weights = self.weights * np.sin(self.near) ** (dimension - 2)
        coarse = np.where(self.coarse, weights, 0.0)
        return weights / weights.sum(), coarse / coarse.sum()

    def cosine(self) -> np.ndarray:
        """The cosines of the nodes. They keep the longest type, since recurrences in the degree amplify rounding."""
        return np.where(self.at_pi, -1, 1) * np.cos(self.near)


def angle_rule(step: float) -> AngleRule:
    """The double exponential rule with this step in u, for integrals over (0, pi)."""
    half = int(np.ceil(MAX_U / step))
    index = np.arange(-half, half + 1)
    u = np.longdouble(step) * index
    small = np.exp(-PI * np.abs(np.sinh(u)))
    weights: np.ndarray = step * PI**2 * np.cosh(u) * small / (1 + small) ** 2
    return AngleRule(PI * small / (1 + small), u > 0, weights, index % 2 == 0)


def gauss_legendre(num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss-Legendre nodes in (0, 1), ascending, and weights that sum to one, in the longest float type.

    Newton's method refines the float64 nodes, whose weights have lost some digits.
    """
    x: np.ndarray = np.polynomial.legendre.leggauss(num_nodes)[0].astype(np.longdouble)
    for _ in range(2):
        before: np.ndarray = np.ones_like(x)
        now: np.ndarray = x
        for k in range(1, num_nodes):
            before, now = now, ((2 * k + 1) * x * now - k * before) / (k + 1)
        slope = num_nodes * (x * now - before) / (x * x - 1)
        x = x - now / slope
    weights = 1 / ((1 - x * x) * slope**2)
    return (x + 1) / 2, weights / weights.sum()


def rounding_of(values: np.ndarray, noise: np.ndarray, weights: np.ndarray, dimension: int) -> np.ndarray:
    """A bound on the rounding error of the mean of values `(*r, q)` with these weights `(q,)`.

    `noise` `(*r, q)` is the measured rounding error of the kernel. The rule adds the rounding of its own type. The
    bound adds absolute errors over nodes, because errors of neighboring nodes do not average out: those of arccos, for
    example, are similar.
    """
    own = ROUNDINGS * dimension * np.finfo(weights.dtype).eps
    return np.asarray((NOISE_FACTOR * noise + own * np.abs(values)) @ np.abs(weights), float)


def gegenbauer(cosine: np.ndarray, dimension: int, max_degree: int) -> Iterator[np.ndarray]:
    """Yield P_0, P_1, ... of S^{dimension - 1} at these cosines, with P_k(1) = 1.

    The recurrence (k + d - 2) P_{k+1} = (2 k + d - 2) t P_k - k P_{k-1} is stable on [-1, 1].
    """
    before, now = np.ones_like(cosine), cosine
    yield before
    for k in range(1, max_degree + 1):
        yield now
        if k < max_degree:
            before, now = now, ((2 * k + dimension - 2) * cosine * now - k * before) / (k + dimension - 2)


def on_plane(near: np.ndarray, at_pi: np.ndarray, dimension: int, radius: float) -> np.ndarray:
    """Points `(q, dimension)` at these angles from the first axis, in the plane of the first two axes."""
    points = np.zeros((len(near), dimension))
    points[:, 0] = radius * np.where(at_pi, -1, 1) * np.cos(near)
    if dimension > 1:
        points[:, 1] = radius * np.sin(near)
    return points


def rotation(dimension: int, seed: int = 0) -> Float[np.ndarray, "d d"]:
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dimension, dimension)))[0]


def kernel_values(kernel: Kernel, x0: np.ndarray, x: np.ndarray) -> Float[np.ndarray, "n q"]:
    """The kernel of `x0` `(n, ...)` and `x` `(q, ...)` in float64, by calls of bounded size."""
    rows = 2 ** int(np.log2(max(1, MAX_CALL_SIZE // max(x[0].size, len(x0)))))
    rows = min(rows, max(MIN_CALL_ROWS, 2 ** int(np.ceil(np.log2(len(x))))))  # few shapes, few compilations
    parts = []
    with jax.enable_x64(True):
        for start in range(0, len(x), rows):
            piece = x[start : start + rows]
            if len(piece) < rows:
                piece = np.concatenate([piece, np.repeat(piece[-1:], rows - len(piece), 0)])
            values = kernel(jnp.asarray(x0, float), jnp.asarray(piece, float))
            parts.append(np.asarray(values, float)[:, : len(x) - start])
    return np.concatenate(parts, 1)


def checked_kernel(kernel: Any) -> None:
    """Raise an `InputError` unless this is a kernel with one value a pair of inputs."""
    require_kernel(kernel, "For a function of the cosine use DotProductKernel(profile).")
    if kernel.outputs not in ("mean", "sum"):
        raise InputError(
            f"Expected a kernel with one value per pair of inputs; got outputs={kernel.outputs!r}. Use outputs='mean'."
        )


def checked_invariance(values: np.ndarray, moved: np.ndarray, weights: np.ndarray, symmetry: str) -> np.ndarray:
    """The rounding error at each node: the difference between the kernel's values and those on the moved pairs.

    Raises `InputError` if the difference is larger than rounding. The `weights` of the nodes enter this test, because
    near a singularity few digits of a float64 cosine remain, but on a small share of the measure.
    """
    difference = np.abs(values - moved)
    relative = np.sqrt(np.sum(weights * difference**2) / max(np.sum(weights * values**2), np.finfo(float).tiny))
    if not relative < INVARIANT:
        raise InputError(
            f"Expected a kernel that stays the same when both inputs are {symmetry}; got one that changes by "
            f"{relative:.2g} of its size. Take the infinite-width kernel of a network with that symmetry, or "
            "spectrum(kernel, x, weights=weights) on inputs of the domain."
        )
    return difference + np.finfo(float).eps * np.abs(values)
