"""Named functions on the probe: how fast each would be learned, and how much of it is."""

import numpy as np
from jaxtyping import Float

from ntkbias.learning import learnability
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import Snapshot, columns

__all__ = ["MEASURES"]


@measured(axes=("target",), labels=lambda at: list(at.setting.behaviors))
def target_alignment(at: Snapshot) -> Float[np.ndarray, " target"] | None:
    """The rate at which gradient flow would begin to learn each named target: phi^T K phi / (n phi^T phi).

    Over `trace` it is the kernel's share along the target. The one with the largest is learned first while the kernel
    stays.
    """
    if not at.setting.behaviors:
        return None
    targets = [columns(values, at.output_shape) for values in at.setting.behaviors.values()]
    if any(not at.has_rows_for(target) for target in targets):
        return None
    rates = []
    for target in targets:
        rows = target.reshape(-1, 1) if at.setting.outputs == "all" else target
        forms = at.operator.quadratic_forms(rows) if at.matrix is None else np.sum(rows * (at.matrix @ rows), 0)
        rates.append(np.sum(forms) / (at.num_examples * np.sum(rows**2)))
    return np.array(rates)


@measured(axes=("target",), labels=lambda at: list(at.setting.behaviors), costly=True)
def learning_time(at: Snapshot) -> Float[np.ndarray, " target"] | None:
    """The time in which the current kernel, kept, would learn each named target: that of `learning.learnability`.

    Of targets as they stand, with their mean; see there for what the time is, and for more.
    """
    if not at.setting.behaviors:
        return None
    targets = {name: columns(values, at.output_shape) for name, values in at.setting.behaviors.items()}
    if any(not at.has_rows_for(target) for target in targets.values()):
        return None
    found = learnability(at.operator, targets, modes=at.spectrum, centered=False, key=at.setting.key)
    return np.asarray(found.learning_time[0], np.float64)


@measured(axes=("target",), labels=lambda at: list(at.setting.behaviors))
def learned(at: Snapshot) -> Float[np.ndarray, " target"] | None:
    """How much of each named target the outputs hold: <f, phi> / <phi, phi>, one when it is learned."""
    if not at.setting.behaviors:
        return None
    targets = [columns(values, at.output_shape) for values in at.setting.behaviors.values()]
    if any(target.shape != at.outputs.shape for target in targets):
        return None
    return np.array([np.sum(at.outputs * target) / np.sum(target**2) for target in targets])


MEASURES = (
    target_alignment,
    learning_time,
    learned,
)
