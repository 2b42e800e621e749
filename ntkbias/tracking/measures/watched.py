"""Watched targets, which are named functions on the probe: how fast they would be learned, and how much is learned."""

import numpy as np
from jaxtyping import Float

from ntkbias.learning import learnability
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot, columns

__all__ = ["MEASURES"]


@measured(axes=("target",), labels=lambda at: list(at.setting.watched))
def target_alignment(at: Snapshot) -> Float[np.ndarray, " t"] | None:
    """The initial rate at which gradient flow would learn each named target: phi^T K phi / (n phi^T phi).

    Divided by `trace`, it is the fraction of the kernel along the target. If the kernel stays the same, the target with
    the largest rate is learned first.
    """
    if not at.setting.watched:
        return None
    targets = [columns(values, at.output_shape) for values in at.setting.watched.values()]
    if any(not at.has_rows_for(target) for target in targets):
        return None
    rates = []
    for target in targets:
        rows = target.reshape(-1, 1) if at.setting.outputs == "all" else target
        forms = at.operator.quadratic_forms(rows) if at.matrix is None else np.sum(rows * (at.matrix @ rows), 0)
        rates.append(np.sum(forms) / (at.num_examples * np.sum(rows**2)))
    return np.array(rates)


@measured(axes=("target",), labels=lambda at: list(at.setting.watched), costly=True)
def learning_time(at: Snapshot) -> Float[np.ndarray, " t"] | None:
    """The time that the current kernel, if it stayed the same, would need to learn each named target.

    It is the `learning_time` of `learning.learnability`, which defines it. Targets keep their mean.
    """
    if not at.setting.watched:
        return None
    targets = {name: columns(values, at.output_shape) for name, values in at.setting.watched.items()}
    if any(not at.has_rows_for(target) for target in targets.values()):
        return None
    found = learnability(at.operator, targets, modes=at.spectrum, centered=False, key=at.setting.key)
    return np.asarray(found.learning_time[0], np.float64)


@measured(axes=("target",), labels=lambda at: list(at.setting.watched))
def learned(at: Snapshot) -> Float[np.ndarray, " t"] | None:
    """The fraction of each named target in the outputs: <f, phi> / <phi, phi>. It is one when the target is learned."""
    if not at.setting.watched:
        return None
    targets = [columns(values, at.output_shape) for values in at.setting.watched.values()]
    if any(target.shape != at.outputs.shape for target in targets):
        return None
    return np.array([np.sum(at.outputs * target) / np.sum(target**2) for target in targets])


MEASURES = (
    target_alignment,
    learning_time,
    learned,
)
