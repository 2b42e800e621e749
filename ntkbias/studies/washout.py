"""Whether data wash out the differences between architectures.

>>> from ntkbias.studies import study_of
>>> len(study_of("washout").claims)
4
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]

PAIRS = (("ReLU", "hat"), ("ReLU", "CNN"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Digits to learn and digits to compare on, the networks, their training, and the modes that are compared."""

    sizes: tuple[int, ...] = (50, 200, 800)
    num_probe: int = 150
    width: int = 128
    channels: int = 8
    depth: int = 2
    learning_rate: float = 3e-3
    batch_size: int = 50  # the same for all sizes, and so are the steps: what grows is the number of examples alone
    num_steps: int = 400
    num_modes: int = 10


def networks(settings: Settings) -> dict[str, Any]:
    """The architectures. The first pair differs in its activation alone, the second one in its connections.

    All have biases: without them, a hat is zero for half of its inputs.
    """
    options: dict[str, Any] = {"depth": settings.depth, "num_outputs": 10, "b_std": 1.0}
    return {
        "ReLU": nb.nets.mlp(width=settings.width, **options),
        "hat": nb.nets.mlp(width=settings.width, activation="hat", **options),
        "CNN": nb.nets.cnn(width=settings.channels, **options),
    }


def run(settings: Settings, key: Any) -> Findings:
    """Train each architecture on growing sets, and compare the first eigenfunctions on held-out digits."""
    data: Any = nb.datasets.digits(max(settings.sizes) + settings.num_probe)
    probe, x = jnp.split(jnp.asarray(data.x), [settings.num_probe])
    y = data.y[settings.num_probe :]
    nets = networks(settings)
    starts = {name: net.init(key, x.shape[1:]) for name, net in nets.items()}
    overlaps, frequencies, errors = [], [], []
    for size in (0, *settings.sizes):
        things = {}
        for name, net in nets.items():
            end = starts[name]
            if size:
                end = nb.training.trained(
                    net.apply,
                    end,
                    (x[:size], y[:size]),
                    optimizer=optax.adam(settings.learning_rate),
                    loss="cross_entropy",
                    num_steps=settings.num_steps,
                    batch_size=settings.batch_size,
                    key=key,
                )
            things[name] = (net.apply, end)
            errors.append(1 - nb.training.accuracy(net.apply(end, probe), data.y[: settings.num_probe]))
        compared = nb.compare(things, probe, nb.domains.PointCloud(), keep=settings.num_modes)
        similarity = compared.similarity(settings.num_modes)
        found = dict(zip(similarity.pairs, np.asarray(similarity.overlap, float), strict=True))
        overlaps.append([found[pair] for pair in PAIRS])
        first = {name: np.asarray(compared[name].ranking.frequencies)[: settings.num_modes].mean() for name in nets}
        frequencies.append([abs(np.log(first[one] / first[other])) for one, other in PAIRS])
    overlap = np.array(overlaps)  # (sizes, pairs), the first before training
    return {
        "sizes": np.array(settings.sizes),
        "overlap": overlap,
        "frequency gap": np.array(frequencies),
        "errors": np.array(errors).reshape(len(overlap), -1),
        "hat trained": overlap[-1, 0] - overlap[0, 0],
        "hat data": overlap[-1, 0] - overlap[1, 0],
        "CNN trained": overlap[-1, 1] - overlap[0, 1],
        "CNN data": overlap[-1, 1] - overlap[1, 1],
    }


def draw(found: Findings, ax: Axes) -> None:
    """The overlap of the first eigenfunctions by number of training examples."""
    for place, pair in enumerate(PAIRS):
        color = nb.plots.color(place)
        ax.semilogx(found["sizes"], found["overlap"][1:, place], "o-", color=color, label=f"{pair[0]} and {pair[1]}")
        ax.axhline(found["overlap"][0, place], color=color, ls=":", label="the same before training")
    ax.set_xlabel("training examples")
    ax.set_ylabel("overlap of the first eigenfunctions")
    ax.legend()


def draw_frequency(found: Findings, ax: Axes) -> None:
    """The difference of the frequencies."""
    for place, pair in enumerate(PAIRS):
        ax.semilogx(found["sizes"], found["frequency gap"][1:, place], "o-", label=f"{pair[0]} and {pair[1]}")
    ax.set_xlabel("training examples")
    ax.set_ylabel("difference of the log mean frequency")
    ax.legend()


QUESTION = "change of the mean squared cosine of the principal angles; an open question, which no paper answers"

STUDY = Study(
    name="washout",
    papers=(
        Paper(
            "Hong et al.",
            2022,
            "On the Activation Function Dependence of the Spectral Bias of Neural Networks",
            "2208.04924",
        ),
    ),
    origin="an open question, with networks of Hong et al. 2022",
    idea="Architectures differ in what they learn first, and their kernels show it: Hong et al. find that hat "
    "activations remove the preference of ReLU networks for low frequencies. Training moves the kernels toward "
    "the data. An open question is whether enough data wash out the difference: whether the first eigenfunctions of "
    "two trained networks become alike as the number of examples grows. All trainings have the same number of steps "
    "and the same batch size; both networks of a pair have biases, and differ in one thing.",
    scales={
        "smoke": Settings(sizes=(30, 60), num_probe=40, width=16, channels=2, depth=1, batch_size=30, num_steps=30),
        "small": Settings(),
        "paper": Settings(sizes=(50, 100, 200, 400, 800, 1_500), width=512, channels=64, num_steps=3_000),
    },
    run=run,
    claims=(
        Claim("Training brings a ReLU and a hat network closer together.", "hat trained", Bound(low=0.0), QUESTION),
        Claim("The more data, at as many steps, the closer they come.", "hat data", Bound(low=0.0), QUESTION),
        Claim("Training brings an MLP and a CNN closer together.", "CNN trained", Bound(low=0.0), QUESTION),
        Claim("The more data, at as many steps, the closer these come.", "CNN data", Bound(low=0.0), QUESTION),
    ),
    figures={
        "overlap": Figure("How far the spans of the first eigenfunctions agree, on held-out digits.", draw),
        "frequency": Figure("How far their mean frequencies differ.", draw_frequency),
    },
    num_seeds=3,
)
