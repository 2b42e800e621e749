"""The gradients of deep plain networks are like white noise; those of residual networks are not.

>>> from ntkbias.studies import study_of
>>> study_of("shattered_gradients").claims[0].quantity
'plain'
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.layers import Dense, Elementwise, Layer, Relu, Residual, Sequential
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]

MEAN = (2 * np.pi) ** -0.5  # of ReLU over a standard Gaussian
GAIN = (1 / 2 - 1 / (2 * np.pi)) ** -0.5  # that keeps the variance one behind a centered ReLU


@dataclasses.dataclass(frozen=True)
class Settings:
    """Points of the circle, the width, the depths between which correlations fall, deep networks, and how many."""

    num_points: int = 64
    width: int = 100
    first: int = 5
    depth: int = 9
    num_networks: int = 1_000
    deep: int = 24
    num_deep: int = 40


def centered(x: Array) -> Array:
    """ReLU minus its mean: what batch normalization makes of a wide layer at initialization."""
    return jnp.maximum(x, 0) - MEAN


def network(kind: str, width: int) -> tuple[Layer, Layer, Layer]:
    """The architecture: the first layer, the one that is repeated, and the nonlinearity in front of a readout."""
    phi: Any = Elementwise(function=centered) if kind == "centered" else Relu()
    gain = GAIN if kind == "centered" else 2**0.5
    hidden = Sequential(phi, Dense(width, gain))
    return Dense(width, 2**0.5), Residual(hidden) if kind == "residual" else hidden, phi


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def slopes(kind: str, width: int, depth: int, num_points: int, key: Any) -> Float[Array, "depth width points"]:
    """The derivatives in the angle of a random network's features, layer by layer; a readout mixes the channels."""
    first, later, phi = network(kind, width)
    start, *keys = jax.random.split(key, depth)
    params = first.init(start, (2,)), jax.vmap(lambda own: later.init(own, (width,)))(jnp.stack(keys))

    def layers(params: Any, x: Array) -> Array:  # (points, depth, width)
        x = first.apply(params[0], x)
        _, found = jax.lax.scan(lambda x, own: (later.apply(own, x),) * 2, x, params[1])
        return phi.apply((), jnp.concatenate([x[None], found])).swapaxes(0, 1)

    angles = 2 * jnp.pi * jnp.arange(num_points) / num_points
    return jnp.moveaxis(nb.frequency.derivative_along(layers, params, nb.domains.Circle().point, angles), 0, 2)


def run(settings: Settings, key: Any) -> Findings:
    """Correlations of gradients a quarter of the circle apart, by depth, and exponents of their power spectra."""
    found: dict[str, Any] = {"depths": np.arange(1, settings.depth + 1)}
    band = slice(4, settings.num_points // 4)  # no aliases, and no first degrees
    keys = jax.random.split(key, settings.num_networks)
    for kind in ("plain", "centered", "residual"):
        products, power = np.zeros(settings.depth), np.zeros((2, settings.num_points // 2 + 1))
        for own in keys:
            each = slopes(kind, settings.width, settings.depth, settings.num_points, own)
            products += nb.frequency.autocorrelation(each, settings.num_points // 4, periodic=True)
        found[f"{kind} correlations"] = np.abs(products) / len(keys)
        first, last = np.log2(found[f"{kind} correlations"][[settings.first - 1, -1]])
        found[kind] = float(last - first) / (settings.depth - settings.first)
        for own in keys[: settings.num_deep]:
            each = np.asarray(slopes(kind, settings.width, settings.deep, settings.num_points, own))[[0, -1]]
            each = each / np.sqrt(np.mean(each**2, (1, 2), keepdims=True))
            frequencies, powers = nb.frequency.power_spectrum(each, 1 / settings.num_points)
            power += powers.mean(1)
        for name, row in zip(("shallow", "deep"), power, strict=True):
            found[f"{name} {kind} power"] = row[1:]
            found[f"{name} {kind}"] = nb.scaling.power_law(frequencies[band], row[band]).exponent
    return found | {"frequencies": frequencies[1:]}


def draw(found: Findings, ax: Axes) -> None:
    """The correlation of gradients by depth."""
    for kind in ("plain", "centered", "residual"):
        ax.plot(found["depths"], found[f"{kind} correlations"], "o-", label=kind)
    ax.plot(found["depths"], 0.5 ** found["depths"], color="0.5", ls=":", label="2^-depth")
    ax.set_yscale("log")
    ax.set_xlabel("hidden layers")
    ax.set_ylabel("size of the correlation, a quarter of the circle apart")
    ax.legend()


def draw_power(found: Findings, ax: Axes) -> None:
    """The power spectra of the gradients."""
    for name in ("shallow plain", "deep plain", "deep centered", "deep residual"):
        ax.loglog(found["frequencies"], found[f"{name} power"], label=name)
    ax.set_xlabel("cycles per turn")
    ax.set_ylabel("power of the gradient")
    ax.legend()


STUDY = Study(
    name="shattered_gradients",
    papers=(
        Paper(
            "Balduzzi et al.",
            2017,
            "The Shattered Gradients Problem: If resnets are the answer, then what is the question?",
            "1702.08591",
        ),
    ),
    idea="Along a curve of inputs, the gradient of a shallow ReLU network is like a random walk. With each layer of a "
    "plain one, gradients at different inputs lose correlation, until they are like white noise, which is hard to "
    "train on. Gradients of residual networks keep their correlation far longer.",
    scales={
        "smoke": Settings(num_points=32, width=50, first=1, depth=4, num_networks=30, deep=12, num_deep=5),
        "small": Settings(),
        "paper": Settings(num_points=256, width=200, num_networks=20_000, deep=50, num_deep=1_000),
    },
    run=run,
    claims=(
        Claim(
            "In plain ReLU networks the correlation of gradients falls as 2^-depth.",
            "plain",
            Bound.about(-1, 0.1),
            "binary logarithm of its size per layer; the paper assumes that units are active for two inputs "
            "independently of each other, but without centered units the features of two inputs align with depth",
        ),
        Claim(
            "It does so if units are centered, as batch normalization does.",
            "centered",
            Bound.about(-1, 0.1),
            "binary logarithm per layer; -1 is the limit for wide and deep networks, and 100 units lie above it",
        ),
        Claim(
            "In residual networks it falls much slower.",
            "residual",
            Bound(low=-0.5),
            "binary logarithm per layer; half of the plain networks' rate or less",
        ),
        Claim(
            "Gradients of shallow networks are like brown noise.",
            "shallow plain",
            Bound.about(-2, 0.3),
            "exponent of the power spectrum",
        ),
        Claim(
            "Those of deep plain networks are like white noise.",
            "deep plain",
            Bound(low=-0.5),
            "exponent of the power spectrum: 0 is white",
        ),
        Claim(
            "So are those of deep networks with centered units.",
            "deep centered",
            Bound(low=-0.5),
            "exponent of the power spectrum",
        ),
        Claim(
            "Those of residual networks of the same depth are closer to brown than to white.",
            "deep residual",
            Bound(high=-1.0),
            "exponent of the power spectrum",
        ),
    ),
    figures={
        "correlation": Figure("Correlation of the gradients at two inputs, over random networks.", draw),
        "power": Figure("Power spectra of gradients along the circle.", draw_power),
    },
    num_seeds=3,
)
