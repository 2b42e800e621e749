"""ntkbias: `infinite_ntk(net)(x)`; and a copy of an array too large for any cache, for the memory bandwidth."""

import importlib.metadata
import math

import jax
import jax.numpy as jnp
import numpy as np
from infinite_cases import NETS, Case
from worker import Part, Work, serve

import ntkbias as nb
from ntkbias import layers

COPIED = 2**26  # numbers of four bytes each
GAIN = math.sqrt(2)


def net(described: tuple) -> layers.Layer:
    """The ntkbias network with this description."""

    def layer(kind: str, *arguments) -> layers.Layer:
        if kind == "conv":
            window, stride = arguments
            return layers.Conv(8, (window, window), (stride, stride), w_std=GAIN)
        if kind == "average":
            return layers.AvgPool((arguments[0],) * 2, (arguments[0],) * 2, padding="VALID")
        if kind == "residual":
            branch, shortcut = map(net, arguments)
            return layers.Residual(branch, shortcut if arguments[1] else layers.Identity())
        plain = {"relu": layers.Relu(), "flatten": layers.Flatten(), "pool": layers.GlobalAvgPool()}
        return layers.Dense(8, w_std=GAIN) if kind == "dense" else plain[kind]

    return layers.Sequential(layer(*each) for each in described)


def methods(case: Case) -> list[str]:
    return ["ours", "copy"]


def make(case: Case, path: str, method: str) -> Work:
    if method == "copy":
        array = jnp.ones(COPIED, jnp.float32)
        copy = jax.jit(lambda x: x + 1)
        return Work({method: Part(lambda: copy(array).block_until_ready())})
    with np.load(path) as data:
        x1, x2 = jnp.asarray(data["x1"]), jnp.asarray(data["x2"]) if case.m else None
    kernel = nb.infinite_ntk(net(NETS[case.net]))
    return Work({method: Part(lambda: kernel(x1, x2).block_until_ready())}, np.asarray)


if __name__ == "__main__":
    serve({name: importlib.metadata.version(name) for name in ("ntkbias", "jax")}, methods, make, Case)
