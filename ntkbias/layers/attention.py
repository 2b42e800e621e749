r"""Self-attention over all positions, and its limit of many keys, values, heads (Hron et al. 2020, arXiv 2006.10540).

Let phi be the mechanism, V = x W_v the values, and G the logits, which are products of queries Q = x W_q and keys
K = x W_k. Head h computes f_h[p] = sum_a phi(G_h[p, a]) V_h[a], and the layer returns concat(f_1, ..., f_H) W + b. The
logits have one of two scalings:

    linear scaling  G = Q K / num_keys, and W_q and W_k are the same matrix. In the limit G is a number, w_query_std
                    w_key_std nngp(x, x)[p, a], so that    nngp'[p, q] = sum_ab A[p, a] nngp[a, b] A'[q, b],  A = phi(G)
    sqrt scaling    G = Q K / sqrt(num_keys), and the matrices are independent, as in practice. In the limit G is
                    Gaussian of covariance nngp[p, q] nngp[a, b], and nngp'[p, q] = sum_ab E[phi(G) phi(G')] nngp[a, b]

The formulas leave out the other stds. Under sqrt scaling, softmax has no closed form. The ntk follows from the product
rule. Under linear scaling the gradients of the query and key weights vanish in the limit and add nothing to the ntk.

>>> import jax, ntkbias as nb
>>> from ntkbias.layers import Dense, Flatten, SelfAttention, Sequential
>>> net = Sequential(SelfAttention(8, num_keys=8, num_values=8, num_heads=2), Flatten(), Dense(1))
>>> x = jax.random.normal(jax.random.key(0), (4, 5, 3))                # 4 sequences of 5 tokens
>>> nb.infinite_ntk(net)(x).shape
(4, 4)
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_choice, require_key, require_positive, require_scale
from ntkbias.errors import InputError
from ntkbias.layers.activations import Abs, Relu
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer, affine_init, affine_rates, require_some_positions
from ntkbias.layers.parameterizations import Scales
from ntkbias.types import Parameterization, Params

__all__ = ["Mechanism", "Scaling", "SelfAttention"]

Scaling = Literal["linear", "sqrt"]
Mechanism = Literal["softmax", "identity", "abs", "relu"]

MECHANISMS: dict[str, Callable[[Array], Array]] = {
    "softmax": jax.nn.softmax,  # over the keys, the last axis
    "identity": lambda logits: logits,
    "abs": jnp.abs,
    "relu": jax.nn.relu,
}
DUALS = {"relu": Relu().dual, "abs": Abs().dual}
MARGIN = 4  # the covariance of an input with itself may differ from its variance by this many eps


class SelfAttention(Layer):
    """Attention among all positions of an example: `(n, *positions, channels)` to `(n, *positions, num_outputs)`.

    `num_keys` and `num_values` are numbers of features per head. `b_std=None` means no bias, and `b_init` is as in
    `Dense`. With `scaling="linear"` queries and keys share a matrix, and their stds enter only as a product.

    With `parameterization="mup"` the scaling is linear, as Yang et al. (2022, arXiv 2203.03466) divide logits by
    num_keys. The layer is not a readout: end the network with `Dense(..., readout=True)`.

    The infinite-width limit has many keys and values, and with `scaling="sqrt"` many heads too. With sqrt scaling
    `mechanism="softmax"` has no limit in closed form: `apply` works, but an infinite-width kernel raises `InputError`.
    With P positions, the limit costs about P operations per entry of the covariance over all pairs of positions. With
    sqrt scaling, "relu" and "abs" cost about P^2 per entry.

    >>> import jax
    >>> from ntkbias.layers import SelfAttention
    >>> layer = SelfAttention(num_outputs=3, num_keys=4, num_values=4, num_heads=2)
    >>> params = layer.init(jax.random.key(0), (5, 4))
    >>> layer.apply(params, jax.numpy.ones((2, 5, 4))).shape
    (2, 5, 3)
    """

    num_outputs: int = eqx.field(static=True)
    num_keys: int = eqx.field(static=True)
    num_values: int = eqx.field(static=True)
    num_heads: int = eqx.field(static=True)
    scaling: Scaling = eqx.field(static=True, default="linear")
    mechanism: Mechanism = eqx.field(static=True, default="softmax")
    w_query_std: float = 1.0
    w_key_std: float = 1.0
    w_value_std: float = 1.0
    w_out_std: float = 1.0
    b_std: float | None = None
    b_init: float = 1.0
    parameterization: Parameterization = eqx.field(static=True, default="ntk")

    def __check_init__(self):
        for name in ("num_outputs", "num_keys", "num_values", "num_heads"):
            require_positive(f"{name} of SelfAttention", getattr(self, name))
        require_choice("scaling", self.scaling, Scaling)
        require_choice("mechanism", self.mechanism, Mechanism)
        require_choice("parameterization", self.parameterization, Parameterization)
        if self.parameterization == "mup" and self.scaling == "sqrt":
            raise InputError(
                'Expected scaling="linear" of SelfAttention with parameterization="mup", which divides logits by '
                'num_keys (Yang et al. 2022); got "sqrt". Change either.'
            )
        for name in ("w_query_std", "w_key_std", "w_value_std", "w_out_std", "b_std", "b_init"):
            if (value := getattr(self, name)) is not None:
                require_scale(f"{name} of SelfAttention", value)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        require_some_positions("SelfAttention", input_shape)
        return (*input_shape[:-1], self.num_outputs)

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        """Weights "query" (sqrt scaling only), "key" and "value", each `(channels, num_heads, features)`, and "out"."""
        self.output_shape(input_shape)
        channels = input_shape[-1]
        query_key, key_key, value_key, out_key = jax.random.split(require_key(key), 4)

        def weights(key: PRNGKeyArray, size: int, w_std: float) -> Array:
            scale = self._scales(channels, size).std(w_std)
            return scale * jax.random.normal(key, (channels, self.num_heads, size))

        if self.scaling == "linear":  # one matrix carries both stds
            params = {"key": weights(key_key, self.num_keys, (self.w_query_std * self.w_key_std) ** 0.5)}
        else:
            params = {
                "query": weights(query_key, self.num_keys, self.w_query_std),
                "key": weights(key_key, self.num_keys, self.w_key_std),
            }
        out = affine_init(
            out_key,
            (self.num_heads, self.num_values, self.num_outputs),
            scales=self._out_scales,
            w_std=self.w_out_std,
            b_std=self.b_std,
            b_init=self.b_init,
        )
        return {**params, "value": weights(value_key, self.num_values, self.w_value_std), "out": out}

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        keys, values = (self._scales(input_shape[-1], size).adam_rate for size in (self.num_keys, self.num_values))
        queries = {} if self.scaling == "linear" else {"query": keys}
        out = affine_rates(self._out_scales, self.b_std is not None)
        return {**queries, "key": keys, "value": values, "out": out}

    def _scales(self, channels: int, size: int) -> Scales:
        """The scales of the weights of queries, keys or values, which have `size` features per head."""
        return Scales(self.parameterization, channels, self.num_heads * size)

    @property
    def _out_scales(self) -> Scales:
        return Scales(self.parameterization, self.num_heads * self.num_values, self.num_outputs)

    def apply(self, params: Params, x: Float[Array, "n *positions c"]) -> Float[Array, "n *positions o"]:
        shape = self.output_shape(x.shape[1:])
        tokens = x.reshape(len(x), -1, x.shape[-1])
        keys, values = (jnp.einsum("npc,chd->nhpd", tokens, params[name]) for name in ("key", "value"))
        queries = keys if self.scaling == "linear" else jnp.einsum("npc,chd->nhpd", tokens, params["query"])
        logit_scale = 1 / self.num_keys ** (1.0 if self.scaling == "linear" else 0.5)
        output_scale = bias_scale = 1.0
        if self.parameterization != "standard":
            out, key, value = (
                self._out_scales,
                *(self._scales(x.shape[-1], s) for s in (self.num_keys, self.num_values)),
            )
            logit_scale *= self.w_query_std * self.w_key_std * key.multiplier(1.0) ** 2
            output_scale = value.multiplier(self.w_value_std) * out.multiplier(self.w_out_std)
            bias_scale = 0.0 if self.b_std is None else out.bias_multiplier(self.b_std)
        weights = MECHANISMS[self.mechanism](logit_scale * jnp.einsum("nhpd,nhqd->nhpq", queries, keys))
        heads = jnp.einsum("nhpq,nhqd->nhpd", weights, values)
        outputs = output_scale * jnp.einsum("nhpd,hdo->npo", heads, params["out"]["w"])
        if "b" in params["out"]:
            outputs += bias_scale * params["out"]["b"]
        return outputs.reshape(len(x), *shape)

    def decorrelates(self, before: bool) -> bool:
        return True

    def needs(self, after: Needs) -> Needs:
        """All pairs of positions. Of each input with itself, what the attention weights and later layers need."""
        if after.own or self.scaling == "linear":
            return Needs(Positions.ALL, Positions.ALL)
        return Needs(Positions.ALL, Positions.NONE if self.mechanism == "identity" else Positions.EQUAL)

    def propagate(self, covariance: Covariance) -> Covariance:
        shape = self.output_shape(covariance.shape)
        size = math.prod(shape[:-1])
        flat = _with_positions(covariance, (size,))
        heads = self._linear_heads(flat) if self.scaling == "linear" else self._sqrt_heads(flat)
        heads = _with_exact_variances(heads, flat) if heads.own == Positions.ALL else heads
        after = heads.affine(
            w_std=self.w_out_std,
            b_std=self.b_std,
            b_init=self.b_init,
            fan_in=self.num_heads * self.num_values,
            parameterization=self.parameterization,
            fan_out=self.num_outputs,
        )
        return _with_positions(after, shape[:-1]).reshaped(shape)

    def _projected(self, covariance: Covariance, w_std: float | Array, size: int) -> Covariance:
        """The covariance of queries, keys or values, which have `size` features per head."""
        return covariance.affine(
            w_std=w_std,
            b_std=None,
            b_init=1.0,
            fan_in=covariance.shape[-1],
            parameterization=self.parameterization,
            fan_out=self.num_heads * size,
        )

    def _linear_heads(self, covariance: Covariance) -> Covariance:
        """The covariance of a head's outputs under linear scaling, where the attention weights are not random."""
        std = self.w_query_std * self.w_key_std
        mechanism = MECHANISMS[self.mechanism]
        values = self._projected(covariance, self.w_value_std, self.num_values)

        def mixed(array: Any, weights1: Array, weights2: Array, letters: str) -> Any:
            return None if array is None else jnp.einsum(letters, weights1, array, weights2)

        weights1, weights2 = (mechanism(std * own) for own in _own(covariance))
        return dataclasses.replace(
            values,
            nngp=mixed(values.nngp, weights1, weights2, "npa,nmab,mqb->nmpq"),
            ntk=mixed(values.ntk, weights1, weights2, "npa,nmab,mqb->nmpq"),
            self1=mixed(values.self1, weights1, weights1, "npa,nab,nqb->npq"),
            self2=mixed(values.self2, weights2, weights2, "npa,nab,nqb->npq"),
        )

    def _sqrt_heads(self, covariance: Covariance) -> Covariance:
        """The covariance of a head's outputs under sqrt scaling, where the logits are Gaussian."""
        if self.mechanism == "softmax":
            raise InputError(
                'Expected scaling="linear", or a mechanism among identity, abs, relu, for an infinite-width kernel; '
                'got softmax with scaling="sqrt", whose limit has no closed form. Change either, or use empirical_ntk.'
            )
        query, key, value = (
            self._projected(covariance, std, size)
            for std, size in (
                (self.w_query_std, self.num_keys),
                (self.w_key_std, self.num_keys),
                (self.w_value_std, self.num_values),
            )
        )
        mixed = partial(_sum_of_duals, DUALS[self.mechanism]) if self.mechanism in DUALS else _sum_of_products
        variances = [each.variances for each in (query, key)] if covariance.own else []
        across = [(first[:, None], second[None]) for first, second in variances]
        nngp, ntk = mixed([query.nngp, key.nngp, value.nngp], [query.ntk, key.ntk, value.ntk], across)
        after = dataclasses.replace(query, nngp=nngp, ntk=ntk)
        if covariance.own != Positions.ALL:
            return after.without_own()
        nothing = [None] * 3
        self1, _ = mixed([query.self1, key.self1, value.self1], nothing, [(first, first) for first, _ in variances])
        self2, _ = mixed([query.self2, key.self2, value.self2], nothing, [(other, other) for _, other in variances])
        return dataclasses.replace(after, self1=self1, self2=self2)


def _sum_of_products(nngps: Sequence, ntks: Sequence, variances: Sequence) -> tuple[Array, Array | None]:
    """The kernels of sum_a (Q[p] . K[a]) V[a] from those of Q, K and V, each `(..., positions, positions)`."""
    (query, key, value), (query_ntk, key_ntk, value_ntk) = nngps, ntks
    total = jnp.sum(key * value, (-2, -1), keepdims=True)
    if query_ntk is None:
        return query * total, None
    slopes = jnp.sum(key_ntk * value + key * value_ntk, (-2, -1), keepdims=True)
    return query * total, query_ntk * total + query * slopes


def _sum_of_duals(
    dual: Callable[[Array, Array, Array], tuple[Array, Array]], nngps: Sequence, ntks: Sequence, variances: Sequence
) -> tuple[Array, Array | None]:
    """The kernels of sum_a phi(Q[p] . K[a]) V[a], computed one pair (p, q) at a time.

    `variances` holds the variances of Q and those of K. Each is a pair of arrays `(..., positions)`, for the first and
    for the second input.
    """
    (query, key, value), (query_ntk, key_ntk, value_ntk) = nngps, ntks
    (query1, query2), (key1, key2) = variances

    def one(pair: Array) -> tuple[Array, Array | None]:
        p, q = pair
        at = query[..., p, q, None, None]
        variance1 = query1[..., p, None, None] * key1[..., :, None]
        variance2 = query2[..., q, None, None] * key2[..., None, :]
        weight, slope = dual(at * key, variance1, variance2)
        nngp = jnp.sum(weight * value, (-2, -1))
        if query_ntk is None:
            return nngp, None
        logits_ntk = query_ntk[..., p, q, None, None] * key + at * key_ntk
        return nngp, jnp.sum(weight * value_ntk + slope * logits_ntk * value, (-2, -1))

    size = query.shape[-1]
    pairs = jnp.stack(jnp.unravel_index(jnp.arange(size**2), (size, size)), -1)
    found = jax.lax.map(one, pairs)
    return jax.tree.map(lambda array: jnp.moveaxis(array, 0, -1).reshape(query.shape), found)


def _with_exact_variances(after: Covariance, before: Covariance) -> Covariance:
    """The covariance in which the nngp of a pair of equal inputs is set to that of the input with itself.

    The two are sums in different orders, so their rounding errors differ. An activation takes the angle between two
    Gaussians, which turns a difference of eps into one of sqrt(eps). Only values are set: derivatives remain those of
    the pair.
    """

    def equal(own: Array) -> Array:
        off = jnp.max(jnp.abs(before.nngp - own), (-2, -1))
        return off <= MARGIN * jnp.finfo(own.dtype).eps * jnp.max(jnp.abs(own), (-2, -1))

    first, second = _own(before)
    same = equal(first[:, None]) & equal(second[None])
    snapped = jnp.where(same[..., None, None], _own(after)[0][:, None], after.nngp)
    return dataclasses.replace(after, nngp=after.nngp + jax.lax.stop_gradient(snapped - after.nngp))


def _own(covariance: Covariance) -> tuple[Array, Array]:
    """The covariances of each input with itself, which `needs` has requested."""
    assert covariance.self1 is not None
    assert covariance.self2 is not None
    return covariance.self1, covariance.self2


def _with_positions(covariance: Covariance, positions: tuple[int, ...]) -> Covariance:
    """The same covariance with its positions reshaped to other axes."""

    def reshaped(array: Array, carried: Positions) -> Array:
        lead = array.shape[: array.ndim - int(carried) * covariance.num_positions]
        return array.reshape(*lead, *positions * int(carried))

    return covariance.map(reshaped).reshaped((*positions, covariance.shape[-1]))
