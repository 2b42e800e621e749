"""The factors by which training multiplies the error in each mode, and their sums over time.

>>> import numpy as np
>>> from ntkbias.learning.decays import decay_of_steps
>>> decay, gain = decay_of_steps(np.array([1.0]), np.array([1, 2]), 0.5, 0.0)
>>> decay[:, 0].tolist(), gain[:, 0].tolist()
([0.5, 0.25], [0.5, 0.75])
"""

import numpy as np

__all__ = ["decay_of_flow", "decay_of_steps"]


def decay_of_flow(rates: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(-r t), and its integral from 0 to t."""
    exponents = times[:, None] * rates
    return np.exp(-exponents), -np.expm1(-exponents) / rates


def decay_of_steps(rates: np.ndarray, steps: np.ndarray, rate: float, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    """The factor p of each mode's error after each number of steps, and q = (1 - p) / r.

    q follows its own recurrence, q_{s+1} = q_s + b (q_s - q_{s-1}) + h (1 - r q_s) from q = 0, because 1 - p would
    cancel.
    """
    once = np.zeros((len(rates), 3, 3))
    once[:, 0, 0], once[:, 0, 1], once[:, 0, 2] = 1 + momentum - rate * rates, -momentum, rate
    once[:, 1, 0] = once[:, 2, 2] = 1.0
    decay, gain = np.empty((len(steps), len(rates))), np.empty((len(steps), len(rates)))
    power, done = np.broadcast_to(np.eye(3), once.shape), 0
    with np.errstate(over="ignore", invalid="ignore"):
        for place in np.argsort(steps, kind="stable"):
            power = np.linalg.matrix_power(once, int(steps[place]) - done) @ power
            done = int(steps[place])
            gain[place] = power[:, 0, 2]
            # The error follows the recurrence without the constant term, from p_0 = p_-1 = 1.
            decay[place] = power[:, 0, 0] + power[:, 0, 1]
    return decay, gain
