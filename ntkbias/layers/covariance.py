"""The covariance that an infinitely wide network carries from layer to layer, instead of activations.

At infinite width the channels of a layer are independent Gaussian fields over pairs (example, position). Two kernels
describe the layer. They are functions of two inputs x, x' and two positions p, q:

    nngp = E[z(x, p) z(x', q)]         the covariance of the channels (Lee et al. 2018)
    ntk  = <dz(x, p), dz(x', q)>       the inner product of their gradients (Jacot et al. 2018, arXiv 1806.07572)

A readout that flattens needs only p = q. One that pools needs all pairs. An activation needs the variances of each
input. `Needs` says which of these are carried. Before the first layer, nngp is the mean of x(p) x'(q) over the input's
channels, and ntk is zero.

>>> import jax.numpy as jnp
>>> from ntkbias.layers import Covariance
>>> c = Covariance.of_inputs(jnp.ones((3, 2)), jnp.ones((4, 2)))
>>> c.nngp.shape, c.self1.shape, c.num_positions
((3, 4), (3,), 0)
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ntkbias.errors import InputError
from ntkbias.layers.parameterizations import Scales
from ntkbias.types import Parameterization

__all__ = ["Covariance", "Needs", "Positions", "materialized"]


class Positions(enum.IntEnum):
    """The pairs of positions (p, q) that an array holds. They are ordered: a larger set contains the smaller ones.

    >>> from ntkbias.layers import Positions
    >>> Positions.EQUAL < Positions.ALL
    True
    """

    NONE = 0
    EQUAL = 1  # p = q only: (..., *positions)
    ALL = 2  # (..., *positions of the first, *positions of the second)


class Needs(NamedTuple):
    """The parts of its inputs' covariance that a layer needs, for itself and for later layers.

    >>> from ntkbias.layers import Needs, Positions
    >>> Needs().cross, Needs(cross=Positions.ALL).cross
    (<Positions.EQUAL: 1>, <Positions.ALL: 2>)
    """

    cross: Positions = Positions.EQUAL  # pairs of positions in the kernels between two inputs
    own: Positions = Positions.NONE  # the same in the nngp of each input with itself, which holds its variances

    def __or__(self, other: "Needs") -> "Needs":  # type: ignore[override]
        """The needs of both layers together."""
        return Needs(max(self.cross, other.cross), max(self.own, other.own))


class Covariance(eqx.Module):
    """The covariance of a layer's channels between two sets of inputs, and of each input with itself.

    `P` stands for the axes of positions. There are none for vectors, one per spatial axis if only equal positions are
    carried, and two sets of them, `(h, w, h', w')`, if all pairs are. `cross` says which for `nngp` and `ntk`; `own`
    says it for `self1` and `self2`. `ntk` is None if it is zero. `self1` and `self2` are None if no later layer needs
    them.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = jnp.eye(2)
    >>> covariance = nb.layers.Covariance.of_inputs(x, x, nb.layers.Needs())
    >>> covariance.nngp.tolist(), covariance.ntk is None
    ([[0.5, 0.0], [0.0, 0.5]], True)
    """

    nngp: Float[Array, "n m *P"]
    ntk: Float[Array, "n m *P"] | None
    self1: Float[Array, "n *Q"] | None  # nngp of each of the first inputs with itself
    self2: Float[Array, "m *Q"] | None  # nngp of each of the second inputs with itself
    shape: tuple[int, ...] = eqx.field(static=True)  # of one example at finite width: (*positions, channels)
    cross: Positions = eqx.field(static=True, default=Positions.EQUAL)
    own: Positions = eqx.field(static=True, default=Positions.EQUAL)
    gaussian: bool = eqx.field(static=True, default=False)  # whether an activation's formula applies
    trained: bool = eqx.field(static=True, default=True)  # whether a layer's own parameters add to the ntk

    @classmethod
    def of_inputs(
        cls,
        x1: Array,
        x2: Array,
        needs: Needs = Needs(Positions.EQUAL, Positions.EQUAL),  # noqa: B008 (immutable)
        *,
        same: Bool[Array, "n m"] | None = None,
    ) -> "Covariance":
        """The covariance of raw inputs `(n, *positions, channels)`.

        `same` marks the pairs in which an input of `x2` is the very input of `x1`. Their covariance is set to the
        variance. Otherwise the two would be sums over features in different orders, and rounding would hide an angle of
        zero.
        """
        positions = x1.shape[1:-1]
        size = math.prod(positions)
        cross, own = (min(each, Positions.EQUAL) if not positions else each for each in needs)
        a, b = (x.reshape(len(x), size, x.shape[-1]) for x in (x1, x2))
        letters = {Positions.EQUAL: ("npc,mpc->nmp", "npc,npc->np"), Positions.ALL: ("npc,mqc->nmpq", "npc,nqc->npq")}
        nngp = jnp.einsum(letters[cross][0], a, b) / x1.shape[-1]
        if same is not None:
            variances = jnp.einsum("npc,npc->np", a, a)[:, None] / x1.shape[-1]
            if cross == Positions.ALL:
                variances, equal = variances[..., None], jnp.eye(size, dtype=bool)
            else:
                equal = jnp.ones(size, bool)
            nngp = jnp.where(same.reshape(*same.shape, *(1,) * equal.ndim) & equal, variances, nngp)

        def with_itself(x: Array) -> Array | None:
            if not own:
                return None
            return (jnp.einsum(letters[own][1], x, x) / x1.shape[-1]).reshape(len(x), *positions * int(own))

        return cls(
            nngp=nngp.reshape(len(a), len(b), *positions * int(cross)),
            ntk=None,
            self1=with_itself(a),
            self2=with_itself(b),
            shape=x1.shape[1:],
            cross=cross,
            own=own,
        )

    @property
    def positions(self) -> tuple[int, ...]:
        """The sizes of the spatial axes of one example."""
        return self.shape[:-1]

    @property
    def num_positions(self) -> int:
        """The number of spatial axes of one example."""
        return len(self.shape) - 1

    @property
    def variances(self) -> tuple[Array, Array]:
        """The variance at each position of the first inputs `(n, *positions)` and of the second `(m, *positions)`."""
        if self.self1 is None or self.self2 is None:
            raise InputError(
                "Expected a covariance that carries the variance of each input; got one without. "
                "A layer that uses variances has to request them in its `needs`, by own=Positions.EQUAL or ALL."
            )
        return self.at_equal(self.self1, self.own), self.at_equal(self.self2, self.own)

    def at_equal(self, array: Array, carried: Positions) -> Array:
        """The entries of one of this covariance's arrays at equal positions, `(..., *positions)`."""
        if carried != Positions.ALL:
            return array
        lead = array.shape[: array.ndim - 2 * self.num_positions]
        size = math.prod(self.positions)
        square = array.reshape(*lead, size, size)
        return jnp.diagonal(square, axis1=-2, axis2=-1).reshape(*lead, *self.positions)

    def paired(self, first: Array, second: Array, carried: Positions) -> tuple[Array, Array]:
        """Arrays `(..., *positions)` of the two inputs, expanded to broadcast over the pairs of positions carried."""
        if carried != Positions.ALL:
            return first, second
        axes = range(self.num_positions)  # the axes of p precede those of q
        return jnp.expand_dims(first, [-1 - a for a in axes]), jnp.expand_dims(
            second, [first.ndim - len(axes) + a for a in axes]
        )

    def map(self, linear: Callable[[Array, Positions], Array]) -> "Covariance":
        """Apply a linear map of the position axes to each array. `linear(array, carried)` is told the array's pairs."""

        def mapped(array: Array | None, carried: Positions) -> Array | None:
            return None if array is None else linear(array, carried)

        return dataclasses.replace(
            self,
            nngp=linear(self.nngp, self.cross),
            ntk=mapped(self.ntk, self.cross),
            self1=mapped(self.self1, self.own),
            self2=mapped(self.self2, self.own),
        )

    def affine(
        self,
        mean: Callable[[Array, Positions], Array] | None = None,
        *,
        w_std: float | Array,
        b_std: float | Array | None,
        b_init: float | Array,
        fan_in: int,
        parameterization: Parameterization,
        fan_out: int = 1,
        readout: bool = False,
    ) -> "Covariance":
        """The covariance after a linear layer with independent Gaussian weights and biases.

        `mean` averages an array over the inputs that one output sees; by default the array is such a mean already.
        Write A for this average. The layer gives nngp' = w_std^2 A(nngp) + (b_std b_init)^2, and ntk' = w_std^2 A(ntk)
        plus the contribution of its own parameters. That contribution is w_std^2 A(nngp) + b_std^2 in the NTK
        parameterization. In the standard one it is fan_in A(nngp) + 1, which grows with the width (Sohl-Dickstein et
        al. 2020, arXiv 2001.07301). Under muP it is `fan_out` times that of the NTK parameterization; the `readout`
        has w_std^2 / fan_in in place of w_std^2 before A(nngp) in nngp' and before A(ntk), which cancels that growth.
        """
        after = self if mean is None else self.map(mean)
        bias = 0.0 if b_std is None else (b_std * b_init) ** 2
        scales = Scales(parameterization, fan_in, fan_out, readout)
        gain = scales.gain(w_std)
        self1, self2 = (None if own is None else gain * own + bias for own in (after.self1, after.self2))
        ntk = None if after.ntk is None else gain * after.ntk
        if self.trained:
            added = scales.trained(w_std) * after.nngp + (0.0 if b_std is None else scales.bias_trained(b_std))
            ntk = added if ntk is None else ntk + added
        nngp = gain * after.nngp + bias
        return dataclasses.replace(after, nngp=nngp, ntk=ntk, self1=self1, self2=self2, gaussian=True)

    def activate(
        self,
        dual: Callable[[Array, Array, Array], tuple[Array, Array]],
        moment: Callable[[Array], Array] | None = None,
    ) -> "Covariance":
        """The covariance after an elementwise function phi, given its `dual`.

        `dual(covariance, variance1, variance2)` returns E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for centered Gaussians
        u, v. The second value multiplies the ntk (chain rule). `moment(variance)` returns E[phi(u)^2]; it may replace
        `dual` at equal arguments, at lower cost.
        """

        def with_itself(own: Array, variance: Array) -> Array:
            if moment is not None and self.own != Positions.ALL:
                return moment(own)
            return dual(own, *self.paired(variance, variance, self.own))[0]

        variance1, variance2 = self.variances
        nngp, derivative = dual(self.nngp, *self.paired(variance1[:, None], variance2[None], self.cross))
        self1, self2 = (
            None if own is None else with_itself(own, variance)
            for own, variance in ((self.self1, variance1), (self.self2, variance2))
        )
        ntk = None if self.ntk is None else self.ntk * derivative
        return dataclasses.replace(self, nngp=nngp, ntk=ntk, self1=self1, self2=self2, gaussian=False)

    def __add__(self, other: "Covariance") -> "Covariance":
        """The covariance of the sum of two independent layers' outputs."""

        def total(a: Array | None, b: Array | None) -> Array | None:
            return b if a is None else a if b is None else a + b

        return dataclasses.replace(
            self,
            nngp=self.nngp + other.nngp,
            ntk=total(self.ntk, other.ntk),
            self1=total(self.self1, other.self1),
            self2=total(self.self2, other.self2),
            gaussian=self.gaussian and other.gaussian,
        )

    def reshaped(self, shape: tuple[int, ...]) -> "Covariance":
        """The same covariance for outputs of another shape. Without positions, equal positions are the only pairs."""
        cross, own = (
            carried if len(shape) > 1 else min(carried, Positions.EQUAL) for carried in (self.cross, self.own)
        )
        return dataclasses.replace(self, shape=shape, cross=cross, own=own)

    def without_own(self) -> "Covariance":
        """The same without the covariance of each input with itself, which no later layer needs."""
        return dataclasses.replace(self, self1=None, self2=None, own=Positions.NONE)

    def restricted(self, needs: Needs) -> "Covariance":
        """The same at no more pairs of positions than `needs` asks for, and without variances if it asks for none."""
        after = self if needs.own else self.without_own()
        cross, own = min(after.cross, needs.cross), min(after.own, needs.own)

        def part(array: Array, carried: Positions, wanted: Positions) -> Array:
            return array if carried == wanted else self.at_equal(array, carried)

        return dataclasses.replace(
            after,
            nngp=part(after.nngp, after.cross, cross),
            ntk=None if after.ntk is None else part(after.ntk, after.cross, cross),
            self1=None if after.self1 is None else part(after.self1, after.own, own),
            self2=None if after.self2 is None else part(after.self2, after.own, own),
            cross=cross,
            own=own,
        )


def materialized(array: Array) -> Array:
    """The array. On a CPU it is written to memory before it is read.

    XLA fuses a padded array into every slice of it, and then tests for each entry of each slice whether it lies in the
    padding. On a CPU this makes a sum of shifted windows 4 times slower. Accelerators do better with the fusion.
    """
    return jax.lax.optimization_barrier(array) if jax.default_backend() == "cpu" else array
