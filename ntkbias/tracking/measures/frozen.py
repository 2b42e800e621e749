"""What the kernel at the start, kept, predicts of the network on the probe."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkbias import losses
from ntkbias.errors import InputError
from ntkbias.learning import gradient_descent, gradient_flow
from ntkbias.tracking.measures.measure import measured
from ntkbias.tracking.snapshot import DENSE_ROWS, Snapshot, columns

__all__ = ["MEASURES"]


@measured(axes=("example", "output"), costly=True)
def frozen_outputs(at: Snapshot) -> Float[np.ndarray, "n o"] | None:
    """What the kernel at the first snapshot, kept, predicts on the probe for the squared error, at this step.

    Time is counted from that snapshot, at whatever step a loop of your own begins. Gradient descent step by step where
    the learning rate has been one number, which is exact for a linear model (NaN beyond the largest float, above the
    critical rate); else gradient flow up to this time. Costs at the start the kernel of all training inputs and
    outputs, and its eigendecomposition; None for other losses, without a time, and for more than 1,500 rows.
    """
    y = columns(at.setting.y, at.output_shape)
    mean_squares = at.setting.loss is losses.mse and math.isfinite(at.time)
    if not mean_squares or y.size > DENSE_ROWS or y.shape != at.train_outputs.shape:
        return None
    start = at.initial
    num_steps, span = at.step - start.step, at.time - start.time
    spectrum, cross = start.train_kernel
    inner = at.train_outputs.shape if at.num_outputs > 1 else (len(y),)
    options: dict[str, Any] = {
        "K_test": cross,
        "f0": start.train_outputs.reshape(inner),
        "f0_test": start.outputs.reshape(at.num_examples, *inner[1:]),
    }
    if math.isclose(span, num_steps * at.learning_rate, rel_tol=1e-6):
        try:
            found = gradient_descent(spectrum, y.reshape(inner), np.array([num_steps]), at.learning_rate, **options)
        except InputError:  # it says that the outputs are beyond the largest float
            return np.full(at.outputs.shape, math.nan)
    else:
        found = gradient_flow(spectrum, y.reshape(inner), np.array([span]), **options)
    assert found.test_outputs is not None
    return np.asarray(found.test_outputs, np.float64).reshape(at.outputs.shape)


@measured(costly=True)
def frozen_error(at: Snapshot) -> float | None:
    """||f_t - prediction|| / ||f_t - f_0|| on the probe, of what the frozen kernel predicts; zero at the start."""
    predicted = frozen_outputs(at)
    if predicted is None:
        return None
    moved = float(np.linalg.norm(at.outputs - at.initial.outputs))
    return float(np.linalg.norm(at.outputs - predicted)) / moved if moved else 0.0


@measured(costly=True)
def frozen_loss(at: Snapshot) -> float | None:
    """The loss on the probe that the frozen kernel predicts."""
    y = at.setting.probe_y
    predicted = None if y is None else frozen_outputs(at)
    return None if y is None or predicted is None else at.loss(predicted, y)


MEASURES = (
    frozen_outputs,
    frozen_error,
    frozen_loss,
)
