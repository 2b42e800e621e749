"""The networks as plain functions f(params, x), for any version of JAX. Sizes come from the parameters."""

import jax
import jax.numpy as jnp
from jax import lax


def mlp(params, x):
    """Dense layers with ReLU in between, like `ntkbias.nets.mlp`."""
    depth = len(params) - 1
    for k in range(depth):
        x = jax.nn.relu(_gain(k) * _scaled_dense(params[f"dense{k}.w"], x))
    return _scaled_dense(params[f"dense{depth}.w"], x)


def cnn_flatten(params, x):
    """Convolutions with ReLU, then a dense layer over all positions, like `ntkbias.nets.cnn`."""
    x = _scaled_convolutions(params, x)
    return _scaled_dense(params["dense.w"], x.reshape(len(x), -1))


def cnn_pooled(params, x):
    """Convolutions with ReLU, then a dense layer on the mean over positions."""
    return _scaled_dense(params["dense.w"], jnp.mean(_scaled_convolutions(params, x), (1, 2)))


def resnet18(params, x):
    """Basic blocks [2, 2, 2, 2] with projections where the channels change, and no normalization."""
    x = jax.nn.relu(_convolution(params["stem.w"], x))
    for stage in range(4):
        for block in range(2):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            branch = jax.nn.relu(_convolution(params[f"{name}_conv0.w"], x, stride))
            branch = _convolution(params[f"{name}_conv1.w"], branch)
            if f"{name}_shortcut.w" in params:
                x = _convolution(params[f"{name}_shortcut.w"], x, stride)
            x = jax.nn.relu(x + branch)
    return _affine(params, "head", jnp.mean(x, (1, 2)))


def transformer(params, x):
    """One pre-norm block: attention with four heads, GELU, then the mean over the sequence and a linear head."""
    n, length, width = x.shape
    heads = 4
    qkv = _affine(params, "qkv", _norm(params, "norm0", x)).reshape(n, length, 3, heads, width // heads)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / (width // heads) ** 0.5
    mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, -1), v).reshape(n, length, width)
    x = x + _affine(params, "projection", mixed)
    hidden = jax.nn.gelu(_affine(params, "expand", _norm(params, "norm1", x)), approximate=False)
    x = x + _affine(params, "reduce", hidden)
    return _affine(params, "head", jnp.mean(x, 1))


def function(network):
    """The function of the network with this name."""
    return mlp if network.startswith("mlp") else globals()[network]


def _gain(k):
    """The standard deviation of a layer's weights: ReLU's critical gain, except in the first layer."""
    return 2**0.5 if k else 1.0


def _scaled_dense(w, x):
    return (x @ w) / w.shape[0] ** 0.5


def _scaled_convolutions(params, x):
    for k in range(len(params) - 1):
        w = params[f"conv{k}.w"]
        x = jax.nn.relu(_gain(k) / (w.shape[0] * w.shape[1] * w.shape[2]) ** 0.5 * _convolution(w, x))
    return x


def _convolution(w, x, stride=1):
    pads = [(size // 2, size // 2) for size in w.shape[:2]]
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _affine(params, name, x):
    return x @ params[f"{name}.w"] + params[f"{name}.b"]


def _norm(params, name, x):
    centered = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(centered**2, -1, keepdims=True)
    return centered * lax.rsqrt(variance + 1e-5) * params[f"{name}.w"] + params[f"{name}.b"]
