"""What an infinitely wide network carries from layer to layer instead of activations.

At infinite width the channels of a layer are independent Gaussian fields over pairs (example, position), so a layer
is described by two kernels of two inputs x, x' and two positions p, q:

    nngp = E[z(x, p) z(x', q)]         the covariance of the channels (Lee et al. 2018)
    ntk  = <dz(x, p), dz(x', q)>       the inner product of their gradients (Jacot et al. 2018, arXiv 1806.07572)

A read-out that flattens needs only p = q; one that pools needs all pairs. Before the first layer, nngp is the mean over
the input's channels of x(p) x'(q), and ntk is zero.

>>> import jax.numpy as jnp
>>> from ntkbias.layers import Covariance
>>> c = Covariance.of_inputs(jnp.ones((3, 2)), jnp.ones((4, 2)))
>>> c.nngp.shape, c.self1.shape, c.num_positions
((3, 4), (3,), 0)
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.types import Parameterization

__all__ = ["Covariance"]


class Covariance(eqx.Module):
    """The covariance of a layer's channels between two sets of inputs, and of each input with itself.

    `P` stands for the axes of positions: none for vectors; one per spatial axis where only equal positions are
    carried (`pairs=False`); two sets of them, `(h, w, h', w')`, where all pairs are (`pairs=True`).
    """

    nngp: Float[Array, "n m *P"]
    ntk: Float[Array, "n m *P"]
    self1: Float[Array, "n *P"]  # nngp of each of the first inputs with itself
    self2: Float[Array, "m *P"]  # and of each of the second
    shape: tuple[int, ...] = eqx.field(static=True)  # of one example at finite width: (*positions, channels)
    pairs: bool = eqx.field(static=True, default=False)
    gaussian: bool = eqx.field(static=True, default=False)  # whether an activation's formula applies

    @classmethod
    def of_inputs(cls, x1: Array, x2: Array, *, pairs: bool = False) -> "Covariance":
        """The covariance of raw inputs `(n, *positions, channels)`; `pairs` asks for all pairs of positions."""
        positions = x1.shape[1:-1]
        pairs = pairs and bool(positions)
        a, b = (x.reshape(len(x), -1, x.shape[-1]) for x in (x1, x2))
        shape = (*positions, *positions) if pairs else positions
        cross, alone = ("npc,mqc->nmpq", "npc,nqc->npq") if pairs else ("npc,mpc->nmp", "npc,npc->np")

        def product(rule, left, right, *lead):
            return jnp.einsum(rule, left, right).reshape(*lead, *shape) / x1.shape[-1]

        nngp, self1 = product(cross, a, b, len(a), len(b)), product(alone, a, a, len(a))
        if x1 is x2:  # sums of many features in two orders would differ, and an angle of zero be lost in it
            each = jnp.arange(len(a))
            nngp = nngp.at[each, each].set(self1)
        return cls(
            nngp=nngp,
            ntk=jnp.zeros_like(nngp),
            self1=self1,
            self2=product(alone, b, b, len(b)),
            shape=x1.shape[1:],
            pairs=pairs,
        )

    @property
    def num_positions(self) -> int:
        """The number of spatial axes of one example."""
        return len(self.shape) - 1

    def same_position(self, array: Array) -> Array:
        """The entries at equal positions, `(..., *positions)`, of one of this covariance's arrays `(..., *P)`."""
        if not self.pairs:
            return array
        positions = self.shape[:-1]
        lead = array.shape[: array.ndim - 2 * self.num_positions]
        square = array.reshape(*lead, math.prod(positions), math.prod(positions))
        return jnp.diagonal(square, axis1=-2, axis2=-1).reshape(*lead, *positions)

    def map(self, linear: Callable[[Array], Array]) -> "Covariance":
        """Apply to each of the four arrays what a layer does to the position axes, e.g. an average over windows."""
        return self._with(*(linear(array) for array in self._arrays))

    def affine(
        self,
        mean: Callable[[Array], Array],
        *,
        w_std: float | Array,
        b_std: float | Array | None,
        b_init: float | Array,
        fan_in: int,
        parameterization: Parameterization,
    ) -> "Covariance":
        """The covariance after a linear layer with independent Gaussian weights and biases.

        `mean` averages an array over the inputs that one output sees. With A its action, the layer gives
        nngp' = w_std^2 A(nngp) + (b_std b_init)^2 and ntk' = w_std^2 A(ntk) + (what its own weights add): in the NTK
        parameterisation w_std^2 A(nngp) + b_std^2; in the standard one fan_in A(nngp) + 1, which grows with the width
        (Sohl-Dickstein et al. 2020, arXiv 2001.07301).
        """
        nngp, ntk, self1, self2 = (mean(array) for array in self._arrays)
        bias = 0.0 if b_std is None else (b_std * b_init) ** 2
        if parameterization == "ntk":
            weights_term, bias_term = w_std**2 * nngp, 0.0 if b_std is None else b_std**2
        else:
            weights_term, bias_term = fan_in * nngp, 0.0 if b_std is None else 1.0
        ntk = w_std**2 * ntk + weights_term + bias_term
        nngp, self1, self2 = (w_std**2 * array + bias for array in (nngp, self1, self2))
        return dataclasses.replace(self._with(nngp, ntk, self1, self2), gaussian=True)

    def activate(self, dual: Callable[[Array, Array, Array], tuple[Array, Array]]) -> "Covariance":
        """The covariance after an elementwise function whose `dual` is given.

        `dual(covariance, variance1, variance2)` returns E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for centred Gaussians
        u, v; the second multiplies the ntk (chain rule).
        """
        variance1, variance2 = (self.same_position(array) for array in (self.self1, self.self2))
        axes = range(self.num_positions)
        after = [-1 - axis for axis in axes]  # in the pairs layout a position p stands before its partner q
        if self.pairs:
            first1, second1 = jnp.expand_dims(variance1, after), jnp.expand_dims(variance1, [1 + a for a in axes])
            first2, second2 = jnp.expand_dims(variance2, after), jnp.expand_dims(variance2, [1 + a for a in axes])
        else:
            first1 = second1 = variance1
            first2 = second2 = variance2
        nngp, derivative = dual(self.nngp, first1[:, None], second2[None])
        self1, _ = dual(self.self1, first1, second1)
        self2, _ = dual(self.self2, first2, second2)
        return dataclasses.replace(self._with(nngp, self.ntk * derivative, self1, self2), gaussian=False)

    def __add__(self, other: "Covariance") -> "Covariance":
        """The covariance of the sum of two independent layers' outputs."""
        total = self._with(*(a + b for a, b in zip(self._arrays, other._arrays, strict=True)))
        return dataclasses.replace(total, gaussian=self.gaussian and other.gaussian)

    @property
    def _arrays(self) -> tuple[Array, Array, Array, Array]:
        return self.nngp, self.ntk, self.self1, self.self2

    def _with(self, nngp: Array, ntk: Array, self1: Array, self2: Array) -> "Covariance":
        return dataclasses.replace(self, nngp=nngp, ntk=ntk, self1=self1, self2=self2)

    def reshaped(self, shape: tuple[int, ...]) -> "Covariance":
        """The same covariance for outputs of another shape; without positions there are no pairs of them."""
        return dataclasses.replace(self, shape=shape, pairs=self.pairs and len(shape) > 1)
