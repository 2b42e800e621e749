"""A strong feature keeps a network from learning a weak one.

>>> from ntkbias.studies import run_study
>>> run_study("gradient_starvation", "smoke").holds
'yes'
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The strengths of the first feature beside a second one of strength 1, the angle that couples them, the decay."""

    strengths: tuple[float, ...] = (1.2, 2.0, 4.0, 8.0)
    angle: float = 0.3
    decay: float = 0.005
    num_steps: int = 4_000


def network(weights: Array, x: Array) -> Array:
    """The architecture: a linear model, whose tangent features are its inputs. Change it here."""
    return x @ weights


def run(settings: Settings, key: Any) -> Findings:
    """The responses of both features as the first one grows, for coupled and for uncoupled features."""
    y, start = np.array([1.0, -1.0]), jnp.zeros(2)

    def responses(angle: float) -> np.ndarray:
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        rows = []
        for strength in settings.strengths:
            x = jnp.asarray(y[:, None] * rotation * [strength, 1.0])
            kernel = nb.empirical_ntk(network, start)
            rate = float(nb.critical_learning_rate(kernel, x))  # the logistic loss curves at most a fourth as much
            descent = optax.sgd(rate, 0.97, nesterov=True)
            end = nb.training.trained(
                network,
                start,
                (x, y),
                optimizer=optax.chain(optax.add_decayed_weights(settings.decay), descent),
                loss="logistic",
                num_steps=settings.num_steps,
            )
            found = nb.complexity.feature_responses(kernel(x), network(end, x), y)
            rows.append(np.abs(found.responses))
        return np.array(rows)

    coupled, uncoupled = responses(settings.angle), responses(0.0)
    return {
        "strengths": np.array(settings.strengths),
        "coupled": coupled,
        "strong": float(np.diff(coupled[:, 0]).min()),
        "weak": float(np.diff(coupled[:, 1]).max()),
        "uncoupled": float(np.ptp(uncoupled[:, 1]) / uncoupled[0, 1]),
    }


def draw(found: Findings, ax: Axes) -> None:
    """The response of each feature against the strength of the first one."""
    for column, label in enumerate(("the stronger feature", "the weaker feature")):
        ax.plot(found["strengths"], found["coupled"][:, column], "o-", label=label)
    ax.set_xlabel("strength of the stronger feature")
    ax.set_ylabel("response")
    ax.legend()


STUDY = Study(
    name="gradient_starvation",
    papers=(
        Paper("Pezeshki et al.", 2021, "Gradient Starvation: A Learning Proclivity in Neural Networks", "2011.09468"),
    ),
    idea="Gradients of the cross-entropy loss fade on examples that are already classified well. If a strong feature "
    "classifies them, features that would classify them too get no gradient. A network then relies on the strong "
    "feature alone, and fails where that feature is absent.",
    scales={"smoke": Settings(strengths=(1.2, 4.0)), "small": Settings(), "paper": Settings()},
    run=run,
    claims=(
        Claim(
            "The response of the strong feature grows with its strength.",
            "strong",
            Bound(low=0.0),
            "least change from one strength to the next",
        ),
        Claim(
            "The response of the weak feature falls as the strong one grows.",
            "weak",
            Bound(high=0.0),
            "largest change from one strength to the next",
        ),
        Claim(
            "Features that are not coupled do not starve.",
            "uncoupled",
            Bound(high=1e-3),
            "relative change of the weak response; a control, which holds by construction",
        ),
    ),
    figures={"responses": Figure("Responses of two coupled features.", draw)},
)
