"""How well the network fits: its loss, and the classes that it gets right, of each input or each of its positions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]

ROUNDING = 2.0**-7  # of probabilities: those of bfloat16, which the cross entropy takes


@measured(title="loss", line="probe", scale="log", column="loss")
def loss(at: Snapshot) -> float | None:
    """The loss on the probe, by default the first training inputs; `train_loss` is that of all of them."""
    return None if at.setting.probe_y is None else at.loss(at.outputs, at.setting.probe_y)


@measured(title="accuracy", line="probe", column="accuracy")
def accuracy(at: Snapshot) -> float | None:
    """The share of the probe whose class is right: by sign for labels of -1 and 1, else by the largest output.

    Of outputs `(n, positions, o)` the share of all positions.
    """
    return None if at.setting.probe_y is None else _accuracy(at, at.outputs, at.setting.probe_y)


@measured(title="loss", line="training", scale="log", costly=True)
def train_loss(at: Snapshot) -> float:
    """The loss over all training inputs."""
    return at.loss(at.train_outputs, at.setting.y)


@measured(title="accuracy", line="training", costly=True)
def train_accuracy(at: Snapshot) -> float | None:
    """The share of all training inputs whose class is right."""
    return _accuracy(at, at.train_outputs, at.setting.y)


@measured(title="loss", line="test", scale="log", column="test loss")
def test_loss(at: Snapshot) -> float | None:
    """The loss on the test inputs."""
    if at.setting.test is None or at.test_outputs is None:
        return None
    return at.loss(at.test_outputs, at.setting.test[1])


@measured(title="accuracy", line="test", column="test accuracy")
def test_accuracy(at: Snapshot) -> float | None:
    """The share of test inputs whose class is right."""
    if at.setting.test is None or at.test_outputs is None:
        return None
    return _accuracy(at, at.test_outputs, at.setting.test[1])


@measured(title="margin", line="smallest")
def margin(at: Snapshot) -> float | None:
    """The smallest margin on the probe: y f for labels of -1 and 1, else the right output less the largest other."""
    found = None if at.setting.probe_y is None else _classes(at, at.outputs, at.setting.probe_y)
    if found is None:
        return None
    scores, right = found
    if scores.shape[1] == 1:
        return float(np.min(right * scores[:, 0]))
    chosen = np.arange(scores.shape[1]) == right[:, None]
    return float(np.min(scores[chosen] - np.where(chosen, -np.inf, scores).max(1)))


@measured(axes=("example", "output"), costly=True)
def outputs(at: Snapshot) -> Float[np.ndarray, "n o"]:
    """The network's outputs on the probe."""
    return at.outputs


MEASURES = (
    loss,
    accuracy,
    train_loss,
    train_accuracy,
    test_loss,
    test_accuracy,
    margin,
    outputs,
)


class _Classes(NamedTuple):
    """The outputs of each input, or of each of its positions, and the class that is right there."""

    scores: Float[np.ndarray, "rows o"]
    right: np.ndarray  # (rows,): its number, or -1 and 1 for one output


def _accuracy(at: Snapshot, outputs: np.ndarray, y: object) -> float | None:
    """None where targets are no classes."""
    found = _classes(at, outputs, y)
    if found is None:
        return None
    scores, right = found
    return float(np.mean((np.sign(scores[:, 0]) if scores.shape[1] == 1 else scores.argmax(1)) == right))


def _classes(at: Snapshot, outputs: np.ndarray, y: object) -> _Classes | None:
    """The outputs and right classes, of targets as the losses take them; None where those are no classes."""
    values = np.asarray(y)
    *positions, count = at.output_shape or (1,)
    scores = outputs.reshape(-1, count)
    if count == 1:
        signs = values.size == len(scores) and np.all(np.abs(values) == 1)
        return _Classes(scores, values.reshape(-1)) if signs else None
    if values.shape == (len(outputs), *positions):
        return _Classes(scores, values.reshape(-1)) if values.dtype.kind in "iub" else None
    if values.shape != (len(outputs), *positions, count):
        return None
    shares = values.reshape(-1, count)
    classes = np.all(shares >= 0) and np.allclose(shares.sum(1), 1, atol=ROUNDING)
    return _Classes(scores, shares.argmax(1)) if classes else None
