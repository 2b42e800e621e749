"""The network of `tracking_case` as f(params, x), for any version of JAX, and one step of training."""

import jax
import jax.numpy as jnp
from tracking_case import RATE, STRIDES


def f(params, x):
    """Logits (n, 10)."""
    for k, stride in enumerate(STRIDES):
        x = jax.lax.conv_general_dilated(
            x, params[f"w{k}"], (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x)
    return jnp.mean(x, (1, 2)) @ params["out"]


def loss(params, x, y):
    """The mean cross entropy."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(f(params, x)), y[:, None], 1))


@jax.jit
def step(params, x, y, chosen):
    """One step of gradient descent on the chosen examples."""
    gradient = jax.grad(loss)(params, x[chosen], y[chosen])
    return jax.tree_util.tree_map(lambda p, g: p - RATE * g, params, gradient)


@jax.jit
def scan(params, x, y, chosen):
    """One step per row of chosen examples, as one program."""
    return jax.lax.scan(lambda p, rows: (step(p, x, y, rows), None), params, chosen)[0]
