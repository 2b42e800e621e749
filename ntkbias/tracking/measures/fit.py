"""How well the network fits the data: loss, accuracy and margin.

The class is that of each input or, for outputs `(n, positions, o)`, that of each position.
"""

import numpy as np
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.training.fit import classes_of, share_right

__all__ = ["MEASURES"]


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
    found = None if at.setting.probe_y is None else classes_of(at.outputs, at.output_shape, at.setting.probe_y)
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


def _accuracy(at: Snapshot, outputs: np.ndarray, y: object) -> float | None:
    """The fraction of rows with the right class. None if the targets are not classes."""
    found = classes_of(outputs, at.output_shape, y)
    return None if found is None else share_right(found)
