"""The tables. A new layer, net or function is one line here, and gets every law for it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special as special

import ntkbias as nb
from ntkbias import layers
from ntkbias.domains import Circle, Gaussian, HarmonicDomain, Hypercube, Sphere, SphereProduct, Torus
from ntkbias.layers import (
    AvgPool,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Erf,
    Flatten,
    Frozen,
    Gelu,
    GlobalAvgPool,
    GlobalSumPool,
    Hermite,
    Identity,
    LayerNorm,
    LeakyRelu,
    LocallyConnected,
    PositionalEncoding,
    Product,
    RandomFourierFeatures,
    Relu,
    Residual,
    RMSNorm,
    Scale,
    SelfAttention,
    Sequential,
    Sin,
    SinusoidalEncoding,
    Step,
    Sum,
    SumPool,
    Tanh,
)
from ntkbias.nets import cnn, fourier_features, mlp, transformer


def spectrum_on_nodes(kernel, domain, num_nodes, **options):
    """The spectrum of a kernel on a domain's quadrature nodes, with their weights."""
    x, weights = domain.quadrature(num_nodes)
    return nb.spectrum(kernel, x, weights=weights, **options)


def _decay(distance):
    return np.exp(-distance / 3)


# name -> the layer, and the shape of one input. One nonlinear layer at most: the laws are exact at a finite width then.
LAYERS = {
    "dense": (Dense(3), (4,)),
    "dense, bias": (Dense(3, 1.5, 0.7), (4,)),
    "dense, bias from zero": (Dense(3, 1.5, 0.7, 0.0), (4,)),
    "dense, standard": (Dense(3, 1.5, 0.7, 0.5, "standard"), (4,)),
    "dense, mup": (Dense(3, 1.5, 0.7, 0.5, "mup"), (4,)),
    "conv, 1-D same": (Conv(3, (3,)), (5, 2)),
    "conv, 1-D even window": (Conv(3, (4,)), (5, 2)),
    "conv, 1-D strides": (Conv(3, (3,), (2,), "SAME", 1.5, 0.7), (6, 2)),
    "conv, 2-D valid": (Conv(3, (3, 2), (1, 2), "VALID", 1.5, 0.7), (4, 5, 2)),
    "conv, 2-D circular": (Conv(3, (3, 2), None, "CIRCULAR", 1.5), (3, 4, 2)),
    "conv, 2-D circular strides": (Conv(3, (3, 3), (2, 1), "CIRCULAR"), (4, 3, 2)),
    "conv, 2-D standard": (Conv(3, (2, 2), None, "SAME", 1.5, 0.7, 0.5, "standard"), (3, 2, 2)),
    "conv, 2-D mup readout": (
        Conv(3, (2, 2), None, "SAME", 1.5, 0.7, 0.5, "mup", readout=True),
        (3, 2, 2),
    ),
    "conv, 3-D": (Conv(2, (2, 2, 1), (1, 1, 2), "SAME", b_std=0.7, b_init=0.0), (2, 3, 3, 2)),
    "conv, 4-D": (Conv(2, (2, 1, 2, 1)), (2, 1, 2, 2, 2)),
    "conv, window of one": (Conv(3, (1, 1)), (2, 3, 2)),
    "conv, stride beyond window": (Conv(3, (2,), (3,), "VALID"), (8, 2)),
    "conv, window beyond image": (Conv(3, (5,), None, "CIRCULAR"), (3, 2)),
    "relu": (Relu(), (3,)),
    "relu, image": (Relu(), (2, 3, 2)),
    "erf": (Erf(), (3,)),
    "erf, image": (Erf(), (2, 3, 2)),
    "leaky relu": (LeakyRelu(0.2), (3,)),
    "step": (Step(), (3,)),
    "gelu": (Gelu(), (3,)),
    "sin, phase": (Sin(1.5, 0.8, 0.3), (3,)),
    "hermite": (Hermite(2), (3,)),
    "tanh": (Tanh(), (3,)),
    "flatten": (Flatten(), (2, 3, 2)),
    "flatten, vector": (Flatten(), (3,)),
    "pool": (GlobalAvgPool(), (2, 3, 2)),
    "pool, vector": (GlobalAvgPool(), (3,)),
    "identity": (Identity(), (2, 3)),
    "sequential": (Sequential((Relu(), Conv(4, (3,)), GlobalAvgPool(), Dense(3))), (4, 2)),
    "sequential, empty": (Sequential(()), (2, 3)),
    "residual": (Residual(Sequential((Relu(), Dense(3, 1.5, 0.7)))), (3,)),
    "residual, convolutions": (Residual(Sequential((Erf(), Conv(2, (3, 2), b_std=0.7)))), (3, 2, 2)),
    "residual, shortcut": (Residual(Sequential((Relu(), Conv(3, (3,), (2,)))), Conv(3, (1,), (2,))), (5, 2)),
    "dense, positions": (Dense(3, 1.5, 0.7), (2, 3, 2)),
    "conv, dilation": (Conv(3, (3, 2), (2, 1), "SAME", 1.5, 0.7, dilation=(1, 3)), (4, 5, 2)),
    "conv, dilation circular": (Conv(3, (3,), None, "CIRCULAR", dilation=(2,)), (4, 2)),
    "locally connected": (LocallyConnected(3, (3,), (2,), "SAME", 1.5, 0.7), (5, 2)),
    "average pool": (AvgPool((2, 2), (1, 2)), (3, 4, 2)),
    "average pool, edges": (AvgPool((3,), (2,), "SAME", normalize_edges=True), (6, 2)),
    "sum pool": (SumPool((2,), None, "CIRCULAR"), (3, 2)),
    "sum of all": (Sequential((Relu(), GlobalSumPool())), (3, 2)),
    "sum": (Sum((Sequential((Relu(), Conv(2, (2,)))), Identity(), Dense(2, 1.5, 0.7))), (3, 2)),
    "product": (Product((Dense(2, 1.5, 0.7), Sequential((LocallyConnected(2, (2,)), Relu())), Identity())), (3, 2)),
    "concatenate": (Concatenate((Identity(), Sequential((Relu(), Dense(3))))), (2, 2)),
    "scale, dropout and frozen": (Sequential((Scale(-0.5), Dropout(0.3), Frozen(Dense(3, 1.5, 0.7)))), (3,)),
    "layer norm": (LayerNorm(), (2, 3)),
    "layer norm, all": (LayerNorm(0.1, "all"), (2, 2, 3)),
    "attention": (SelfAttention(3, 4, 5, 2, b_std=0.7), (4, 2)),
    "attention, image": (SelfAttention(3, 4, 5, 2, mechanism="relu", parameterization="standard"), (2, 3, 2)),
    "attention, sqrt": (SelfAttention(3, 4, 5, 2, "sqrt", "identity", b_std=0.7), (4, 2)),
    "random Fourier features": (RandomFourierFeatures(4, 1.5), (2, 3)),
    "positional encoding": (PositionalEncoding(0.7), (3, 2)),
    "positional encoding, decay": (PositionalEncoding(0.7, decay=_decay, parameterization="standard"), (2, 3, 2)),
    "positional encoding, mup": (PositionalEncoding(0.7, decay=_decay, parameterization="mup"), (2, 3, 2)),
    "positional encoding, concat": (PositionalEncoding(0.7, "concat", 3, _decay, 1), (4, 2)),
    "sinusoidal encoding": (SinusoidalEncoding(0.7), (4, 2)),
    "sinusoidal encoding, concat": (SinusoidalEncoding(0.7, "concat"), (3, 2, 3)),
}

# name -> the layer for inputs of `width` channels, and the shape of one of them. Of these layers propagate is only the
# limit that apply tends to as the width grows; that is their law in place of the exact one. A layer in this table alone
# has all other laws too, at a small width.
LIMITS: dict[str, Callable[[int], tuple[Any, tuple[int, ...]]]] = {
    "layer norm": lambda width: (LayerNorm(), (2, width)),
    "layer norm, all": lambda width: (LayerNorm(0.1, "all"), (2, 2, width)),
    "RMS norm": lambda width: (RMSNorm(), (2, width)),
    "attention": lambda width: (SelfAttention(width, width, width, 2, b_std=0.7), (4, width)),
    "attention, image": lambda width: (
        SelfAttention(width, width, width, 2, mechanism="relu", parameterization="standard"),
        (2, 3, width),
    ),
    "attention, sqrt": lambda width: (  # logits that are random take many heads to average
        SelfAttention(width, width // 2, 2, width // 2, "sqrt", "identity", b_std=0.7),
        (4, width),
    ),
    "random Fourier features": lambda width: (RandomFourierFeatures(width, 1.5), (2, width)),
}
for _name, _build in LIMITS.items():
    LAYERS.setdefault(_name, _build(4))

# name -> the net of a width and a parameterization, and the shape of one input; two outputs each
NETS: dict[str, tuple[Callable[[int, str], Any], tuple[int, ...]]] = {
    "mlp, relu": (lambda w, p: mlp(w, 2, 2, parameterization=p), (3,)),
    "mlp, biases": (lambda w, p: mlp(w, 2, 2, w_std=1.3, b_std=0.5, parameterization=p), (3,)),
    "mlp, biases from zero": (lambda w, p: mlp(w, 1, 2, b_std=0.8, b_init=0.0, parameterization=p), (3,)),
    "mlp, erf": (lambda w, p: mlp(w, 2, 2, activation="erf", b_std=0.3, parameterization=p), (3,)),
    "cnn, flatten": (lambda w, p: cnn(w, 2, 2, kernel_size=(3, 2), b_std=0.3, parameterization=p), (3, 3, 2)),
    "cnn, pool": (lambda w, p: cnn(w, 2, 2, readout="pool", padding="CIRCULAR", parameterization=p), (3, 2, 2)),
    "cnn, strides": (
        lambda w, p: cnn(w, 2, 2, kernel_size=(3,), strides=(2,), activation="erf", parameterization=p),
        (6, 1),
    ),
    "pool before dense layers": (
        lambda w, p: Sequential(
            (
                Conv(w, (2,), padding="VALID", parameterization=p),
                GlobalAvgPool(),
                Relu(),
                Dense(2, 1.4, 0.5, parameterization=p, readout=True),
            )
        ),
        (4, 2),
    ),
    "residual": (
        lambda w, p: Sequential(
            (
                Dense(w, parameterization=p),
                Residual(Sequential((Relu(), Dense(w, 1.4, 0.5, parameterization=p)))),
                Relu(),
                Dense(2, parameterization=p, readout=True),
            )
        ),
        (3,),
    ),
    "branches": (
        lambda w, p: Sequential(
            (
                Dense(w, parameterization=p),
                Sum((Sequential((Erf(), Dense(w, parameterization=p))), Dense(w, 0.5, parameterization=p), Identity())),
                Concatenate((Relu(), Scale(-0.7))),
                Product((Dense(w, 0.5, 1.0, parameterization=p), Frozen(Dense(w, 0.5, 1.0, parameterization=p)))),
                Dense(2, parameterization=p, readout=True),
            )
        ),
        (3,),
    ),
    "locally connected, pools": (
        lambda w, p: Sequential(
            (
                LocallyConnected(w, (2,), b_std=0.5, parameterization=p),
                Relu(),
                AvgPool((2,), (2,)),
                Dense(w, 1.4, parameterization=p),
                Relu(),
                SumPool((2,)),
                Flatten(),
                Dense(2, 0.5, parameterization=p, readout=True),
            )
        ),
        (4, 2),
    ),
    "transformer": (
        lambda w, p: transformer(
            w, 1, 2, num_heads=2, encoding=PositionalEncoding(0.5, parameterization=p), parameterization=p
        ),
        (3, 2),
    ),
    "Fourier features": (lambda w, p: fourier_features(mlp(w, 1, 2, parameterization=p), num_frequencies=2), (1,)),
}


class DomainCase(NamedTuple):
    """A domain with harmonics, a degree and a number of nodes on which those up to it are orthonormal."""

    domain: HarmonicDomain
    max_degree: int
    num_inputs: int
    leaf_dimension: int | None = None  # inputs are products of spheres of this dimension; None: the space is flat
    slow: bool = False  # what another case tests too

    def tangent(self, x, gradients):
        """The part of gradients `(n, h, *x.shape[1:])` along the domain."""
        if self.leaf_dimension is None:
            return gradients
        x = x.reshape(len(x), 1, -1, self.leaf_dimension)
        gradients = gradients.reshape(*gradients.shape[:2], -1, self.leaf_dimension)
        normal = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        return gradients - jnp.sum(gradients * normal, -1, keepdims=True) * normal


# name -> the domain, and what its quadrature resolves
DOMAINS = {
    "circle": DomainCase(Circle(2.0), 6, 15, 2, slow=True),
    "sphere, 2": DomainCase(Sphere(2, 0.5), 6, 15, 2, slow=True),
    "sphere, 3": DomainCase(Sphere(3), 6, 98, 3, slow=True),
    "sphere, 3, radius": DomainCase(Sphere(3, 2.5), 3, 32, 3),
    "sphere, 4": DomainCase(Sphere(4, 2.0), 4, 250, 4, slow=True),
    "sphere, 5": DomainCase(Sphere(5), 3, 512, 5, slow=True),
    "sphere, 9": DomainCase(Sphere(9, 3.0), 1, 72, 9, slow=True),
    "torus, 1": DomainCase(Torus(1), 25, 11, 2, slow=True),
    "torus, 2": DomainCase(Torus(2, 0.5), 9, 49, 2),
    "torus, 3": DomainCase(Torus(3), 4, 125, 2, slow=True),
    "hypercube, 1": DomainCase(Hypercube(1), 1, 2, slow=True),
    "hypercube, 6": DomainCase(Hypercube(6), 6, 64),
    "hypercube, fraction": DomainCase(Hypercube(12), 1, 64, slow=True),
    "gaussian, 1": DomainCase(Gaussian(1, 2.0), 7, 8, slow=True),
    "gaussian, 3": DomainCase(Gaussian(3, 0.5), 3, 64, slow=True),
    "gaussian, 7": DomainCase(Gaussian(7, 2.0), 1, 84, slow=True),
    "sphere product, circles": DomainCase(SphereProduct(((0,), (1,)), 2, 0.5), 3, 49, 2, slow=True),
    "sphere product, 3": DomainCase(SphereProduct((0, 1), 3), 1, 64, 3),
    "sphere product, one leaf": DomainCase(SphereProduct(0, 4), 4, 250, 4, slow=True),
    "sphere product, frames": DomainCase(SphereProduct(((0, 1), 2), 4), 0, 64, 4, slow=True),
}


class ZeroCase(NamedTuple):
    """A domain, and a degree up to which exact spectra are taken there."""

    domain: Any
    max_degree: int


# name -> where one hidden ReLU layer without bias has exact zeros: all odd degrees from 3.
EXACT_ZEROS = {
    "circle": ZeroCase(Circle(), 100),
    "sphere, 4": ZeroCase(Sphere(4), 100),
    "sphere, 10": ZeroCase(Sphere(10), 100),
    "torus": ZeroCase(Torus(2), 100),
    "torus, radius": ZeroCase(Torus(2, 0.5), 49),
    "hypercube": ZeroCase(Hypercube(9), 9),
    "gaussian": ZeroCase(Gaussian(3, 2.0), 9),
    "sphere product": ZeroCase(SphereProduct((0, 1), 3), 7),
    "sphere product, tree": ZeroCase(SphereProduct(((0, 1), 2), 4), 5),
}

PARAMETERIZATIONS = ("ntk", "standard", "mup")
OUTPUTS = ("mean", "sum", "each", "all")


def net_case(name, width=8, parameterization="ntk"):
    """The net, and the shape of one input."""
    build, shape = NETS[name]
    return build(width, parameterization), shape


class Function(NamedTuple):
    """A network that ntkbias has not written: f(params, x), its params from a NumPy generator, and n inputs."""

    f: Callable
    params: Callable[[np.random.Generator], Any]
    inputs: Callable[[np.random.Generator, int], np.ndarray]


def _normal(*shape):
    return lambda rng, n: rng.normal(size=(n, *shape))


def _dict(**shapes):
    """Params of the given shapes, drawn at scale 1 / 2."""
    return lambda rng: {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}


def _mlp(params, x):
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def _mlp_params(rng):
    return [_dict(w=shape, b=shape[1:])(rng) for shape in ((3, 5), (5, 4), (4, 2))]


def _conv(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _cnn(params, x):
    return jnp.mean(jnp.tanh(_conv(x, params["w1"])), (1, 2)) @ params["w2"]


def _attention(params, x):
    q, k, v = (x @ params[name] for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("nsd,ntd->nst", q, k), -1)
    return jnp.einsum("nst,ntd->nsd", weights, v).sum(1)


def _rnn(params, x):
    def step(state, token):
        return jnp.tanh(state @ params["h"] + token @ params["w"]), None

    state, _ = jax.lax.scan(step, jnp.zeros((len(x), 3), x.dtype), x.swapaxes(0, 1))
    return state @ params["o"]


def _layers(body, **options):
    """A network whose layers are stacked, and scanned over."""

    def f(params, x):
        return jax.lax.scan(body, x, params["layers"], **options)[0] @ params["o"]

    return f


def _stack(**shapes):
    """Params of stacked layers of the given shapes, three to two outputs last."""
    return lambda rng: {"layers": _dict(**shapes)(rng), "o": rng.normal(size=(3, 2))}


def _residual(h, p):
    return h + jnp.tanh(h @ p["w"] + p["b"]) / 2, None


def _recurrent_net(cell, size):
    """The last state of a recurrent net: `cell(params, state, token)` gives the next one, of so many parts."""

    def f(params, x):
        begin = tuple(jnp.zeros((len(x), 3), x.dtype) for _ in range(size))
        state, _ = jax.lax.scan(lambda state, token: (cell(params, state, token), None), begin, x.swapaxes(0, 1))
        return state[0] @ params["o"]

    return f


def _lstm(params, state, token):
    h, c = state
    i, g, f, o = jnp.split(token @ params["i"] + h @ params["h"] + params["b"], 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(params, state, token):
    (h,) = state
    z = jax.nn.sigmoid(token @ params["wz"] + h @ params["uz"])
    r = jax.nn.sigmoid(token @ params["wr"] + h @ params["ur"])
    return ((1 - z) * h + z * jnp.tanh(token @ params["w"] + (r * h) @ params["u"]),)


def _deep_recurrent(params, x):
    """Layers that are scanned over, each a scan over time."""

    def layer(tokens, p):
        def step(h, token):
            h = jnp.tanh(token @ p["i"] + h @ p["h"])
            return h, h

        return jax.lax.scan(step, jnp.zeros(tokens.shape[1:], x.dtype), tokens)

    return jax.lax.scan(lambda h, p: layer(h, p)[::-1], x.swapaxes(0, 1), params["layers"])[0][-1] @ params["o"]


def _blocks_of_layers(params, x):
    def block(h, ps):
        h, each = jax.lax.scan(lambda h, p: (jnp.tanh(h @ p), h.sum(1)), h, ps)
        return h, each.sum(0)

    h, sums = jax.lax.scan(block, x, params["layers"]["w"])
    return h @ params["o"] + sums.T


def _attention_layer(h, p):
    weights = jax.nn.softmax(jnp.einsum("nsd,ntd->nst", h @ p["q"], h @ p["k"]), -1)
    return h + jnp.einsum("nst,ntd->nsd", weights, h) @ p["v"], None


@jax.checkpoint
def _remat_block(w, x):
    return jnp.tanh(x @ w)


@jax.custom_vjp
def _clipped(x):
    return jnp.clip(x, -1.0, 1.0)


_clipped.defvjp(lambda x: (_clipped(x), None), lambda _, g: (g,))  # the straight-through estimator


def _norm(params, x):
    h = x @ params["w"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-3)
    return jnp.tanh(params["scale"] * h + params["shift"]) @ params["o"]


@functools.partial(jax.vmap, in_axes=(None, 0))
def _one_example(params, x):
    return params["o"] @ jnp.sin(params["w"] @ x)


def _convolved(strides=(1, 1), padding="SAME", **options):
    """A function whose one layer is a convolution with these options."""

    def f(params, x):
        layout = ("NHWC", "HWIO", "NHWC")
        z = jax.lax.conv_general_dilated(x, params["w"], strides, padding, dimension_numbers=layout, **options)
        return jnp.tanh(z).mean((1, 2))

    return f


def _likelihoods(params, tokens):
    """The log-likelihoods of the last token, and of the two before it, under logits by the table of embeddings."""
    table = params["e"]
    hidden = jnp.cumsum(jnp.tanh(table[tokens] @ params["w"]), 1)
    logs = jax.nn.log_softmax(hidden[:, :-1] @ table.T)
    each = jnp.take_along_axis(logs, (tokens % len(table))[:, 1:, None], 2)[..., 0]
    return jnp.stack([each[:, -1], each[:, :-1].sum(1)], 1)


def _unrolled(params, x):
    """A recurrent net whose steps are written one after the other."""
    state = jnp.zeros((len(x), 5))
    for step in range(x.shape[1]):
        state = jnp.tanh(state @ params["w"] + x[:, step] @ params["v"])
    return state @ params["o"]


def _heads(params, x):
    q, k, v = (jnp.einsum("nti,ihd->nhtd", x, params[name]) for name in "qkv")
    mixed = jax.nn.softmax(q @ k.swapaxes(2, 3)) @ v
    return jnp.einsum("nhtd,hdo->nto", mixed, params["o"]).mean(1)


def _complex_scan(params, x):
    """A recurrent net with a complex state, as state-space models have it."""

    def step(state, token):
        return jnp.exp(1j * params["turn"] - 0.1) * state + token @ params["w"], None

    state, _ = jax.lax.scan(step, jnp.zeros((len(x), 3), complex), x.swapaxes(0, 1))
    return jnp.concatenate([state.real, state.imag], 1) @ params["out"]


def _fourier_layer(params, x):
    """A layer of a Fourier neural operator: weights that multiply the modes of the inputs."""
    modes = jnp.fft.rfft(x @ params["lift"], axis=1)[:, :3]
    weights = jax.lax.complex(params["real"], params["imag"])
    mixed = jnp.fft.irfft(jnp.einsum("nki,kio->nko", modes, weights), n=x.shape[1], axis=1)
    return jnp.tanh(mixed + x @ params["skip"]).mean(1)


def _log_psi(params, x):
    """A restricted Boltzmann machine with complex weights: the logarithm of a wave function."""
    weights, bias = (jax.lax.complex(*params[name]) for name in ("w", "b"))
    value = jnp.sum(jnp.log(jnp.cosh(x.astype(complex) @ weights + bias)), -1) + x @ params["visible"]
    return jnp.stack([value.real, value.imag], -1)


def _circuit(params, x):
    """Two qubits: states turned by angles, and the expectation of an observable in each."""
    state = jnp.exp(1j * x[:, :2]) * jax.nn.softmax(x[:, 2:]) ** 0.5
    for theta in params["theta"]:
        turn = jnp.array([[jnp.cos(theta[0]), 1j * jnp.sin(theta[0])], [1j * jnp.sin(theta[0]), jnp.cos(theta[0])]])
        state = (state @ turn) * jnp.exp(1j * jnp.stack([theta[1], -theta[1]]))
    return jnp.einsum("ni,kij,nj->nk", state.conj(), jnp.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]]]), state).real


def _turned(x):
    """Inputs as complex numbers."""
    return x + 1j * x[..., ::-1]


def _tokens(rng, n):
    return rng.integers(0, 6, (n, 4))


FUNCTIONS = {
    "mlp": Function(_mlp, _mlp_params, _normal(3)),
    "cnn": Function(_cnn, _dict(w1=(3, 3, 2, 4), w2=(4, 2)), _normal(4, 3, 2)),
    "one output, no axis": Function(lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"], _dict(w=(3, 4), o=(4,)), _normal(3)),
    "outputs with axes": Function(lambda p, x: jnp.tanh(_conv(x, p["w"])), _dict(w=(2, 2, 1, 2)), _normal(2, 3, 1)),
    "weight used twice": Function(lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"], _dict(w=(3, 3)), _normal(3)),
    "tied": Function(lambda p, x: x @ p["w"] @ p["w"].T, _dict(w=(3, 2)), _normal(3)),
    "attention": Function(_attention, _dict(q=(3, 4), k=(3, 4), v=(3, 2)), _normal(4, 3)),
    "recurrent": Function(_rnn, _dict(h=(3, 3), w=(2, 3), o=(3, 2)), _normal(5, 2)),
    "remat": Function(lambda p, x: _remat_block(p["w"], x) @ p["o"], _dict(w=(3, 4), o=(4, 2)), _normal(3)),
    "custom derivative": Function(lambda p, x: _clipped(x @ p["w"]) @ p["o"], _dict(w=(3, 4), o=(4, 2)), _normal(3)),
    "layer norm": Function(_norm, _dict(w=(3, 4), scale=(4,), shift=(), o=(4, 2)), _normal(3)),
    "model of one example": Function(_one_example, _dict(w=(4, 3), o=(2, 4)), _normal(3)),
    "embedding": Function(
        lambda p, x: jnp.tanh(p["table"][x].sum(1)) @ p["o"],
        _dict(table=(7, 4), o=(4, 2)),
        lambda rng, n: rng.integers(0, 7, (n, 3)),
    ),
    "lookup of any index": Function(  # -9 to 12 in a table of seven rows; the large one is not formed
        lambda p, x: (
            (
                jnp.tanh(p["table"].at[x].get(mode="fill", fill_value=0).sum(1))
                + jnp.sin(p["clipped"].at[x].get(mode="clip")).sum(1)
                + p["large"][jnp.abs(x)].sum((1, 2, 3))[:, None]
            )
            @ p["o"]
        ),
        _dict(table=(7, 4), clipped=(7, 4), large=(90, 2, 3), o=(4, 2)),
        lambda rng, n: rng.integers(-9, 13, (n, 3)),
    ),
    "shared read-outs": Function(  # cotangents without the example, the same at all positions or not
        lambda p, x: (
            jnp.concatenate(
                [
                    (x @ p["pooled"]).mean(1),
                    jnp.einsum("nti,ij,tjo->no", x, p["inner"], p["outer"]),
                    x[:, 0] @ p["first"],
                ],
                1,
            )
            + p["bias"]
        ),
        _dict(pooled=(3, 2), inner=(3, 4), outer=(5, 4, 2), first=(3, 1), bias=(5,)),
        _normal(5, 3),
    ),
    "nested params": Function(
        lambda p, x: p["a"][0] * jnp.tanh(x @ p["a"][1]["w"]) @ p["b"][0],
        lambda rng: {"a": (np.array(0.7), _dict(w=(3, 4))(rng)), "b": [rng.normal(size=(4, 2)), None]},
        _normal(3),
    ),
    "scalar params": Function(lambda p, x: p * x + p**2, lambda rng: np.array(1.5), _normal(2)),
    "unused params": Function(lambda p, x: jnp.sin(x @ p["w"]), _dict(w=(3, 2), unused=(2, 2)), _normal(3)),
    "params in the predicate": Function(
        lambda p, x: jnp.where(x @ p["w"] > 0, x @ p["w"], 0.1 * (x @ p["w"]) ** 2), _dict(w=(3, 2)), _normal(3)
    ),
    "grouped convolution": Function(_convolved(feature_group_count=2), _dict(w=(3, 3, 1, 4)), _normal(4, 4, 2)),
    "depthwise convolution": Function(_convolved(feature_group_count=3), _dict(w=(2, 2, 1, 3)), _normal(4, 4, 3)),
    "dilated convolution": Function(_convolved(rhs_dilation=(2, 1)), _dict(w=(3, 2, 2, 3)), _normal(5, 4, 2)),
    "strided convolution": Function(_convolved((2, 3), "VALID"), _dict(w=(2, 3, 2, 3)), _normal(5, 6, 2)),
    "strided large window": Function(_convolved((2, 3)), _dict(w=(6, 6, 2, 3)), _normal(6, 6, 2)),
    "dilated inputs": Function(
        _convolved(padding=((1, 1), (1, 1)), lhs_dilation=(2, 2)), _dict(w=(3, 3, 2, 2)), _normal(3, 3, 2)
    ),
    "channels first": Function(
        lambda p, x: jnp.tanh(jax.lax.conv(x, p["w"], (1, 1), "SAME")).mean((2, 3)),
        _dict(w=(3, 2, 3, 3)),
        _normal(2, 4, 4),
    ),
    "transposed convolution": Function(
        lambda p, x: jnp.tanh(jax.lax.conv_transpose(x, p["w"], (2, 2), "SAME")).mean((1, 2)),
        _dict(w=(3, 3, 2, 3)),
        _normal(3, 3, 2),
    ),
    "convolution used twice": Function(
        lambda p, x: _conv(jnp.tanh(_conv(x, p["w"])), p["w"]).mean((1, 2)), _dict(w=(3, 3, 2, 2)), _normal(3, 3, 2)
    ),
    "several heads": Function(_heads, _dict(q=(3, 2, 4), k=(3, 2, 4), v=(3, 2, 4), o=(2, 4, 2)), _normal(4, 3)),
    "weights of a position": Function(
        lambda p, x: jnp.einsum("nti,tio->nto", x, p["w"]).sum(1) ** 2, _dict(w=(4, 3, 2)), _normal(4, 3)
    ),
    "product with a constant": Function(
        lambda p, x: jnp.tanh(x + np.tri(4) @ p["w"]).sum(1) @ p["o"], _dict(w=(4, 3), o=(3, 2)), _normal(4, 3)
    ),
    "positional embedding": Function(
        lambda p, x: (jnp.tanh(x + p["at"]) @ p["w"]).mean(1), _dict(at=(4, 3), w=(3, 2)), _normal(4, 3)
    ),
    "dense over a sequence": Function(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"]) @ p["v"]).mean(1), _dict(w=(3, 4), v=(4, 2)), _normal(5, 3)
    ),
    "tied embedding": Function(lambda p, t: jnp.tanh(p["e"][t]).sum(1) @ p["e"].T, _dict(e=(6, 4)), _tokens),
    "tied table": Function(  # a contrast of logits: all examples share the cotangent of the product
        lambda p, t: jnp.tanh(p["e"][t]).sum(1) @ p["w"] @ p["e"].T @ jnp.eye(41, 2),
        _dict(e=(41, 3), w=(3, 3)),
        _tokens,
    ),
    "likelihoods by a tied table": Function(
        _likelihoods, _dict(e=(90, 3), w=(3, 3)), lambda rng, n: rng.integers(-5, 90, (n, 4))
    ),
    "table used in three ways": Function(
        lambda p, t: (
            jnp.tanh(p["e"][t[:, 1:]].sum(1) + 2 * jax.nn.one_hot(t[:, 0], 70) @ p["e"]) @ p["e"].T @ jnp.eye(70, 2)
        ),
        _dict(e=(70, 3)),
        _tokens,
    ),
    "one-hot tokens and a tied table": Function(
        lambda p, t: (
            jnp.cos(jnp.tanh(jax.nn.one_hot(t, 80) @ p["e"]).sum(1) @ p["e"].T) @ jnp.eye(80, 2)
            + jnp.sin(p["e"][t]).sum((1, 2))[:, None]
        ),
        _dict(e=(80, 3)),
        _tokens,
    ),
    "unrolled recurrence": Function(_unrolled, _dict(w=(5, 5), v=(2, 5), o=(5, 2)), _normal(3, 2)),
    "weight on the left": Function(lambda p, x: jnp.tanh(p["w"] @ x.T).T, _dict(w=(4, 3)), _normal(3)),
    "scaled by constants": Function(lambda p, x: -3.0 * (x @ (0.5 * p["w"])), _dict(w=(3, 2)), _normal(3)),
    "parameter times parameter": Function(lambda p, x: p["a"] * (x @ p["w"]), _dict(a=(), w=(3, 2)), _normal(3)),
    "symmetrized weight": Function(lambda p, x: jnp.tanh(x @ (p["w"] + p["w"].T)), _dict(w=(3, 3)), _normal(3)),
    "normalized weight": Function(lambda p, x: x @ (p["w"] / jnp.linalg.norm(p["w"])), _dict(w=(3, 2)), _normal(3)),
    "slices of a weight": Function(
        lambda p, x: jnp.tanh(x @ p["w"][:, :3]) @ p["w"][:, 3:], _dict(w=(3, 5)), _normal(3)
    ),
    "cumulated weight": Function(lambda p, x: jnp.tanh(x @ jnp.cumsum(p["w"], 0)), _dict(w=(3, 2)), _normal(3)),
    "Kronecker product": Function(lambda p, x: x @ jnp.kron(p["a"], p["b"]), _dict(a=(2, 2), b=(2, 2)), _normal(4)),
    "long scan": Function(
        lambda p, x: jax.lax.scan(lambda h, _: (jnp.tanh(h @ p["w"] + x), None), x, None, length=70)[0],
        _dict(w=(3, 3)),
        _normal(3),
    ),
    "reversed scan": Function(
        lambda p, x: jax.lax.scan(
            lambda h, column: (jnp.tanh(h @ p["w"] + column[:, None]), None), x, x.T, reverse=True
        )[0],
        _dict(w=(3, 3)),
        _normal(3),
    ),
    "scanned layers": Function(_layers(_residual), _stack(w=(3, 3, 3), b=(3, 3)), _normal(3)),
    "scanned layers, remat": Function(
        _layers(jax.checkpoint(_residual), reverse=True, unroll=2), _stack(w=(4, 3, 3), b=(4, 3)), _normal(3)
    ),
    "scan of one layer": Function(_layers(_residual), _stack(w=(1, 3, 3), b=(1, 3)), _normal(3)),
    "scanned and used outside": Function(
        lambda p, x: _layers(_residual)(p, x @ p["layers"]["w"][1]), _stack(w=(3, 3, 3), b=(3, 3)), _normal(3)
    ),
    "scanned and used twice": Function(
        _layers(lambda h, p: (jnp.tanh(jnp.tanh(h @ p["w"]) @ p["w"].T) - 2 * h @ p["v"], None)),
        _stack(w=(3, 3, 3), v=(3, 3, 3)),
        _normal(3),
    ),
    "scanned attention": Function(
        lambda p, x: _layers(_attention_layer)(p, x).sum(1),
        _stack(q=(2, 3, 2), k=(2, 3, 2), v=(2, 3, 3)),
        _normal(4, 3),
    ),
    "scanned convolutions": Function(
        lambda p, x: _layers(lambda h, p: (jnp.tanh(_conv(h, p["w"])), None))(p, x).mean((1, 2)),
        _stack(w=(2, 3, 3, 3, 3)),
        _normal(3, 3, 3),
    ),
    "scanned with branches": Function(
        _layers(lambda h, p: (jax.lax.cond(p["w"][0, 0] > 0, lambda: h @ p["w"], lambda: jnp.sin(h @ p["v"])), None)),
        _stack(w=(3, 3, 3), v=(3, 3, 3)),
        _normal(3),
    ),
    "layers in blocks": Function(_blocks_of_layers, _stack(w=(2, 3, 3, 3)), _normal(3)),
    "deep recurrent": Function(_deep_recurrent, _stack(i=(2, 3, 3), h=(2, 3, 3)), _normal(4, 3)),
    "LSTM": Function(_recurrent_net(_lstm, 2), _dict(i=(2, 12), h=(3, 12), b=(12,), o=(3, 2)), _normal(5, 2)),
    "GRU, remat": Function(
        _recurrent_net(jax.checkpoint(_gru), 1),
        _dict(wz=(2, 3), uz=(3, 3), wr=(2, 3), ur=(3, 3), w=(2, 3), u=(3, 3), o=(3, 2)),
        _normal(5, 2),
    ),
    "map over tokens": Function(
        lambda p, t: jax.lax.map(lambda t: jnp.tanh(p["e"][t] @ p["w"]) @ p["o"], t.T).sum(0),
        _dict(e=(6, 3), w=(3, 3), o=(3, 2)),
        _tokens,
    ),
    "counted loop": Function(
        lambda p, x: jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ p["w"]), x), _dict(w=(3, 3)), _normal(3)
    ),
    "branches": Function(
        lambda p, x: jax.vmap(lambda e: jax.lax.cond(e[0] > 0, lambda: e @ p["a"], lambda: jnp.sin(e @ p["b"])))(x),
        _dict(a=(3, 2), b=(3, 2)),
        _normal(3),
    ),
    "Fourier transform": Function(lambda p, x: jnp.abs(jnp.fft.fft(x @ p["w"])), _dict(w=(3, 4)), _normal(3)),
    "complex inside": Function(
        lambda p, x: jnp.real(1j * (1j * p["a"]) * x + (x @ (p["a"][:, None] + 2j * p["b"])) * (1 + 2j)),
        _dict(a=(3,), b=(3, 3)),
        _normal(3),
    ),
    "constants of some positions": Function(  # each has fewer entries than the cotangent that it multiplies
        lambda p, t: (
            (p["a"][t] * np.cos(np.arange(4.0)[:, None])).sum(1) @ p["o"]
            + ((p["b"][t] * p["c"][t][..., :1]).sum(1) * jnp.sin(t[:, :1])).sum(1, keepdims=True) * p["s"]
        ),
        _dict(a=(6, 3), b=(6, 3), c=(6, 2), o=(3, 2), s=(2,)),
        _tokens,
    ),
    "complex product": Function(
        lambda p, x: jnp.abs(_turned(x) @ p) ** 2, lambda rng: rng.normal(size=(3, 2)), _normal(3)
    ),
    "complex read-out": Function(lambda p, x: (_turned(x) @ p["w"]).imag, _dict(w=(3, 2)), _normal(3)),
    "conjugate": Function(
        lambda p, x: ((_turned(x) @ p["a"]) * jnp.conj(x @ p["b"] * 1j + p["c"])).real,
        _dict(a=(3, 2), b=(3, 2), c=(2,)),
        _normal(3),
    ),
    "angle": Function(lambda p, x: jnp.angle(_turned(x) @ p["w"] + 2), _dict(w=(3, 2)), _normal(3)),
    "complex positions": Function(
        lambda p, x: jnp.abs(jnp.tanh(_turned(x) @ p["w"]) @ p["v"]).mean(1), _dict(w=(3, 4), v=(4, 2)), _normal(5, 3)
    ),
    "complex einsum": Function(
        lambda p, x: jnp.einsum("nti,tij,nj->nt", _turned(x), p["w"].astype(complex), x[:, 0] * 1j).real ** 2,
        _dict(w=(4, 3, 3)),
        _normal(4, 3),
    ),
    "complex convolution": Function(
        lambda p, x: jnp.abs(_conv(_turned(x), jax.lax.complex(p["w"], 0 * p["w"]))).mean((1, 2)),
        _dict(w=(3, 3, 2, 3)),
        _normal(4, 3, 2),
    ),
    "complex embedding": Function(
        lambda p, t: ((p["e"][t] * jnp.exp(1j * jnp.arange(4.0)[:, None])).sum(1) @ p["o"]).real,
        _dict(e=(6, 3), o=(3, 2)),
        _tokens,
    ),
    "phases": Function(
        lambda p, x: jnp.abs((x * jnp.exp(1j * p["theta"])) @ (p["w"] + 0j)) ** 2,
        _dict(theta=(3,), w=(3, 2)),
        _normal(3),
    ),
    "complex tied weight": Function(
        lambda p, x: jnp.abs(jnp.sin(_turned(x) @ p["w"]) @ p["w"].T).sum(1), _dict(w=(3, 2)), _normal(3)
    ),
    "complex checkpoint": Function(
        lambda p, x: jax.checkpoint(lambda w, x: jnp.abs(jnp.fft.fft(x @ w)))(p["w"], x) @ p["o"],
        _dict(w=(3, 4), o=(4, 2)),
        _normal(3),
    ),
    "Fourier layer": Function(
        _fourier_layer, _dict(lift=(2, 3), real=(3, 3, 2), imag=(3, 3, 2), skip=(2, 2)), _normal(6, 2)
    ),
    "log psi": Function(_log_psi, _dict(w=(2, 3, 4), b=(2, 4), visible=(3,)), _normal(3)),
    "quantum circuit": Function(_circuit, _dict(theta=(3, 2)), _normal(4)),
    "complex scan": Function(_complex_scan, _dict(turn=(3,), w=(2, 3), out=(6, 2)), _normal(4, 2)),
    "scan of no steps": Function(
        lambda p, x: jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x @ p["a"], p["w"])[0],
        _dict(a=(3, 2), w=(0, 2, 2)),
        _normal(3),
    ),
    "unused and empty": Function(
        lambda p, x: jnp.tanh(x @ p["w"]), _dict(w=(3, 2), unused=(5,), empty=(0, 3)), _normal(3)
    ),
}


def _mixed(change):
    """A network whose hidden values of a batch `change` brings together."""
    return lambda p, x: jnp.tanh(change(x @ p["w"])) @ p["o"]


def _until_all_settle(h):
    """Steps that end once all examples have settled."""
    return jax.lax.while_loop(lambda h: jnp.max(jnp.abs(h)) > 0.5, lambda h: h / 2, h)


# Functions that let examples depend on each other, or on their number: each is refused.
MIXING = {
    "batch statistics": _mixed(lambda h: (h - h.mean(0)) / jnp.sqrt(h.var(0) + 1e-5)),
    "half of the mean": _mixed(lambda h: h - 0.5 * h.mean(0)),
    "neighbors": _mixed(lambda h: h + jnp.roll(h, 1, 0)),
    "reversed": _mixed(lambda h: h + h[::-1]),
    "cumulated": _mixed(lambda h: jnp.cumsum(h, 0)),
    "sorted": _mixed(lambda h: jnp.sort(h, 0)),
    "beyond the third": _mixed(lambda h: h.at[3:].add(h[:1])),
    "attention over the batch": _mixed(lambda h: jax.nn.softmax(h @ h.T) @ h),
    "read as columns": _mixed(lambda h: h.reshape(h.shape[1], -1).T),
    "the largest": _mixed(lambda h: h / jnp.max(jnp.abs(h))),
    "above the median": _mixed(lambda h: jnp.where(h > jnp.median(h, 0), h, 0.0)),
    "until all settle": _mixed(_until_all_settle),
    "scanned over": _mixed(lambda h: jax.lax.scan(lambda c, row: (c + row, c + row), jnp.zeros(h.shape[1]), h)[1]),
    "divided by their number": _mixed(lambda h: h / len(h)),
    "as many ones summed up": _mixed(lambda h: h * jnp.ones(len(h)).sum()),
    "as many weights": _mixed(lambda h: h[:, : len(h)].sum(1, keepdims=True) + h),
    "positions": _mixed(lambda h: h + jnp.arange(len(h))[:, None]),
    "noise by row": _mixed(lambda h: h + jax.random.normal(jax.random.key(0), h.shape)),
    "lag": _mixed(lambda h: h + jnp.concatenate([jnp.zeros((min(4, len(h)), 8)), h[:-4]])[: len(h)]),
    "one more than their number": _mixed(lambda h: h / jnp.ones(len(h) + 1).sum()),
    "half of their number": _mixed(lambda h: h / jnp.ones(len(h) // 2 + 1).sum()),
    "the last place": _mixed(lambda h: h / jnp.arange(len(h) + 1)[-1]),
    "an axis chosen by their number": _mixed(lambda h: jnp.cumsum(h, axis=0 if len(h) == 6 else 1)),
    "the longest axis": _mixed(lambda h: h - h.max(int(np.argmax((len(h), 5))), keepdims=True)),
    "places below four": _mixed(lambda h: h * (np.arange(len(h)) % 37 < 4)[:, None]),
    "capacity": _mixed(lambda h: h * (jnp.cumsum(h[:, :1] > -9, 0) <= 5)),
    "more than four alone": _mixed(lambda h: h - h.mean(0) if len(h) > 4 else h),
}


class Structured(NamedTuple):
    """A network of inputs that are several arrays."""

    f: Callable
    params: Callable[[np.random.Generator], Any]
    inputs: Callable[[np.random.Generator, int], Any]


def _masked_tokens(p, x):
    h = p["table"][x["ids"]] * x["mask"][..., None]
    return jnp.tanh(h.sum(1) @ p["w"]) @ p["o"]


def _graph(p, x):
    nodes = jnp.tanh(x.adjacency @ (x.features @ p["w"]))
    return (nodes * x.present[..., None]).sum(1) @ p["o"]


class Graphs(NamedTuple):
    """Graphs of four nodes or fewer."""

    features: Any
    adjacency: Any
    present: Any


def _graphs(rng, n):
    edges = rng.integers(0, 2, (n, 4, 4)).astype(bool)
    return Graphs(rng.normal(size=(n, 4, 2)), edges, rng.integers(0, 2, (n, 4)) > 0)


STRUCTURED = {
    "tokens and a mask": Structured(
        _masked_tokens,
        _dict(table=(7, 4), w=(4, 3), o=(3, 2)),
        lambda rng, n: {"ids": rng.integers(0, 7, (n, 5)), "mask": np.arange(5) < rng.integers(1, 6, (n, 1))},
    ),
    "branch and trunk": Structured(
        lambda p, x: jnp.einsum("nk,nko->no", jnp.tanh(x[0] @ p["b"]), jnp.sin(x[1] @ p["t"]).reshape(-1, 3, 2)),
        _dict(b=(4, 3), t=(1, 6)),
        lambda rng, n: (rng.normal(size=(n, 4)), rng.normal(size=(n, 1))),
    ),
    "padded graphs": Structured(_graph, _dict(w=(2, 3), o=(3, 2)), _graphs),
    "numbers and half precision": Structured(
        lambda p, x: jnp.tanh(x["u"].astype(float) @ p["w"]) * x["scale"][:, None],
        _dict(w=(3, 2)),
        lambda rng, n: {"u": rng.normal(size=(n, 3)).astype(np.float16), "scale": rng.normal(size=n)},
    ),
    "complex signals": Structured(
        lambda p, x: jnp.abs(jnp.fft.fft(x) @ p["w"]) ** 2,
        _dict(w=(4, 2)),
        lambda rng, n: rng.normal(size=(n, 4)) + 1j * rng.normal(size=(n, 4)),
    ),
}


def _complex(**shapes):
    """Complex params of the given shapes."""
    return lambda rng: {k: rng.normal(size=s) / 2 + 0.5j * rng.normal(size=s) for k, s in shapes.items()}


# Networks of complex parameters, or complex outputs; which of them are holomorphic.
COMPLEX = {
    "complex outputs": (lambda p, x: jnp.exp(1j * (x @ p["w"])) @ p["o"], _dict(w=(3, 4), o=(4, 2)), False),
    "complex parameters": (lambda p, x: jnp.abs(jnp.tanh(x @ p["w"]) @ p["o"]), _complex(w=(3, 4), o=(4, 2)), False),
    "holomorphic": (lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["o"], _complex(w=(3, 4), b=(4,), o=(4, 2)), True),
    "conjugates": (lambda p, x: (x @ p["w"]) * jnp.conj(x @ p["v"]), _complex(w=(3, 2), v=(3, 2)), False),
    "a wave function": (
        lambda p, x: jnp.log(jnp.cosh(x @ p["w"] + p["b"])).sum(1) + x @ p["a"],
        _complex(w=(3, 4), b=(4,), a=(3,)),
        True,
    ),
}


class BrokenCase(NamedTuple):
    """A function with finite outputs and gradients that are not, at one of its inputs, and what the error says."""

    f: Callable
    params: Any
    x: Any
    message: str


_ZERO_ROW = jnp.array([[1.0, 2.0], [0.5, 1.0], [0.0, 0.0], [0.0, 0.0]])
BROKEN_GRADIENTS = {
    "norm of zero": BrokenCase(
        lambda p, x: (x @ p["a"]) / jnp.linalg.norm(x @ p["a"], axis=-1, keepdims=True).clip(1e-6) @ p["b"],
        {"a": jnp.eye(2), "b": jnp.ones((2, 1))},
        _ZERO_ROW,
        r"f\(params, x\) is finite there, but its gradient by params\['a'\] is not, at input 2: a root, a norm or a "
        "logarithm at zero has no finite derivative",
    ),
    "where after a root": BrokenCase(
        lambda p, x: jnp.where(x @ p > 0, jnp.sqrt(x @ p), 0.0),
        jnp.ones((2, 1)),
        _ZERO_ROW,
        "by params is not, at input 2",
    ),
    "two parameters": BrokenCase(
        lambda p, x: jnp.sqrt(x @ p["a"] + x @ p["b"]),
        {"a": jnp.ones((2, 1)), "b": jnp.ones((2, 1)), "empty": jnp.ones((0, 2)), "other": jnp.ones(3)},
        _ZERO_ROW,
        r"by params\['a'\] and params\['b'\] is not, at input 2",
    ),
    "outputs themselves": BrokenCase(
        lambda p, x: jnp.log(x @ p),
        jnp.ones((2, 1)),
        _ZERO_ROW[::-1][jnp.array([3, 2, 2, 2, 1])],
        "f.* itself is not finite at input 4",
    ),
    "products": BrokenCase(
        lambda p, x: 1e25 * (x @ p),
        jnp.ones((2, 1)),
        _ZERO_ROW[:2],
        "Gram matrix. Check the scale of inputs and parameters",
    ),
}


def function_case(name, seed=0, n=7, m=5):
    """f, its params, and n and m inputs, in the default precision."""
    f, params, inputs = FUNCTIONS[name]
    rng = np.random.default_rng(seed)
    return f, *jax.tree.map(jnp.asarray, (params(rng), inputs(rng, n), inputs(rng, m)))


class CrossCase(NamedTuple):
    """Two functions of the same params, inputs of each, and the params whose gradients both have in one order."""

    f: Callable
    g: Callable
    params: Callable[[np.random.Generator], Any]
    inputs: Callable[[np.random.Generator, int], np.ndarray]
    matched: str
    other_inputs: Callable[[np.random.Generator, int], np.ndarray] | None = None  # where g takes others than f


def _trunk(params, x):
    return jnp.tanh(x @ params["w"] + params["b"])


def _along_first(f):
    """The derivative of f by the first number of each input."""
    return lambda p, x: jax.jvp(lambda x: f(p, x), (x,), (jnp.zeros_like(x).at[:, 0].set(1),))[1]


def _pooled(params, x):
    return jnp.tanh(_conv(x, params["w"])).mean((1, 2)) @ params["o"]


def _bag(params, tokens):
    return jnp.tanh(params["e"][tokens].sum(1)) @ params["o"]


CROSS = {
    "two heads": CrossCase(
        lambda p, x: _trunk(p, x) @ p["first"],
        lambda p, x: _trunk(p, x) @ p["second"],
        _dict(w=(3, 4), b=(4,), first=(4, 2), second=(4, 3)),
        _normal(3),
        "w",
    ),
    "a function of a function": CrossCase(_mlp, lambda p, x: jnp.sin(_mlp(p, x)), _mlp_params, _normal(3), "www"),
    "a derivative by inputs": CrossCase(_mlp, _along_first(_mlp), _mlp_params, _normal(3), "w"),
    "a transposed weight": CrossCase(
        lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"],
        lambda p, x: jnp.sin(x @ p["w"].T) @ p["o"],
        _dict(w=(3, 3), o=(3, 2)),
        _normal(3),
        "o",
    ),
    "a weight used twice": CrossCase(
        lambda p, x: jnp.tanh(x @ p["w"]), lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"], _dict(w=(3, 3)), _normal(3), ""
    ),
    "scaled weights": CrossCase(
        lambda p, x: jnp.tanh(-3.0 * (x @ (0.5 * p["w"]))),
        lambda p, x: jnp.sin(0.7 * (x @ p["w"])),
        _dict(w=(3, 2)),
        _normal(3),
        "w",
    ),
    "a linear function": CrossCase(
        lambda p, x: x @ p["w"], lambda p, x: jnp.tanh(x @ p["w"]), _dict(w=(3, 2)), _normal(3), "w"
    ),
    "convolutions": CrossCase(
        _pooled, lambda p, x: jnp.sin(_pooled(p, x)) ** 2, _dict(w=(3, 3, 4, 6), o=(6, 2)), _normal(2, 2, 4), "wo"
    ),
    "swapped channels": CrossCase(
        _pooled,
        lambda p, x: _pooled({**p, "w": p["w"].swapaxes(2, 3)}, x),
        _dict(w=(3, 3, 4, 4), o=(4, 2)),
        _normal(2, 2, 4),
        "o",
    ),
    "tokens of two lengths": CrossCase(
        _bag,
        lambda p, t: jnp.sin(_bag(p, t)),
        _dict(e=(6, 4), o=(4, 2)),
        lambda rng, n: rng.integers(0, 6, (n, 4)),
        "o",
        lambda rng, n: rng.integers(0, 6, (n, 3)),
    ),
    "rows and columns of a table": CrossCase(
        _bag, lambda p, t: _bag({**p, "e": p["e"].T}, t), _dict(e=(6, 6), o=(6, 2)), _tokens, "o"
    ),
    "tables": CrossCase(_bag, lambda p, t: jnp.sin(_bag(p, t)), _dict(e=(6, 4), o=(4, 2)), _tokens, "eo"),
    "sequences": CrossCase(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"]) @ p["v"]).mean(1),
        lambda p, x: jnp.sin(jnp.tanh(x @ p["w"]) @ p["v"]).sum(1),
        _dict(w=(12, 12), v=(12, 2)),
        _normal(5, 12),
        "w",
    ),
    "inputs of two shapes": CrossCase(
        lambda p, x: jnp.tanh(x @ p["w"]),
        lambda p, x: jnp.tanh(x @ p["w"]).mean((1, 2)),
        _dict(w=(3, 2)),
        _normal(3),
        "",
        _normal(2, 2, 3),
    ),
    "no parameter in common": CrossCase(
        lambda p, x: x @ p["a"], lambda p, x: jnp.sin(x @ p["b"]), _dict(a=(3, 2), b=(3, 2)), _normal(3), ""
    ),
    "numbers": CrossCase(
        lambda p, x: p["a"] * x[:, 0] + p["b"],
        lambda p, x: jnp.sin(p["a"] * x[:, 1]),
        _dict(a=(), b=()),
        _normal(2),
        "",
    ),
}


def cross_case(name, seed=0, n=5, m=4):
    """f, g, their params, n inputs of f and m of g, in the default precision."""
    case = CROSS[name]
    rng = np.random.default_rng(seed)
    arrays = case.params(rng), case.inputs(rng, n), (case.other_inputs or case.inputs)(rng, m)
    return case.f, case.g, *jax.tree.map(jnp.asarray, arrays)


def from_all(gram, outputs):
    """What `outputs` makes of the kernel between all outputs, `(n, o, m, o)`."""
    gram = np.asarray(gram)
    each = np.moveaxis(np.diagonal(gram, axis1=1, axis2=3), -1, 0)
    return {"all": gram, "each": each, "sum": each.sum(0), "mean": each.mean(0)}[outputs]


def count_equations(jaxpr):
    """The equations of a program and of those within."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            within = getattr(value, "jaxpr", value)
            total += count_equations(within) if hasattr(within, "eqns") else 0
    return total


def assert_near(got, expected, rtol):
    """Every entry within `rtol` of the largest one: the error that a sum of rounded products has."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=rtol * max(np.abs(expected).max(), 1e-300))


def budget_for(make, x, rows):
    """The least memory budget for which the blocks of `make(memory_budget=...)` have `rows` examples a side."""
    low, high = 1, 2**40
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if make(memory_budget=middle).block_rows(x) >= rows else (middle + 1, high)
    assert make(memory_budget=low).block_rows(x) == rows
    return low


def standard_errors(samples, expected, bias=0.0):
    """How many standard errors each mean over `samples` (first axis) is from `expected`, give or take a bias."""
    samples, expected = np.asarray(samples, np.float64), np.asarray(expected, np.float64)
    error = samples.std(0, ddof=1) / len(samples) ** 0.5
    rounding = 1e-6 * np.abs(expected).max()  # where all samples agree, float32 has still rounded them
    return np.maximum(np.abs(samples.mean(0) - expected) - bias, 0) / (error + rounding)


def root_width_law(build, x, widths=(64, 128, 256, 512), seeds=48):
    """The empirical NTK of `build(width)` differs from its limit by O(width^-1/2), the mean of both kernels by less."""
    errors = []
    for width in widths:
        net = build(width)
        limits = [np.asarray(make(net)(x)) for make in (nb.infinite_ntk, nb.infinite_nngp)]

        @jax.jit
        def kernels(key, net=net):
            params = net.init(key, x.shape[1:])
            return nb.empirical_ntk(net.apply, params)(x), nb.empirical_nngp(net.apply, params)(x)

        samples = zip(*map(kernels, jax.random.split(jax.random.key(7), seeds)), strict=True)
        ntk, nngp = map(np.stack, samples)
        for kernel, limit in zip((ntk, nngp), limits, strict=True):
            assert np.all(standard_errors(kernel, limit, bias=4 / width * np.abs(limit).max()) < 4)
        # The median: products of four weights have heavy tails, which 48 seeds do not average out.
        errors.append(np.median(np.linalg.norm(ntk - limits[0], axis=(1, 2))) / np.linalg.norm(limits[0]))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    print(f"relative error {np.round(errors, 4)}, slope {slope:.3f}")
    # With 48 seeds a median is known to some 13 %, and a slope over three octaves to 0.09.
    assert abs(slope + 0.5) < 0.2


# name -> the shape of a measure of training, of the run of tests/tracking/conftest.py: 16 examples, one output,
# 6 modes, 8 levels of frequency, 4 parameters, 2 named targets. A measure that is not in it fails the tests.
TRAINING_MEASURES: dict[str, tuple[int, ...]] = {
    "loss": (),
    "accuracy": (),
    "train_loss": (),
    "train_accuracy": (),
    "test_loss": (),
    "test_accuracy": (),
    "margin": (),
    "outputs": (16, 1),
    "eigenvalues": (6,),
    "trace": (),
    "effective_rank": (),
    "centered_effective_rank": (),
    "participation_ratio": (),
    "trace_ratios": (6,),
    "trace_by_layer": (4,),
    "critical_learning_rate": (),
    "uncentered_alignment": (),
    "alignment": (),
    "uncentered_alignment_by_layer": (4,),
    "alignment_by_layer": (4,),
    "kernel_distance": (),
    "kernel_drift": (),
    "kernel_velocity": (),
    "principal_angles": (6,),
    "initial_alignment": (6,),
    "eigenfunctions": (16, 6),
    "matched_modes": (6,),
    "matched_overlap": (6,),
    "energy_of_labels": (6,),
    "energy_of_residual": (6,),
    "energy_of_residual_at_start": (6,),
    "frequencies": (6,),
    "residual_frequency": (),
    "residual_spectrum": (8,),
    "output_spectrum": (8,),
    "target_alignment": (2,),
    "learning_time": (2,),
    "learned": (2,),
    "frozen_outputs": (16, 1),
    "frozen_error": (),
    "frozen_loss": (),
    "path_kernel": (16, 16),
    "path_eigenvalues": (6,),
    "path_outputs": (16, 1),
    "path_error": (),
    "trajectory_complexity": (),
    "weight_norm": (),
    "weight_norm_by_layer": (4,),
    "gradient_norm": (),
    "geometric_complexity": (),
    "sharpness": (),
    "sharpness_limit": (),
    "feature_correlation": (2,),
    "feature_change_correlation": (2,),
}
SEVERAL_OUTPUTS = ("alignment_by_class",)  # the measures that networks of one output have not


class LossCase(NamedTuple):
    """How many outputs a loss is tested with, and what it is of one input, or one position, in NumPy.

    That is of its outputs (o,) and its target; over positions it is summed.
    """

    num_outputs: int
    of_one: Callable[[np.ndarray, Any], float]


LOSSES = {
    "mse": LossCase(3, lambda u, y: np.sum((u - y) ** 2) / 2),
    "logistic": LossCase(1, lambda u, y: np.log1p(np.exp(-y * u[0]))),
    "hinge": LossCase(1, lambda u, y: max(0.0, 1 - y * u[0])),
    "cross_entropy": LossCase(3, lambda u, y: np.log(np.sum(np.exp(u))) - u[y]),
}


POSITIONS = {"rows": (), "sequences": (3,), "images": (2, 2)}  # the axes between the inputs' and the outputs'


def loss_case(name, n=6, seed=0, positions=()):
    """The loss, random outputs `(n, *positions, o)`, and targets of its kind, in the default precision."""
    loss, rng = nb.losses.NAMED[name], np.random.default_rng(seed)
    o = LOSSES[name].num_outputs
    outputs, values = rng.normal(size=(2, n, *positions, o))
    kinds = {"values": values, "signs": np.sign(values[..., 0]), "classes": rng.integers(0, o, (n, *positions))}
    return loss, jnp.asarray(outputs), jnp.asarray(kinds[loss.targets])


class FrequencyCase(NamedTuple):
    """A domain on which a measure of frequency is taken, nodes there, and how far it may be off, relatively."""

    domain: Callable[[float], Any]  # of a radius
    error: float


# Against the degrees of a circle of 64 nodes, up to a fifth of the highest that these tell apart.
FREQUENCY_MEASURES = {
    "harmonic": FrequencyCase(Circle, 0.0),
    "graph": FrequencyCase(lambda radius: nb.domains.PointCloud(), 0.05),
    "dirichlet": FrequencyCase(lambda radius: nb.domains.PointCloud(), 0.15),  # of 512 random steps
}


class ActivationCase(NamedTuple):
    """An activation; in NumPy the function and its derivative, and where those have kinks; how exact the duals are."""

    phi: layers.Activation
    f: Callable
    slope: Callable
    kinks: tuple[float, ...] = ()
    error: float = 1e-12  # relative to sqrt(E[phi(u)^2] E[phi(v)^2]), at variances up to 3


def _sigmoid_slope(x):
    return special.expit(x) * special.expit(-x)


def _relu(x):
    return np.maximum(x, 0)


def _zero(x):
    return 0 * x


def _density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


ZERO = (0.0,)
ACTIVATION_CASES = {
    "relu": ActivationCase(layers.Relu(), _relu, lambda x: x > 0, ZERO),
    "leaky relu": ActivationCase(
        layers.LeakyRelu(0.2), lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1, 0.2), ZERO
    ),
    "two slopes": ActivationCase(
        layers.ABRelu(0.5, -1.5),
        lambda x: np.where(x > 0, -1.5 * x, 0.5 * x),
        lambda x: np.where(x > 0, -1.5, 0.5),
        ZERO,
    ),
    "abs": ActivationCase(layers.Abs(), np.abs, lambda x: np.where(x > 0, 1.0, -1.0), ZERO),
    "squared relu": ActivationCase(layers.RectifiedMonomial(2), lambda x: _relu(x) ** 2, lambda x: 2 * _relu(x), ZERO),
    "rectified power": ActivationCase(
        layers.RectifiedMonomial(5), lambda x: _relu(x) ** 5, lambda x: 5 * _relu(x) ** 4, ZERO
    ),
    "step": ActivationCase(layers.Step(), lambda x: (x > 0) * 1.0, _zero, ZERO),
    "sign": ActivationCase(layers.Sign(), np.sign, _zero, ZERO),
    "hat": ActivationCase(
        layers.Hat(),
        lambda x: np.interp(x, [0, 1, 2], [0, 1, 0]),
        lambda x: ((x > 0) & (x < 1)) * 1.0 - ((x > 1) & (x < 2)),
        (0.0, 1.0, 2.0),
    ),
    "erf": ActivationCase(layers.Erf(), special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
    "erf, scaled": ActivationCase(
        layers.Erf(1.5, 0.6, -0.2),
        lambda x: 1.5 * special.erf(0.6 * x) - 0.2,
        lambda x: 1.8 / np.sqrt(np.pi) * np.exp(-((0.6 * x) ** 2)),
    ),
    "gelu": ActivationCase(layers.Gelu(), lambda x: x * special.ndtr(x), lambda x: special.ndtr(x) + x * _density(x)),
    "sin": ActivationCase(layers.Sin(), np.sin, np.cos),
    "sin, scaled": ActivationCase(
        layers.Sin(1.5, -0.8, 0.3), lambda x: 1.5 * np.sin(0.3 - 0.8 * x), lambda x: -1.2 * np.cos(0.3 - 0.8 * x)
    ),
    "cos": ActivationCase(
        layers.Cos(1.5, 0.8, 0.3), lambda x: 1.5 * np.cos(0.3 + 0.8 * x), lambda x: -1.2 * np.sin(0.3 + 0.8 * x)
    ),
    "sin plus cos": ActivationCase(
        layers.SinPlusCos(0.5, 1.2),
        lambda x: 0.5 * (np.sin(1.2 * x) + np.cos(1.2 * x)),
        lambda x: 0.6 * (np.cos(1.2 * x) - np.sin(1.2 * x)),
    ),
    "rbf": ActivationCase(
        layers.Rbf(0.5),
        lambda x: np.sqrt(2) * np.sin(x + np.pi / 4),
        lambda x: np.sqrt(2) * np.cos(x + np.pi / 4),
    ),
    "gaussian": ActivationCase(
        layers.Gaussian(2.0, -0.3), lambda x: 2 * np.exp(-0.3 * x**2), lambda x: -1.2 * x * np.exp(-0.3 * x**2)
    ),
    "exp": ActivationCase(layers.Exp(0.5, 0.7), lambda x: 0.5 * np.exp(0.7 * x), lambda x: 0.35 * np.exp(0.7 * x)),
    "polynomial": ActivationCase(
        layers.Polynomial((0.3, -1.0, 0.5, 0.2)),
        lambda x: 0.3 - x + 0.5 * x**2 + 0.2 * x**3,
        lambda x: -1 + x + 0.6 * x**2,
    ),
    "monomial": ActivationCase(layers.Monomial(4), lambda x: x**4, lambda x: 4 * x**3),
    "hermite": ActivationCase(
        layers.Hermite(3), lambda x: (x**3 - 3 * x) / np.sqrt(6), lambda x: (3 * x**2 - 3) / np.sqrt(6)
    ),
    "tanh": ActivationCase(layers.Tanh(), np.tanh, lambda x: 1 / np.cosh(x) ** 2, error=5e-5),
    "sigmoid": ActivationCase(layers.Sigmoid(), special.expit, _sigmoid_slope, error=1e-10),
    "silu": ActivationCase(
        layers.Silu(),
        lambda x: x * special.expit(x),
        lambda x: special.expit(x) + x * _sigmoid_slope(x),
        error=1e-9,
    ),
    "softplus": ActivationCase(layers.Softplus(), lambda x: np.logaddexp(0, x), special.expit, error=1e-11),
    "any function": ActivationCase(
        layers.Elementwise(lambda x: jnp.sin(x) * x, lambda x: jnp.sin(x) + x * jnp.cos(x), num_terms=40),
        lambda x: np.sin(x) * x,
        lambda x: np.sin(x) + x * np.cos(x),
    ),
}
