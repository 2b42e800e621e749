"""How well the network fits the data: loss, accuracy and margin.

The class is that of each input or, for outputs `(n, positions, o)`, that of each position.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]

ROUNDING = 2.0**-7  # of probabilities in bfloat16, which the cross entropy accepts


@measured(title="loss", line="probe", scale="log", column="loss")
def loss(at: Snapshot) -> float | None:
    """The loss on the probe, by default the first training examples. `train_loss` covers all training examples."""
    return None if at.setting.probe_y is None else at.loss(at.outputs, at.setting.probe_y)


@measured(title="accuracy", line="probe", column="accuracy")
def accuracy(at: Snapshot) -> float | None:
    """The fraction of the probe, or of its positions, with the right class.

    The class is the sign of the output for labels -1 and 1, and otherwise the largest output.
    """
    return None if at.setting.probe_y is None else _accuracy(at, at.outputs, at.setting.probe_y)


@measured(title="loss", line="training", scale="log", costly=True)
def train_loss(at: Snapshot) -> float:
    """The loss on all training examples."""
    return at.loss(at.train_outputs, at.setting.y)


@measured(title="accuracy", line="training", costly=True)
def train_accuracy(at: Snapshot) -> float | None:
    """The fraction of all training examples, or of their positions, with the right class."""
    return _accuracy(at, at.train_outputs, at.setting.y)


@measured(title="loss", line="test", scale="log", column="test loss")
def test_loss(at: Snapshot) -> float | None:
    """The loss on the test examples."""
    if at.setting.test is None or at.test_outputs is None:
        return None
    return at.loss(at.test_outputs, at.setting.test[1])


@measured(title="accuracy", line="test", column="test accuracy")
def test_accuracy(at: Snapshot) -> float | None:
    """The fraction of test examples, or of their positions, with the right class."""
    if at.setting.test is None or at.test_outputs is None:
        return None
    return _accuracy(at, at.test_outputs, at.setting.test[1])


@measured(title="margin", line="smallest")
def margin(at: Snapshot) -> float | None:
    """The smallest margin on the probe: y f for labels -1 and 1, else the right output minus the largest other one."""
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
    """The outputs and the right class of each input or position."""

    scores: Float[np.ndarray, "rows o"]
    right: np.ndarray  # (rows,): the index of the class, or -1 and 1 for one output


def _accuracy(at: Snapshot, outputs: np.ndarray, y: object) -> float | None:
    """The fraction of rows with the right class. None if the targets are not classes."""
    found = _classes(at, outputs, y)
    if found is None:
        return None
    scores, right = found
    return float(np.mean((np.sign(scores[:, 0]) if scores.shape[1] == 1 else scores.argmax(1)) == right))


def _classes(at: Snapshot, outputs: np.ndarray, y: object) -> _Classes | None:
    """The outputs and right classes for targets in any form that losses accept. None if they are not classes."""
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
