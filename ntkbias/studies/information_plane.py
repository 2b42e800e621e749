"""Layers first fit the labels, and then forget their inputs: with tanh, but not with ReLU.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("information_plane").claims]
['fit', 'tanh label', 'tanh loss', 'tanh order', 'relu label', 'relu loss']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]

FITTED = 0.98  # bits of the label
COMPRESSED = 3.0  # bits of the input that are lost


@dataclasses.dataclass(frozen=True)
class Settings:
    """All inputs of so many bits, the network, its training, the bins, and how often its layers are looked at."""

    num_bits: int = 12
    width: int = 6
    depth: int = 4
    learning_rate: float = 4e-3
    batch_size: int = 256
    num_bins: int = 30
    num_steps: int = 6_000
    num_snapshots: int = 24


def network(settings: Settings, activation: str) -> Any:
    """The architecture. Change it here."""
    return nb.nets.mlp(settings.width, settings.depth, activation=activation, b_std=0.1)


def labeled(bits: np.ndarray, key: Any) -> np.ndarray:
    """Labels -1 and 1, half of each: a random quadratic form of the bits, cut at its median."""
    first, second = np.asarray(jax.random.normal(key, (2, bits.shape[1])))
    score = bits @ first + 0.7 * (bits @ second) * bits[:, 0]
    return np.where(score > np.median(score), 1.0, -1.0)


def run(settings: Settings, key: Any) -> Findings:
    """The information of the last hidden layer with the input and with the label along training."""
    keys = jax.random.split(key)
    x, _ = nb.domains.Hypercube(settings.num_bits).quadrature(2**settings.num_bits)
    y = labeled(np.asarray(x), keys[0])
    at = nb.training.log_steps(settings.num_steps, settings.num_snapshots)
    found: dict[str, Any] = {"steps": np.array(at), "fit": []}
    for activation in ("tanh", "relu"):
        net = network(settings, activation)
        steps = nb.train(
            net.apply,
            net.init(keys[1], x.shape[1:]),
            (x, y),
            optimizer=optax.adam(settings.learning_rate),
            loss="logistic",
            num_steps=at[-1],
            at=at,
            batch_size=settings.batch_size,
            key=keys[1],
        )
        path = [params for _, params in steps]
        hidden = [list(nb.complexity.hidden_activations(net, params, x).values())[-1] for params in path]
        limits = (-1.0, 1.0) if activation == "tanh" else (0.0, float(jnp.max(jnp.stack(hidden))))
        options: dict[str, Any] = {"num_bins": settings.num_bins, "limits": limits}
        information = [nb.complexity.layer_information([each], y, **options) for each in hidden]
        with_input, with_label = (
            np.array([float(getattr(one, name)[0]) for one in information]) for name in ("with_input", "with_label")
        )
        lost = with_input.max() - with_input
        found[activation] = with_input, with_label
        found[f"{activation} label"], found[f"{activation} loss"] = float(with_label[-1]), float(lost[-1])
        curves = np.stack([lost, with_label], 1)
        halfway = np.array([lost.max(), with_label[0] + with_label.max()]) / 2
        forgotten, fitted = nb.scaling.first_passage(at, curves, halfway)
        found[f"{activation} order"] = float(forgotten / max(fitted, 1))
        found["fit"].append(nb.training.accuracy(net.apply(path[-1], x), y))
    return found | {"fit": min(found["fit"])}


def draw(found: Findings, ax: Axes) -> None:
    """The path of the last hidden layer in the information plane."""
    for activation in ("tanh", "relu"):
        with_input, with_label = found[activation]
        ax.plot(with_input, with_label, "o-", ms=4, label=activation)
        ax.annotate("end", (with_input[-1], with_label[-1]))
    ax.set_xlabel("information about the input (bits)")
    ax.set_ylabel("information about the label (bits)")
    ax.legend(loc="lower right")


STUDY = Study(
    name="information_plane",
    papers=(
        Paper(
            "Shwartz-Ziv and Tishby",
            2017,
            "Opening the Black Box of Deep Neural Networks via Information",
            "1703.00810",
        ),
    ),
    idea="The state of a layer, its activations in bins, has information about the input and about the label. In "
    "training, the information about the label grows first, and later that about the input falls: fitting, then "
    "compression. It is a matter of binning and saturation: with tanh states merge at the ends of the range, with ReLU "
    "they do not (Saxe et al. 2018).",
    scales={
        "smoke": Settings(num_steps=2_000, num_snapshots=8),
        "small": Settings(),
        "paper": Settings(depth=5, width=10, num_steps=20_000, num_snapshots=40),
    },
    run=run,
    claims=(
        Claim("Both networks fit the labels.", "fit", Bound(low=0.99), "share of right labels", "each"),
        Claim(
            "Fitting: the last tanh layer ends with all of the label's one bit.",
            "tanh label",
            Bound(low=FITTED),
            "bits",
            "each",
        ),
        Claim(
            "Compression: it loses 3 or more of its 12 bits about the input,",
            "tanh loss",
            Bound(low=COMPRESSED),
            "most minus last; the paper gives no number",
            "each",
        ),
        Claim(
            "after it has fitted the labels.",
            "tanh order",
            Bound(low=1.0),
            "the step at which half of this loss has happened, over that at which half of the label's gain has",
            "each",
        ),
        Claim("The last ReLU layer fits the labels as well,", "relu label", Bound(low=FITTED), "bits", "each"),
        Claim(
            "but it does not forget its inputs.",
            "relu loss",
            Bound(high=0.2),
            "most minus last, in bits; the paper gives no number",
            "each",
        ),
    ),
    figures={"plane": Figure("The last hidden layer in the information plane, along training.", draw)},
    num_seeds=3,
)
