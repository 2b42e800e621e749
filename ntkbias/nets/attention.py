"""Networks with attention."""

from functools import partial
from typing import Any

from ntkbias.checks import require_choice, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Activation, Dense, Layer, LayerNorm, Residual, SelfAttention, Sequential
from ntkbias.layers.attention import Mechanism, Scaling
from ntkbias.layers.layer import require_depth
from ntkbias.nets.options import READOUTS, Norm, Readout, activation_and_stds, is_mup
from ntkbias.types import Parameterization

__all__ = ["transformer"]


def transformer(
    width: int = 128,
    depth: int = 2,
    num_outputs: int = 1,
    *,
    num_heads: int = 4,
    readout: Readout = "pool",
    norm: Norm = "pre",
    encoding: Layer | None = None,
    scaling: Scaling = "linear",
    mechanism: Mechanism = "softmax",
    hidden_width: int | None = None,
    activation: str | Activation = "relu",
    w_std: float | None = None,
    b_std: float | None = None,
    b_init: float = 1.0,
    parameterization: Parameterization = "ntk",
) -> Layer:
    """A transformer of `depth` blocks (Vaswani et al. 2017) on inputs `(n, *positions, channels)`.

    A dense layer embeds each position. Each block adds self-attention to its input, and then adds two dense layers, the
    first of which has `hidden_width` units (default: 4 `width`). `norm="pre"` puts a LayerNorm before both additions,
    and one before the readout, as in GPT-2. "post" puts one after each sum, as in Vaswani et al. "none" uses none. Sums
    of linear layers are Gaussian at infinite width, so all three have a limit. `encoding`, e.g. `PositionalEncoding()`,
    comes after the embedding. Without one, a pooled transformer does not see the order of positions. (Put
    `SinusoidalEncoding` before the network: after the embedding it would give channels nonzero means, and LayerNorm
    would have no limit.)

    Each head has `width / num_heads` keys and values. `scaling` and `mechanism` are those of `SelfAttention`. Practice
    uses "sqrt" and "softmax", which have no limit in closed form. The attention's weights and the first dense layer of
    a block have `w_std` 1, because no activation precedes them. The second dense layer has the activation's gain.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.transformer(width=8, depth=1, num_outputs=3)
    >>> net.apply(net.init(jax.random.key(0), (5, 4)), jax.numpy.ones((2, 5, 4))).shape
    (2, 3)
    """
    require_choice("readout", readout, Readout)
    require_choice("norm", norm, Norm)
    phi, (first, hidden, last) = activation_and_stds(activation, 2, w_std)
    require_depth("depth", depth)
    for name, count in (("width", width), ("num_heads", num_heads), ("num_outputs", num_outputs)):
        require_positive(name, count)
    if width % num_heads:
        raise InputError(f"Expected a width that num_heads divides; got width={width} and num_heads={num_heads}.")
    if encoding is not None and not isinstance(encoding, Layer):
        raise InputTypeError(f"Expected encoding to be a layer, e.g. PositionalEncoding(); got {encoding!r}.")
    options: dict[str, Any] = {"b_std": b_std, "b_init": b_init, "parameterization": parameterization}
    dense = partial(Dense, b_std=b_std, b_init=b_init, parameterization=parameterization)
    size = width // num_heads
    attention = SelfAttention(width, size, size, num_heads, scaling, mechanism, first, first, first, first, **options)
    perceptron = (dense(4 * width if hidden_width is None else hidden_width, first), phi, dense(width, hidden))
    before, after = ((LayerNorm(),) if norm == where else () for where in ("pre", "post"))
    block = (Residual(Sequential((*before, attention))), *after, Residual(Sequential((*before, *perceptron))), *after)
    embedding = (dense(width, first), *(() if encoding is None else (encoding,)))
    return Sequential(
        (
            *embedding,
            *block * depth,
            *before,
            READOUTS[readout],
            dense(num_outputs, last, readout=is_mup(parameterization)),
        )
    )
