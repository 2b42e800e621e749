"""A transformer of the Llama family as plain functions of (params, tokens): RMS norms, rotary positions, SwiGLU.

    h = h + attention(norm(h)),   h = h + (silu(norm(h) gate) * (norm(h) up)) down,   logits = norm(h) table^T

(Touvron et al. 2023, arXiv 2302.13971; rotary positions: Su et al. 2021, arXiv 2104.09864; SwiGLU: Shazeer 2020, arXiv
2002.05202.) The table of embeddings is tied: it also makes the logits. Layers are stacked along the first axis of their
weights and run in one scan, so that thirty compile as fast as one. Several query heads may share a key head.

>>> import jax, ntkbias as nb
>>> model = nb.language.Transformer(num_heads=2, num_key_heads=1)
>>> params = model.init(jax.random.key(0), vocabulary=50, width=8, hidden=16, depth=3)
>>> tokens = jax.random.randint(jax.random.key(1), (4, 6), 0, 50)
>>> model.logits(params, tokens).shape, model.last_logits(params, tokens).shape
((4, 6, 50), (4, 50))
>>> nb.empirical_ntk(nb.behaviors.contrast(model.last_logits, 7, 9), params)(tokens).shape
(4, 4)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.errors import InputError
from ntkbias.types import Params

__all__ = ["Transformer"]

Tokens = Int[Array | np.ndarray, "n t"]

BASE = 1e4  # of the rotary angles
EPSILON = 1e-5  # added to the mean square in norms
PADDING = -1  # fills contexts up to one length, after their last token


@dataclasses.dataclass(frozen=True)
class Transformer:
    """The structure of a transformer; its weights are the argument `params` of its methods.

    `num_heads` query heads share `num_key_heads` heads of keys and values. `base` is that of the rotary angles, and
    `epsilon` is added to mean squares in norms. Rotations act on neighboring pairs of coordinates. Token ids are
    `(n, t)`; contexts shorter than t end in `padding` ids, which no other token sees and which `last_logits` skips.

    `params` is {"table": (v, d), "norm": (d,), "layers": {...}}; the layers hold "query" (l, d, h), "key" and "value"
    (l, d, k), "mix" (l, h, d), "gate" and "up" (l, d, w), "down" (l, w, d), and two norms (l, d).

    >>> import jax
    >>> model = Transformer(num_heads=1, num_key_heads=1)
    >>> params = model.init(jax.random.key(0), vocabulary=5, width=4, hidden=6, depth=2)
    >>> model.hidden(params, jax.numpy.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    num_heads: int
    num_key_heads: int
    base: float = BASE
    epsilon: float = EPSILON
    padding: int = PADDING

    def __post_init__(self) -> None:
        require_positive("num_heads", self.num_heads)
        require_positive("num_key_heads", self.num_key_heads)
        if self.num_heads % self.num_key_heads:
            raise InputError(
                "Expected num_heads to be a multiple of num_key_heads, which they share; got "
                f"{self.num_heads} and {self.num_key_heads}."
            )

    def init(
        self, key: PRNGKeyArray, *, vocabulary: int, width: int, hidden: int, depth: int, head_width: int | None = None
    ) -> Params:
        """Random weights: Gaussian of standard deviation 1 / sqrt(inputs), 0.02 in the table, and norms of one.

        `width` is that of the residual stream, `hidden` that within SwiGLU, and `head_width` that of a head (default:
        width / num_heads). Raises `InputError` if a head's width is odd, since rotations act on pairs.
        """
        sizes = {"vocabulary": vocabulary, "width": width, "hidden": hidden, "depth": depth}
        for name, size in sizes.items():
            require_positive(name, size)
        own = width // self.num_heads if head_width is None else head_width
        if own < 2 or own % 2:
            raise InputError(f"Expected heads of even width, for rotations of pairs; got {own}. Choose head_width=.")
        queries, keys = self.num_heads * own, self.num_key_heads * own
        shapes = {
            "query": (width, queries),
            "key": (width, keys),
            "value": (width, keys),
            "mix": (queries, width),
            "gate": (width, hidden),
            "up": (width, hidden),
            "down": (hidden, width),
        }
        *draws, last = jax.random.split(require_key(key), len(shapes) + 1)
        layers: dict[str, Any] = {
            name: jax.random.normal(draw, (depth, *shape)) / shape[0] ** 0.5
            for draw, (name, shape) in zip(draws, shapes.items(), strict=True)
        }
        layers |= {"attention_norm": jnp.ones((depth, width)), "hidden_norm": jnp.ones((depth, width))}
        table = 0.02 * jax.random.normal(last, (vocabulary, width))
        return {"table": table, "layers": layers, "norm": jnp.ones(width)}

    def by_layer(self, params: Params) -> Params:
        """The same weights with a list of layers in place of stacked arrays, so that `wrt=` can select one of them.

        All methods take both. A list of 30 layers takes longer to compile.

        >>> import jax
        >>> model = Transformer(num_heads=1, num_key_heads=1)
        >>> params = model.init(jax.random.key(0), vocabulary=5, width=4, hidden=6, depth=2)
        >>> model.by_layer(params)["layers"][1]["query"].shape  # wrt="['layers'][1]" selects this layer
        (4, 4)
        """
        depth = len(params["layers"]["query"])
        layers = [jax.tree.map(lambda leaf, place=place: leaf[place], params["layers"]) for place in range(depth)]
        return {**params, "layers": layers}

    def hidden(self, params: Params, tokens: Tokens) -> Float[Array, "n t d"]:
        """The last hidden states, after the last norm, at all positions. Costs a forward pass without the logits."""
        h = params["table"][jnp.where(jnp.asarray(tokens) == self.padding, 0, tokens)]
        if isinstance(params["layers"], dict):
            h, _ = jax.lax.scan(lambda h, layer: (self._block(layer, h), None), h, params["layers"])
        else:
            for layer in params["layers"]:
                h = self._block(layer, h)
        return self._norm(h, params["norm"])

    def logits(self, params: Params, tokens: Tokens) -> Float[Array, "n t v"]:
        """The logits of the next token at all positions, in nats."""
        return self.hidden(params, tokens) @ params["table"].T

    def last_hidden(self, params: Params, tokens: Tokens) -> Float[Array, "n d"]:
        """The last hidden state of each context, at its last token that is not padding."""
        ends = jnp.sum(tokens != self.padding, 1) - 1
        return jnp.take_along_axis(self.hidden(params, tokens), ends[:, None, None], 1)[:, 0]

    def last_logits(self, params: Params, tokens: Tokens) -> Float[Array, "n v"]:
        """The logits of the token after each context: those at its last token that is not padding."""
        return self.last_hidden(params, tokens) @ params["table"].T

    def preferences(self, params: Params, tokens: Tokens) -> Float[Array, "n k"]:
        """Differences of the logits of k pairs of next tokens, where `params` is {"model": ..., "pairs": (k, 2)}.

        These are the values of `behaviors.contrast`. As the pairs are an argument, one compiled program serves all
        contrasts; and only the rows of the table that they name are multiplied. Kernels need `wrt="['model']"`.

        >>> import jax, jax.numpy as jnp, ntkbias as nb
        >>> model = Transformer(num_heads=1, num_key_heads=1)
        >>> params = model.init(jax.random.key(0), vocabulary=9, width=4, hidden=6, depth=1)
        >>> variables = {"model": params, "pairs": jnp.array([[3, 4], [5, 6]])}
        >>> nb.empirical_ntk(model.preferences, variables, outputs="each", wrt="['model']")(jnp.array([[1, 2]])).shape
        (2, 1, 1)
        """
        table = params["model"]["table"]
        read_outs = table[params["pairs"][:, 0]] - table[params["pairs"][:, 1]]
        return self.last_hidden(params["model"], tokens) @ read_outs.T

    def mean_embedding(self, params: Params, tokens: Tokens) -> Float[Array, "n d"]:
        """The mean of the embeddings of each context's tokens: what the table knows without a network."""
        known = tokens != self.padding
        found = params["table"][jnp.where(known, tokens, 0)] * known[..., None]
        return jnp.sum(found, 1) / jnp.sum(known, 1, keepdims=True)

    def _norm(self, h: Array, scale: Array) -> Array:
        return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + self.epsilon) * scale

    def _block(self, layer: Params, h: Array) -> Array:
        h = h + self._attention(layer, self._norm(h, layer["attention_norm"]))
        inner = self._norm(h, layer["hidden_norm"])
        return h + (jax.nn.silu(inner @ layer["gate"]) * (inner @ layer["up"])) @ layer["down"]

    def _attention(self, layer: Params, h: Array) -> Array:
        n, t, _ = h.shape
        shared = self.num_heads // self.num_key_heads
        width = layer["query"].shape[-1] // self.num_heads
        queries = self._rotated((h @ layer["query"]).reshape(n, t, self.num_key_heads, shared, width))
        keys = self._rotated((h @ layer["key"]).reshape(n, t, self.num_key_heads, 1, width))[:, :, :, 0]
        values = (h @ layer["value"]).reshape(n, t, self.num_key_heads, width)
        scores = jnp.einsum("nqkgd,nskd->nkgqs", queries, keys) / width**0.5
        scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf)
        mixed = jnp.einsum("nkgqs,nskd->nqkgd", jax.nn.softmax(scores), values)
        return mixed.reshape(n, t, -1) @ layer["mix"]

    def _rotated(self, heads: Float[Array, "n t k g d"]) -> Array:
        """Rotate each pair of coordinates by an angle that grows with the position."""
        t, width = heads.shape[1], heads.shape[-1]
        angles = jnp.arange(t)[:, None] * self.base ** (-jnp.arange(0, width, 2) / width)
        cosine, sine = (part.astype(heads.dtype)[:, None, None] for part in (jnp.cos(angles), jnp.sin(angles)))
        even, odd = heads[..., ::2], heads[..., 1::2]
        turned = jnp.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1)
        return turned.reshape(heads.shape)
