"""neural-tangents: the compiled `kernel_fn(x1, x2, "ntk")` of the same `stax` network, at once or with `nt.batch`."""

import importlib.metadata
import math

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from infinite_cases import NETS, Case
from neural_tangents import stax
from worker import Part, Work, serve

GAIN = math.sqrt(2)
BATCH = {"mlp": 500, "cnn_flatten": 50, "resnet": 10}  # 4 for the others


def net(described: tuple) -> tuple:
    """The stax network with this description."""

    def layer(kind: str, *arguments) -> tuple:
        if kind == "conv":
            window, stride = arguments
            return stax.Conv(8, (window, window), (stride, stride), "SAME", W_std=GAIN)
        if kind == "average":
            return stax.AvgPool((arguments[0],) * 2, (arguments[0],) * 2, "VALID")
        if kind == "residual":
            branch, shortcut = arguments
            parallel = stax.parallel(net(branch), net(shortcut) if shortcut else stax.Identity())
            return stax.serial(stax.FanOut(2), parallel, stax.FanInSum())
        plain = {"relu": stax.Relu(), "flatten": stax.Flatten(), "pool": stax.GlobalAvgPool()}
        return stax.Dense(8, W_std=GAIN) if kind == "dense" else plain[kind]

    return stax.serial(*(layer(*each) for each in described))


def methods(case: Case) -> list[str]:
    return ["at once", "batches"]


def make(case: Case, path: str, method: str) -> Work:
    with np.load(path) as data:
        x1, x2 = jnp.asarray(data["x1"]), jnp.asarray(data["x2"]) if case.m else None
    _, _, kernel_fn = net(NETS[case.net])
    if method == "batches":
        kernel = nt.batch(lambda x1, x2: kernel_fn(x1, x2, "ntk"), batch_size=BATCH.get(case.net, 4), device_count=0)
    else:
        kernel = jax.jit(lambda x1, x2: kernel_fn(x1, x2, "ntk"))
    return Work({method: Part(lambda: jax.block_until_ready(kernel(x1, x2)))}, np.asarray)


if __name__ == "__main__":
    serve({name: importlib.metadata.version(name) for name in ("neural-tangents", "jax")}, methods, make, Case)
