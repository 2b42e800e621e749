"""The predictions of the frozen kernel, the kernel at the first snapshot, for the network on the probe."""

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
    """The outputs on the probe that the kernel at the first snapshot predicts for this step, for the squared error.

    Time is counted from the first snapshot, even if a loop of your own begins at a later step. If the learning rate has
    been constant, the prediction is that of gradient descent, which is exact for a linear model. Above the critical
    rate it becomes NaN when it exceeds the largest float. For other learning rates it is that of gradient flow.

    Costs the kernel of all training inputs and outputs at the start, and its eigendecomposition. It is None for other
    losses, for optimizers without a time, and for more than 1,500 rows.
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
        except InputError:  # the outputs exceed the largest float
            return np.full(at.outputs.shape, math.nan)
    else:
        found = gradient_flow(spectrum, y.reshape(inner), np.array([span]), **options)
    assert found.test_outputs is not None
    return np.asarray(found.test_outputs, np.float64).reshape(at.outputs.shape)


@measured(costly=True)
def frozen_error(at: Snapshot) -> float | None:
    """||f_t - prediction|| / ||f_t - f_0|| on the probe, for the frozen kernel's prediction. Zero at the start."""
    predicted = frozen_outputs(at)
    if predicted is None:
        return None
    moved = float(np.linalg.norm(at.outputs - at.initial.outputs))
    return float(np.linalg.norm(at.outputs - predicted)) / moved if moved else 0.0


@measured(costly=True)
def frozen_loss(at: Snapshot) -> float | None:
    """The loss of the frozen kernel's prediction on the probe."""
    y = at.setting.probe_y
    predicted = None if y is None else frozen_outputs(at)
    return None if y is None or predicted is None else at.loss(predicted, y)


MEASURES = (
    frozen_outputs,
    frozen_error,
    frozen_loss,
)
