"""Adapters: other people's models as f(params, x), ready for every kernel and measure.

Each returns a pair: `params`, the library's own pytree of what is trained, and `f(params, x)`, which maps a batch to a
batch with everything else about the model held fixed, at inference (dropout off, BatchNorm on its stored statistics).
The model that is passed in is left as it was. A library is imported when its adapter is called: `pip install
'ntkbias[models]'` brings them.

    flax_nnx(model)                     a flax.nnx module
    flax_linen(module, variables)       a flax.linen module and what `module.init` returned
    equinox(model)                      an equinox module, of one example
    haiku(transformed, params, state)   what `hk.transform` or `hk.transform_with_state` returned
    keras(model)                        a model of Keras 3, on its JAX backend

A network of neural-tangents is more than that: it knows its infinite-width limit, and becomes a layer.

    from_stax(init_fn, apply_fn, kernel_fn)   what a function of `stax` returned, after
                                              `from ntkbias.adapters.neural_tangents import stax`

>>> import equinox as eqx, jax, ntkbias as nb
>>> f, params = nb.adapters.equinox(eqx.nn.MLP(2, 3, 8, 1, key=jax.random.key(0)))
>>> nb.empirical_ntk(f, params)(jax.numpy.ones((4, 2))).shape
(4, 4)

Compiled programs are kept per f. An adapter called again on the same model returns an equal f, so nothing compiles
again; after training, pass the new parameters to the f that is there, or adapt again.

A function of params and x needs no adapter, and neither does a model of several inputs or of a mask: write `f` around
it, or choose what is called by `method=`.

A PyTorch module cannot be traced by JAX. Its weights cross without a copy, its forward pass is written anew:

    params = {name: jax.numpy.from_dlpack(weight.detach()) for name, weight in module.named_parameters()}

    def f(params, x):  # torch.nn.Sequential(Linear, ReLU, Linear); torch's Linear stores (outputs, inputs)
        h = jax.nn.relu(x @ params["0.weight"].T + params["0.bias"])
        return h @ params["2.weight"].T + params["2.bias"]

Compare `f(params, x)` with `module(x)` before trusting the rest; a convolution's weights are `(out, in, height, width)`
there, the layout ("NCHW", "OIHW", "NCHW") of `jax.lax.conv_general_dilated`. The page docs/pytorch.md shows the other
way, an operator whose products PyTorch computes.
"""

import importlib
from typing import Any

from ntkbias.adapters.from_equinox import equinox
from ntkbias.adapters.from_flax import flax_linen, flax_nnx
from ntkbias.adapters.from_haiku import haiku
from ntkbias.adapters.from_keras import keras

__all__ = ["equinox", "flax_linen", "flax_nnx", "haiku", "keras"]


def __getattr__(name: str) -> Any:
    """`from_stax`, and the module `neural_tangents`: importing them imports that library, so only when asked for."""
    if name not in ("from_stax", "neural_tangents"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.neural_tangents")
    return module if name == "neural_tangents" else module.from_stax


def __dir__() -> list[str]:
    return sorted(__all__)
