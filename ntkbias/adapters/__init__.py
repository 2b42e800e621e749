"""Adapters: models of other libraries as f(params, x), ready for every kernel and measure.

Each adapter returns a pair `f, params`. `params` is the library's own pytree of trainable parameters. `f(params, x)`
maps a batch to a batch, with everything else in the model fixed at inference (dropout off, BatchNorm on its stored
statistics). The adapter does not change your model. It imports its library when it is called. To install the libraries,
run `pip install 'ntkbias[models]'`.

    flax_nnx(model)                     a flax.nnx module
    flax_linen(module, variables)       a flax.linen module and what `module.init` returned
    equinox(model)                      an equinox module that maps one example
    haiku(transformed, params, state)   what `hk.transform` or `hk.transform_with_state` returned
    keras(model)                        a Keras 3 model on its JAX backend

A network of neural-tangents also knows its infinite-width limit, so it becomes a layer:

    from_stax(init_fn, apply_fn, kernel_fn)   what a function of `stax` returned, after
                                              `from ntkbias.adapters.neural_tangents import stax`

Any f(params, x) becomes a function of low-rank factors that are trained in place of its matrices:

    lora(f, params, rank, key=key)            LoRA, with its parameters {"factors": ..., "frozen": params}

The other way, a kernel goes into the estimators of scikit-learn, which needs nothing further:

    sklearn_kernel(kernel, input_shape)       `kernel=` of KernelRidge, SVC, SVR, GaussianProcessRegressor

>>> import equinox as eqx, jax, ntkbias as nb
>>> f, params = nb.adapters.equinox(eqx.nn.MLP(2, 3, 8, 1, key=jax.random.key(0)))
>>> nb.empirical_ntk(f, params)(jax.numpy.ones((4, 2))).shape
(4, 4)

Compiled programs are kept per f. If you adapt the same model again, the new f equals the old one, so nothing compiles
again. After training, pass the new parameters to the same f, or adapt the model again.

A function of params and x needs no adapter. For a model with several inputs or a mask, write an `f` that calls it, or
choose the function to call by `method=`.

JAX cannot trace a PyTorch module. Its weights can be shared without a copy, but the forward pass has to be rewritten:

    params = {name: jax.numpy.from_dlpack(weight.detach()) for name, weight in module.named_parameters()}

    def f(params, x):  # torch.nn.Sequential(Linear, ReLU, Linear); torch's Linear stores (outputs, inputs)
        h = jax.nn.relu(x @ params["0.weight"].T + params["0.bias"])
        return h @ params["2.weight"].T + params["2.bias"]

Compare `f(params, x)` with `module(x)` before you trust the results. The weights of a PyTorch convolution are
`(out, in, height, width)`, which is the layout ("NCHW", "OIHW", "NCHW") of `jax.lax.conv_general_dilated`. The page
docs/pytorch.md shows the other way: an operator whose products PyTorch computes.
"""

import importlib
from typing import Any

from ntkbias.adapters.from_equinox import equinox
from ntkbias.adapters.from_flax import flax_linen, flax_nnx
from ntkbias.adapters.from_haiku import haiku
from ntkbias.adapters.from_keras import keras
from ntkbias.adapters.low_rank import lora
from ntkbias.adapters.to_sklearn import sklearn_kernel

__all__ = ["equinox", "flax_linen", "flax_nnx", "haiku", "keras", "lora", "sklearn_kernel"]


def __getattr__(name: str) -> Any:
    """`from_stax` or the module `neural_tangents`, loaded on first use because they import that library."""
    if name not in ("from_stax", "neural_tangents"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.neural_tangents")
    return module if name == "neural_tangents" else module.from_stax


def __dir__() -> list[str]:
    return sorted(__all__)
