"""Dense networks with PyTorch's default initialization, which some papers' experiments need.

>>> import jax
>>> init, f = pytorch_mlp(2, 60, 60, 1)
>>> f(init(jax.random.key(0)), jax.numpy.ones((5, 2))).shape
(5, 1)
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, PRNGKeyArray

from ntkbias.layers import activation as activation_layer
from ntkbias.types import ApplyFunction, Params

__all__ = ["pytorch_mlp"]


def pytorch_mlp(*sizes: int, activation: str = "relu") -> tuple[Callable[[PRNGKeyArray], Params], ApplyFunction]:
    """`init(key)` and `f(params, x)` of a dense network: weights and biases are uniform in +-1 / sqrt(fan-in).

    `sizes` are the numbers of inputs, of each layer's units, and of outputs. Weights are not scaled in f (the standard
    parameterization).
    """
    phi = activation_layer(activation)

    def init(key: PRNGKeyArray) -> Params:
        layers = []
        for fan_in, fan_out, own in zip(sizes, sizes[1:], jax.random.split(key, len(sizes) - 1), strict=False):
            weights, bias = jax.random.split(own)
            bound = fan_in**-0.5
            layers.append(
                {
                    "w": jax.random.uniform(weights, (fan_in, fan_out), minval=-bound, maxval=bound),
                    "b": jax.random.uniform(bias, (fan_out,), minval=-bound, maxval=bound),
                }
            )
        return layers

    def f(params: Params, x: Array) -> Array:
        for layer in params[:-1]:
            x = phi.apply((), x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return init, f
