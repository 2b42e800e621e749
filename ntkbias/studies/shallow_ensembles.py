"""Residual networks behave like ensembles of shallow networks.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("shallow_ensembles").claims][:2]
['residual', 'plain']
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.layers import Dense, Flatten, LayerNorm, Relu, Residual, Sequential
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits, the networks, their training, and the numbers of removals and of paths that are drawn."""

    num_train: int = 1_000
    num_test: int = 700
    width: int = 64
    num_blocks: int = 12
    num_steps: int = 1_500
    batch_size: int = 100
    learning_rate: float = 1e-2
    num_removals: int = 20
    num_paths: int = 8
    num_probe: int = 20


def network(settings: Settings, residual: bool) -> Sequential:
    """Blocks of normalization, ReLU and a dense layer between two dense layers, with shortcuts or without."""
    block = Sequential(LayerNorm(), Relu(), Dense(settings.width, 2**0.5))
    blocks = [Residual(block) if residual else block] * settings.num_blocks
    return Sequential(Flatten(), Dense(settings.width), *blocks, LayerNorm(), Dense(10))


def removing(net: Any) -> Any:
    """The network as a compiled function of (params, x, kept): without the blocks whose entry of `kept` is False."""

    def f(params: Any, x: Array, kept: Array) -> Array:
        x = net.layers[1].apply(params[1], net.layers[0].apply((), x))
        for block, own, stays in zip(net.layers[2:-2], params[2:-2], kept, strict=True):
            x = jnp.where(stays, block.apply(own, x), x)
        return net.layers[-1].apply(params[-1], net.layers[-2].apply(params[-2], x))

    return jax.jit(f)


def gated(value: Array, gate: Array) -> Array:
    """The value, through which the gradient passes only if the gate is one."""
    return gate * value + jax.lax.stop_gradient((1 - gate) * value)


def along_paths(net: Any) -> Any:
    """The network as a function of its parameters and of (x, gates): gradients take one path per row of gates.

    The path goes through the branch of each block whose gate is one, and through the shortcut of the others.
    """

    def f(params: Any, inputs: Any) -> Array:
        x, gates = inputs
        x = net.layers[1].apply(params[1], net.layers[0].apply((), x))
        for place, (layer, own) in enumerate(zip(net.layers[2:-2], params[2:-2], strict=True)):
            gate = gates[:, place, None]
            x = gated(layer.branch.apply(own["branch"], x), gate) + gated(x, 1 - gate)
        return net.layers[-1].apply(params[-1], net.layers[-2].apply(params[-2], x))

    return f


def run(settings: Settings, key: Any) -> Findings:
    """Train both networks, remove blocks, and measure gradients and the kernel's trace path by path."""
    keys = jax.random.split(key, 3)
    data: Any = nb.datasets.digits(settings.num_train + settings.num_test)
    x, x_test = jnp.split(jnp.asarray(data.x), [settings.num_train])
    y, y_test = np.split(data.y, [settings.num_train])
    rng, count = np.random.default_rng(np.asarray(jax.random.key_data(keys[0]))), settings.num_blocks
    found: dict[str, Any] = {}
    for kind in ("residual", "plain"):
        net: Any = network(settings, kind == "residual")
        params = nb.training.trained(
            net.apply,
            net.init(keys[1], x.shape[1:]),
            (x, y),
            optimizer=optax.adam(settings.learning_rate),
            loss="cross_entropy",
            num_steps=settings.num_steps,
            batch_size=settings.batch_size,
            key=keys[2],
        )

        reduced = removing(net)

        def error(places: Any, f: Any = reduced, params: Any = params) -> float:
            kept = ~np.isin(np.arange(count), places)
            return 1 - nb.training.accuracy(f(params, x_test, kept), y_test)

        found[f"{kind} error"] = error(())
        found[f"{kind} each"] = np.array([error((place,)) for place in range(count)])
        found[kind] = float(np.median(found[f"{kind} each"])) - found[f"{kind} error"]
        if kind == "residual":
            draws = [
                [error(rng.choice(count, size, replace=False)) for _ in range(settings.num_removals)]
                for size in range(count + 1)
            ]
            found["removed"] = np.mean(draws, 1)
            found |= shares(net, params, x[: settings.num_probe], y[: settings.num_probe], settings, rng)
    found["order"] = float(scipy.stats.spearmanr(np.arange(count + 1), found["removed"]).statistic)
    found["jump"] = float(np.diff(found["removed"]).max() / np.ptp(found["removed"]))
    return found


def shares(net: Sequential, params: Any, x: Any, y: Any, settings: Settings, rng: Any) -> dict[str, Any]:
    """The share of the gradient and of the kernel's trace by length of path: the number of paths times their mean."""
    count, f, first = settings.num_blocks, along_paths(net), "[1]"  # the first dense layer
    lengths = np.arange(count + 1)
    gates = np.zeros((count + 1, settings.num_paths, len(x), count), np.float32)
    for length in lengths:
        for path in range(settings.num_paths):
            gates[length, path, :, rng.choice(count, length, replace=False)] = 1
    inputs = jnp.tile(x, (len(lengths) * settings.num_paths, *(1,) * (x.ndim - 1))), gates.reshape(-1, count)
    labels = np.tile(y, len(lengths) * settings.num_paths)
    norms = nb.complexity.example_gradient_norms(f, params, inputs, labels, loss="cross_entropy", wrt=first)
    trace = nb.empirical_ntk(f, params, wrt=first).operator(inputs).diagonal()
    paths = np.array([math.comb(count, length) for length in lengths])
    found: dict[str, Any] = {"lengths": lengths, "paths": paths / paths.sum()}
    for name, values in (("gradient", norms), ("trace", trace)):
        total = paths * np.asarray(values, float).reshape(len(lengths), -1).mean(1)
        found[f"{name} shares"] = total / total.sum()
        found[f"short {name}"] = float(found[f"{name} shares"][: count // 2].sum())
    return found


def draw(found: Findings, ax: Axes) -> None:
    """The test error after blocks have been removed."""
    blocks = np.arange(1, len(found["plain each"]) + 1)
    ax.plot(blocks, found["plain each"], "s-", label="plain, without this block")
    ax.plot(blocks, found["residual each"], "o-", label="residual, without this block")
    ax.plot(np.arange(len(found["removed"])), found["removed"], "^-", label="residual, without so many random blocks")
    ax.set_xlabel("block; number of blocks")
    ax.set_ylabel("test error")
    ax.legend()


def draw_paths(found: Findings, ax: Axes) -> None:
    """The shares by length of path."""
    for name, label in (("paths", "paths"), ("gradient shares", "gradient"), ("trace shares", "trace of the kernel")):
        ax.plot(found["lengths"], found[name], "o-", label=label)
    ax.set_xlabel("blocks on the path")
    ax.set_ylabel("share")
    ax.legend()


STUDY = Study(
    name="shallow_ensembles",
    papers=(
        Paper(
            "Veit, Wilber and Belongie",
            2016,
            "Residual Networks Behave Like Ensembles of Relatively Shallow Networks",
            "1605.06431",
        ),
    ),
    idea="A residual network of n blocks is a sum over 2^n paths, each of which takes or skips every block. The paths "
    "depend little on each other: without one block the network still works, and its error grows smoothly with the "
    "number of blocks that are removed. Most of the gradient comes from paths that are short.",
    scales={
        "smoke": Settings(num_train=200, num_test=200, num_blocks=4, num_steps=150, num_removals=3, num_paths=2),
        "small": Settings(),
        "paper": Settings(width=128, num_blocks=54, num_steps=20_000, num_removals=50),
    },
    run=run,
    claims=(
        Claim(
            "A residual network without one block hardly errs more.",
            "residual",
            Bound(high=0.05),
            "rise of the test error, median over blocks; the bound is ours",
        ),
        Claim(
            "A plain network without one block fails.",
            "plain",
            Bound(low=0.4),
            "rise of the test error, median over blocks; half of the way to chance or more",
        ),
        Claim(
            "The error of a residual network grows with the number of blocks that are removed,",
            "order",
            Bound(low=0.9),
            "rank correlation of number and error",
        ),
        Claim(
            "and does so smoothly.",
            "jump",
            Bound(high=0.5),
            "largest step as a share of the whole rise",
        ),
        Claim(
            "Paths through fewer than half of the blocks carry most of the gradient,",
            "short gradient",
            Bound(low=0.5),
            "number of paths times the mean norm of one, of the first layer's gradient",
        ),
        Claim(
            "and most of the kernel's trace.",
            "short trace",
            Bound(low=0.5),
            "number of paths times the mean trace of one, of the first layer's kernel",
        ),
    ),
    figures={
        "removal": Figure("The error without one block, and without several.", draw),
        "paths": Figure("The share of each length of path.", draw_paths),
    },
    num_seeds=3,
)
