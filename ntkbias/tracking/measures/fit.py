"""How well the network fits: its loss, and the classes that it gets right."""

import numpy as np
from jaxtyping import Float

from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["MEASURES"]


@measured(title="loss", line="probe", scale="log", column="loss")
def loss(at: Snapshot) -> float | None:
    """The loss on the probe, by default the first training inputs; `train_loss` is that of all of them."""
    return None if at.setting.probe_y is None else at.loss(at.outputs, at.setting.probe_y)


@measured(title="accuracy", line="probe", column="accuracy")
def accuracy(at: Snapshot) -> float | None:
    """The share of the probe whose class is right: by sign for labels of -1 and 1, else by the largest output."""
    return None if at.setting.probe_y is None else _accuracy(at.outputs, at.setting.probe_y)


@measured(title="loss", line="training", scale="log", costly=True)
def train_loss(at: Snapshot) -> float:
    """The loss over all training inputs."""
    return at.loss(at.train_outputs, at.setting.y)


@measured(title="accuracy", line="training", costly=True)
def train_accuracy(at: Snapshot) -> float | None:
    """The share of all training inputs whose class is right."""
    return _accuracy(at.train_outputs, at.setting.y)


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
    return _accuracy(at.test_outputs, at.setting.test[1])


@measured(title="margin", line="smallest")
def margin(at: Snapshot) -> float | None:
    """The smallest margin on the probe: y f for labels of -1 and 1, else the right output less the largest other."""
    right = None if at.setting.probe_y is None else _classes(at.outputs, at.setting.probe_y)
    if right is None:
        return None
    if at.num_outputs == 1:
        return float(np.min(right * at.outputs[:, 0]))
    chosen = np.arange(at.num_outputs) == right[:, None]
    return float(np.min(at.outputs[chosen] - np.where(chosen, -np.inf, at.outputs).max(1)))


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


def _accuracy(found: np.ndarray, y: object) -> float | None:
    """None where targets are no classes."""
    right = _classes(found, y)
    if right is None:
        return None
    return float(np.mean((np.sign(found[:, 0]) if found.shape[1] == 1 else found.argmax(1)) == right))


def _classes(found: np.ndarray, y: object) -> np.ndarray | None:
    """The class of each input, by its number, or as -1 and 1 of one output; None where targets are no classes."""
    values = np.asarray(y)
    if found.shape[1] == 1:
        return values.reshape(-1) if np.all(np.abs(values) == 1) else None
    if values.ndim == 1:
        return values if values.dtype.kind in "iub" else None
    classes = values.shape == found.shape and np.all(values >= 0) and np.allclose(values.sum(1), 1, atol=1e-3)
    return values.argmax(1) if classes else None
