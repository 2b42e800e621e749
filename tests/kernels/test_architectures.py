"""The empirical NTK of networks that hypothesis draws, against explicit Jacobians.

A network is a list of parts, each a function of its params and of a batch. Parts are drawn one after the other for the
shape that the last one gives; a failure prints their names.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import OUTPUTS, assert_near, from_all
from hypothesis import HealthCheck, assume, event, given, settings

import ntkbias as nb


class Part(NamedTuple):
    """One step of a network: `apply(params, h)` with params of these shapes."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    apply: Callable[[dict, Any], Any]


class Network(NamedTuple):
    """Parts, each with an index of its params. Parts with the same index share params."""

    input_shape: tuple[int, ...]
    num_tokens: int  # inputs are token numbers below it; 0: real numbers
    parts: tuple[Part, ...]
    places: tuple[int, ...]

    def __repr__(self):
        names = [f"{place}: {part.name}" for part, place in zip(self.parts, self.places, strict=True)]
        kind = f"{self.num_tokens} tokens" if self.num_tokens else "numbers"
        return f"Network({self.input_shape} {kind}, [{', '.join(names)}])"

    def __call__(self, params, x):
        for part, place in zip(self.parts, self.places, strict=True):
            x = part.apply(params[place], x)
        return x

    def params(self, rng):
        shapes = {place: part.shapes for part, place in zip(self.parts, self.places, strict=True)}
        draw = lambda shape: jnp.asarray(rng.normal(size=shape) * 0.7)  # noqa: E731
        return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))

    def inputs(self, rng, n):
        if self.num_tokens:
            return jnp.asarray(rng.integers(0, self.num_tokens, (n, *self.input_shape)))
        return jnp.asarray(rng.normal(size=(n, *self.input_shape)))


# -- parts without weights, and functions of weights -----------------------------------------------------------------


def _mask(array):
    return array * (np.arange(array.size).reshape(array.shape) % 3 > 0)


WEIGHTS = {
    "w": lambda w: w,
    "-w/2": lambda w: -0.5 * w,
    "w/|w|": lambda w: w / jnp.sqrt(jnp.sum(w * w)),
    "tanh(w)": jnp.tanh,
    "masked w": _mask,
    "flipped w": jnp.flip,
    "centered w": lambda w: w - 0.5 * w.mean(0),
    "w+flipped w": lambda w: w + jnp.flip(w, 0),
}


@jax.custom_jvp
def _bent(x):
    return jnp.where(x > 0, x, 0.2 * x)


@_bent.defjvp
def _bent_jvp(primals, tangents):  # not the derivative of what it computes, as in a straight-through estimator
    return _bent(*primals), tangents[0] * (1.0 + 0.5 * jnp.cos(primals[0]))


ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "abs": jnp.abs,
    "sin": jnp.sin,
    "square": lambda h: h**2,
    "softmax": jax.nn.softmax,
    "custom_jvp": _bent,
}

STRUCTURE = {
    "flatten": lambda h: h.reshape(len(h), -1),
    "reverse": lambda h: h[:, ::-1],
    "gather": lambda h: h[:, np.arange(2 * h.shape[1]) // 3],
    "concatenate": lambda h: jnp.concatenate([h, -2.0 * h[:, :1]], 1),
    "cumsum": lambda h: jnp.cumsum(h, 1),
    "swap": lambda h: jnp.swapaxes(h, 1, 2) if h.ndim > 2 else h[:, None],
    "last axis in two": lambda h: h.reshape(*h.shape[:-1], -1, 2) if h.shape[-1] % 2 == 0 else h,
    "max_pool": lambda h: jax.lax.reduce_window(
        h, -jnp.inf, jax.lax.max, (1, *(2,) * (h.ndim - 1)), (1,) * h.ndim, "SAME"
    ),
}


# -- parts with weights: each function draws a part for a shape without the batch axis -------------------------------

sizes = st.integers(1, 3)


def dense(draw, shape):
    how, width, bias = draw(st.sampled_from([*WEIGHTS])), draw(sizes), draw(st.booleans())
    shapes = {"w": (shape[-1], width), **({"b": (width,)} if bias else {})}
    return Part(f"dense({how}, {width}, {bias=})", shapes, lambda p, h: h @ WEIGHTS[how](p["w"]) + p.get("b", 0.0))


def left_dense(draw, shape):
    width = draw(sizes)
    rule = "oi,n...i->n...o"
    return Part(f"left_dense({width})", {"w": (width, shape[-1])}, lambda p, h: jnp.einsum(rule, p["w"], h))


def twice(draw, shape):
    width, how = draw(sizes), draw(st.sampled_from(["transposed", "bilinear", "slices"]))

    def apply(p, h):
        if how == "transposed":
            return jnp.tanh(h @ p["w"]) @ p["w"].T
        if how == "bilinear":
            return (h @ p["w"]) * jnp.sin(h @ p["w"])
        return (h @ p["w"][:, :1]) * (h @ p["w"][:, 1:])

    return Part(f"twice({how}, {width})", {"w": (shape[-1], width + (how == "slices"))}, apply)


def low_rank(draw, shape):
    width = draw(sizes)
    return Part(f"low_rank({width})", {"a": (shape[-1], 1), "b": (1, width)}, lambda p, h: h @ (p["a"] @ p["b"]))


def weight_norm(draw, shape):
    def apply(p, h):
        return h @ (p["g"] * p["w"] / jnp.sqrt(jnp.sum(p["w"] ** 2, 0)))

    width = draw(sizes)
    return Part(f"weight_norm({width})", {"w": (shape[-1], width), "g": (width,)}, apply)


def layer_norm(draw, shape):
    def apply(p, h):
        centered = h - h.mean(-1, keepdims=True)
        normal = centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + 0.1)
        return normal * p["scale"] + p["shift"]

    return Part("layer_norm", {"scale": shape[-1:], "shift": ()}, apply)


def position(draw, shape):
    """Weights that are added or multiplied at each position, like a positional embedding."""
    times = draw(st.booleans())
    rows = np.arange(shape[0]) // 2 if draw(st.booleans()) else np.arange(shape[0])
    apply = lambda p, h: h * p["at"][rows] if times else h + p["at"][rows]  # noqa: E731
    return Part(f"position({times=}, {rows})", {"at": shape}, apply)


def stack(draw, shape):
    """A scan over a stack of weights."""
    depth, reverse, own = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.booleans())

    def apply(p, h):
        def step(h, w):
            return jnp.tanh(h @ (w if own else p["w"][0])), h.sum(-1)

        carried, seen = jax.lax.scan(step, h, p["w"], reverse=reverse)
        return carried + seen.sum(0)[..., None]

    return Part(f"stack({depth}, {reverse=}, {own=})", {"w": (depth, shape[-1], shape[-1])}, apply)


def recurrent(draw, shape):
    def apply(p, h):
        def step(state, token):
            state = jnp.tanh(state @ p["h"] + token @ p["w"])
            return state, state

        _, states = jax.lax.scan(step, jnp.zeros((len(h), 2)), h.swapaxes(0, 1))
        return states.swapaxes(0, 1)

    return Part("recurrent", {"h": (2, 2), "w": (shape[-1], 2)}, apply)


def across(draw, shape):
    """A dense layer over positions, or a layer with separate weights for each position."""
    each, width = draw(st.booleans()), draw(sizes)
    if each:
        return Part(f"across({each=})", {"w": (*shape, width)}, lambda p, h: jnp.einsum("nti,tio->nto", h, p["w"]))
    return Part(f"across({each=})", {"w": (shape[0], width)}, lambda p, h: (h.swapaxes(1, 2) @ p["w"]).swapaxes(1, 2))


def attention(draw, shape):
    heads, shared = draw(st.integers(1, 2)), draw(st.booleans())

    def apply(p, h):
        q, k, v = (jnp.einsum("nti,ihd->nhtd", h, p[name]) for name in ("q", "q" if shared else "k", "v"))
        return jnp.einsum("nhtd,hdo->nto", jax.nn.softmax(q @ k.swapaxes(2, 3)) @ v, p["o"])

    wide = (shape[-1], heads, 2)
    shapes = {"q": wide, "v": wide, "o": (heads, 2, 2), **({} if shared else {"k": wide})}
    return Part(f"attention({heads}, {shared=})", shapes, apply)


def convolution(draw, shape):
    """A convolution with any strides, dilations, padding, groups and layout, in 1-D or 2-D; or transposed."""
    *space, channels = shape
    ones = (1,) * len(space)
    groups = draw(st.sampled_from([size for size in range(1, channels + 1) if channels % size == 0]))
    width = groups * draw(st.integers(1, 2))
    window = tuple(draw(st.integers(1, min(3, size))) for size in space)
    strides = tuple(draw(st.integers(1, 2)) for _ in space)
    lhs, rhs = (tuple(draw(st.integers(1, 2)) for _ in space) if draw(st.booleans()) else ones for _ in "lr")
    padding: Any = draw(st.sampled_from(["SAME", "VALID", None])) if lhs == ones else None
    padding = padding or [(draw(st.integers(-1, 2)), draw(st.integers(0, 2))) for _ in space]
    how = draw(st.sampled_from([*WEIGHTS]))
    first = draw(st.booleans())
    letters = "HW"[: len(space)]
    sides = (f"NC{letters}", f"OI{letters}") if first else (f"N{letters}C", f"{letters}IO")
    kernel = (width, channels // groups, *window) if first else (*window, channels // groups, width)

    def apply(p, h):
        h = jnp.moveaxis(h, -1, 1) if first else h
        h = jax.lax.conv_general_dilated(
            h, WEIGHTS[how](p["w"]), strides, padding, lhs, rhs, (*sides, sides[0]), feature_group_count=groups
        )
        return jnp.moveaxis(h, 1, -1) if first else h

    name = f"convolution({window}, {strides=}, {padding=}, {lhs=}, {rhs=}, {groups=}, {width=}, {first=}, {how})"
    return Part(name, {"w": kernel}, apply)


def conv_transpose(draw, shape):
    *space, channels = shape
    strides, padding = tuple(draw(st.integers(1, 2)) for _ in space), draw(st.sampled_from(["SAME", "VALID"]))
    letters = "HW"[: len(space)]
    layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    apply = lambda p, h: jax.lax.conv_transpose(h, p["w"], strides, padding, dimension_numbers=layout)  # noqa: E731
    return Part(f"conv_transpose({strides=}, {padding=})", {"w": (*(2,) * len(space), channels, 2)}, apply)


ANYWHERE = [dense, dense, left_dense, twice, low_rank, weight_norm, layer_norm, position, stack]
BY_RANK = {
    1: ANYWHERE,
    2: [*ANYWHERE, convolution, convolution, conv_transpose, attention, attention, recurrent, across],
    3: [*ANYWHERE, convolution, convolution, convolution, conv_transpose],
}

WRAPPERS = {
    "": lambda apply: apply,
    "jit ": jax.jit,
    "remat ": jax.checkpoint,
    "one by one ": lambda apply: lambda p, h: jax.vmap(lambda h: apply(p, h[None])[0])(h),
    "residual ": lambda apply: lambda p, h: _residual(h, apply(p, h)),
}


def _residual(h, branch):
    return h + branch if h.shape == branch.shape else branch


# -- networks --------------------------------------------------------------------------------------------------------


@st.composite
def networks(draw):
    tokens = draw(st.sampled_from([0, 0, 0, 5]))
    rank = 1 if tokens else draw(st.integers(1, 3))
    shape = input_shape = tuple(draw(st.integers(2, 4)) for _ in range(rank))
    parts, places, shapes = [], [], []  # shapes: of what each part was given

    def add(part, place):
        nonlocal shape
        params = {name: jnp.zeros(size) for name, size in part.shapes.items()}
        kind = int if tokens and not parts else float
        result = jax.eval_shape(part.apply, params, jax.ShapeDtypeStruct((2, *shape), kind)).shape
        assume(0 not in result and math.prod(result) <= 128)
        parts.append(part)
        places.append(place)
        shapes.append(shape)
        shape = result[1:]

    if tokens:
        gathered, width = draw(st.booleans()), draw(sizes)
        embed = lambda p, t: p["e"][t] if gathered else jax.nn.one_hot(t, tokens) @ p["e"]  # noqa: E731
        add(Part(f"embed({gathered=}, {width})", {"e": (tokens, width)}, embed), 0)
    for _ in range(draw(st.integers(1, 3))):
        again = [at for at, given in enumerate(shapes) if given == shape and parts[at].shapes and (at or not tokens)]
        if again and draw(st.booleans()):
            at = draw(st.sampled_from(again))
            add(parts[at], places[at])
        else:
            part = draw(st.sampled_from(BY_RANK[len(shape)]))(draw, shape)
            wrapper = draw(st.sampled_from([*WRAPPERS]))
            add(part._replace(name=wrapper + part.name, apply=WRAPPERS[wrapper](part.apply)), len(parts))
        for kind in (ACTIVATIONS, STRUCTURE):
            if draw(st.booleans()):
                name = draw(st.sampled_from([*kind]))
                change = kind[name]
                if len(shape) < 3 or name != "last axis in two":
                    add(Part(name, {}, lambda _, h, change=change: change(h)), len(parts))
    tied = [at for at, part in enumerate(parts) if part.shapes.get("w", ())[1:] == shape[-1:] and len(part.shapes) == 1]
    if tied and draw(st.booleans()):
        at = draw(st.sampled_from(tied))
        add(Part(f"tied to {at}", parts[at].shapes, lambda p, h: jnp.tanh(h) @ p["w"].T), places[at])
    if math.prod(shape) > 6:
        pool = draw(st.sampled_from([jnp.mean, jnp.sum, jnp.max]))
        add(Part(f"pool by {pool.__name__}", {}, lambda _, h: pool(h, tuple(range(1, max(2, h.ndim - 1))))), len(parts))
    return Network(input_shape, tokens, tuple(parts), tuple(places))


def assert_ntk_is_the_product_of_jacobians(network, outputs, sizes, seed):
    """Compare kernels of n inputs with themselves if `sizes` is (n,), or with m others if it is (n, m)."""
    rng = np.random.default_rng(seed)
    params, batches = network.params(rng), [network.inputs(rng, size) for size in sizes]
    event(f"{len(jax.tree.leaves(params))} params")

    @jax.jit  # one program, since compilation dominates the time
    def values(params, batches):
        x = jnp.concatenate(batches)
        shape = (len(x), math.prod(jax.eval_shape(network, params, x).shape[1:]), -1)
        # Forward mode shares nothing with the kernel, which reads the gradient.
        leaves = jax.tree.leaves(jax.jit(jax.jacfwd(network))(params, x))
        jacobian = jnp.concatenate([leaf.reshape(shape) for leaf in leaves], -1)
        explicit = jnp.einsum("nap,mbp->namb", jacobian[: sizes[0]], jacobian[-sizes[-1] :])
        return explicit, nb.empirical_ntk(network, params, outputs=outputs)(*batches)

    explicit, gram = values(params, batches)
    assume(np.isfinite(explicit).all())  # JAX's forward mode gives NaN for a maximum over equal values: no oracle there
    assert_near(gram, from_all(explicit, outputs), 1e-10)


drawn = given(networks(), st.sampled_from(OUTPUTS), st.sampled_from([(3,), (3, 2)]), st.integers(0, 9))
# The fixture sets float64 for all examples alike, and an example takes as long as compiling it does.
checks = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much)
common = settings(deadline=None, suppress_health_check=checks)


@settings(common, max_examples=12, derandomize=True)
@drawn
@pytest.mark.slow
def test_ntk_of_drawn_networks(x64, network, outputs, sizes, seed):
    assert_ntk_is_the_product_of_jacobians(network, outputs, sizes, seed)


@pytest.mark.slow
@settings(common, max_examples=200)
@drawn
def test_ntk_of_many_drawn_networks(x64, network, outputs, sizes, seed):
    assert_ntk_is_the_product_of_jacobians(network, outputs, sizes, seed)
