"""In small networks the kernel turns before the loss falls.

>>> from ntkbias.studies import study_of
>>> study_of("silent_alignment").num_seeds
3
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study
from ntkbias.tracking import measures

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Whitened inputs `(n, D)`, the width and the scale of the two layers' weights, and the training."""

    num_inputs: int = 200
    dimension: int = 10
    width: int = 100
    scale: float = 1e-3
    learning_rate: float = 0.05
    num_steps: int = 400


def network(settings: Settings) -> nb.layers.Layer:
    """The architecture. Change it here; the alignment of the idea belongs to two linear layers."""
    return nb.layers.Sequential(nb.layers.Dense(settings.width), nb.layers.Dense(1))


def run(settings: Settings, key: Any) -> Findings:
    """Train two linear layers from small weights, and follow the alignment of the kernel with the targets."""
    keys, D = jax.random.split(key), settings.dimension
    task, net = nb.tasks.whitened(settings.num_inputs, D, key=keys[0]), network(settings)
    params = jax.tree.map(lambda leaf: settings.scale * leaf, net.init(keys[1], (D,)))
    history = nb.track(
        net.apply,
        params,
        task.data,
        optimizer=optax.sgd(settings.learning_rate * settings.width),
        num_steps=settings.num_steps,
        at=range(0, settings.num_steps + 1, 10),
        measures=measures.chosen("loss", "uncentered_alignment", "trace"),
    )
    aligned, loss, trace = (np.asarray(history[name]) for name in ("uncentered_alignment", "loss", "trace"))
    falls = nb.scaling.first_passage(history.steps, loss, 0.9 * loss[0], falling=True)
    before = np.flatnonzero(~(np.asarray(history.steps) >= falls))[-1]
    isotropic, limit = D**-0.5, 2 / (D + 3) ** 0.5
    return {
        "at start": float(aligned[0] / isotropic),
        "before": float(aligned[before] / limit),
        "at end": float(aligned[-1] / limit),
        "growth": float(trace[-1] / trace[before]),
        "history": history,
    }


def draw(found: Findings, ax: Axes) -> None:
    """The loss, the alignment and the trace, relative to their largest values."""
    history = found["history"]
    for name, label in (("loss", "loss"), ("uncentered_alignment", "alignment"), ("trace", "trace")):
        values = np.asarray(history[name])
        ax.plot(np.asarray(history.steps), values / values.max(), label=label)
    ax.set_xlabel("step")
    ax.set_ylabel("relative to the largest value")
    ax.legend()


STUDY = Study(
    name="silent_alignment",
    papers=(
        Paper(
            "Atanasov, Bordelon and Pehlevan",
            2021,
            "Neural Networks as Kernel Learners: The Silent Alignment Effect",
            "2111.00034",
        ),
    ),
    idea="A network that starts from small weights learns in two phases. First its kernel turns toward the targets "
    "while the loss hardly moves; then the kernel grows at a fixed direction while the loss falls. The network "
    "therefore ends as regression with its final kernel, although the kernel changed a lot.",
    scales={"smoke": Settings(width=50), "small": Settings(), "paper": Settings(num_inputs=1_000, dimension=30)},
    run=run,
    claims=(
        Claim(
            "At the start the kernel is not aligned: it prefers no direction.",
            "at start",
            Bound.about(1, 0.2),
            "relative to 1 / sqrt(D), the alignment of a kernel that is the same in all directions; three standard "
            "deviations of one network of 100 units, sqrt(2 / 100) / 2 each",
        ),
        Claim(
            "The alignment is complete before the loss has fallen by a tenth.",
            "before",
            Bound.about(1, 0.01),
            "relative to 2 / sqrt(D + 3), the final alignment of two linear layers on whitened inputs",
        ),
        Claim("It does not change afterwards.", "at end", Bound.about(1, 0.01)),
        Claim("Afterwards only the kernel's size grows.", "growth", Bound(low=10)),
    ),
    figures={"phases": Figure("Alignment rises first. Loss and trace follow.", draw)},
    num_seeds=3,
)
