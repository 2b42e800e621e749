"""Predicted and measured fine-tuning of a language model's preferences, for the study of its behaviors.

>>> import numpy as np
>>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2]))
0.5
"""

from typing import Any

import numpy as np
import scipy.stats
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.progress import progress
from ntkbias.studies.study import Findings

__all__ = ["draw_tuning", "rank_correlation", "tuned"]

TARGET = 1.0  # nats: the preference, and minus it, that fine-tuning aims at
MEMORY = 2**30  # bytes for the kernels' factors: the weights, their gradient and their copies need the rest


def tuned(
    transformer: Any,
    params: Any,
    behaviors: dict[str, tuple[np.ndarray, np.ndarray, list[int]]],
    num_steps: int,
) -> Findings:
    """Teach the model each behavior, (contexts, labels, the contrast's tokens), from the same start.

    Half of the contexts are held out. The kernel at the start predicts the losses and the held-out outputs.
    """
    found = []
    for tokens, labels, pair in progress(list(behaviors.values()), "behaviors"):
        targets, half = np.where(labels, TARGET, -TARGET)[:, None], len(tokens) // 2
        result = nb.behaviors.fine_tuning_prediction(
            transformer.preferences,
            {"model": params, "pairs": np.array([pair])},
            tokens[:half],
            targets[:half],
            x_held_out=tokens[half:],
            y_held_out=targets[half:],
            num_steps=num_steps,
            wrt="['model']",
            measured=True,
            memory_budget=MEMORY,
        )
        found.append(result)
    losses = {
        name: np.array(
            [[np.asarray(getattr(each, f"{kind}{name}"))[-1] for kind in ("", "measured_")] for each in found]
        )
        for name in ("loss", "held_out_loss")
    }
    changes = [
        np.corrcoef(_change(each.held_out_outputs), _change(each.measured_held_out_outputs))[0, 1] for each in found
    ]
    return {
        "behaviors": list(behaviors),
        "losses": losses["loss"],
        "held-out losses": losses["held_out_loss"],
        "losses before": np.array([float(each.loss[0]) for each in found]),
        "order of losses": rank_correlation(*losses["loss"].T),
        "order of held-out losses": rank_correlation(*losses["held_out_loss"].T),
        "held-out outputs": min(each.held_out_correlation for each in found),
        "held-out changes": float(min(changes)),
        "kernel changes": np.array([each.kernel_change for each in found]),
    }


def _change(outputs: Any) -> np.ndarray:
    """Outputs after fine-tuning less those before."""
    return np.ravel(outputs[-1] - outputs[0])


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays."""
    return float(scipy.stats.spearmanr(first, second).statistic)


def draw_tuning(found: Findings, ax: Axes) -> None:
    """Measured against predicted losses after fine-tuning, on training and held-out contexts."""
    for place, name in enumerate(("losses", "held-out losses")):
        values, label = found[name], "training contexts" if place == 0 else "held-out contexts"
        ax.plot(*values.T, "os"[place], color=nb.plots.color(place), label=label)
    for name, (predicted, measured) in zip(found["behaviors"], found["losses"], strict=True):
        ax.annotate(name, (predicted, measured), xytext=(4, -8), textcoords="offset points", fontsize=6)
    ends = [np.min([found["losses"], found["held-out losses"]]), np.max([found["losses"], found["held-out losses"]])]
    ax.plot(ends, ends, color="0.7", lw=0.8, zorder=0)
    ax.set_xlabel("predicted loss after fine-tuning")
    ax.set_ylabel("measured loss")
    ax.legend(fontsize=6)
