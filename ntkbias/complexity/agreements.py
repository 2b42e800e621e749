"""Whether several networks classify the same examples right.

Networks of accuracies a_1, ..., a_m that are right independently of each other agree, two by two, on a share

    mean over pairs of  a_i a_j + (1 - a_i)(1 - a_j)

of the examples: both are right, or both are wrong. Trained networks agree on more (Hacohen, Choshen and Weinshall 2020,
arXiv 1905.10854): they learn the same examples first.

>>> import numpy as np
>>> from ntkbias.complexity import agreement
>>> same = agreement(np.array([[True, True, False, False], [True, True, False, False]]))
>>> same.observed, same.independent, same.beyond_chance
(1.0, 0.5, 1.0)
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_wide
from ntkbias.errors import InputError
from ntkbias.tables import Axes, Printed, Table

__all__ = ["Agreement", "agreement"]


class Agreement(Printed):
    """How far networks are right on the same examples.

    `shares` `(n,)` are the shares of networks that classify each example right. `observed` is the share of examples on
    which two networks are both right or both wrong, a mean over pairs, and `independent` what it would be for
    independent networks of the same accuracies.

    >>> import numpy as np, ntkbias as nb
    >>> nb.complexity.agreement(np.array([[True, True, False], [True, False, False]])).shares.tolist()
    [1.0, 0.5, 0.0]
    """

    named_axes = Axes("example", n="example")

    shares: Float[Array, " n"]
    observed: float
    independent: float

    @property
    def beyond_chance(self) -> float:
        """0 for independent networks, 1 for equal ones (Cohen's kappa). NaN if independent ones would always agree."""
        left = 1 - self.independent
        return (self.observed - self.independent) / left if left > 0 else float("nan")

    def _table(self, num_rows: int) -> Table:
        return Table(
            f"Two networks agree on {self.observed:.1%} of {len(self.shares):,} examples; independent ones of these "
            f"accuracies on {self.independent:.1%}"
        )


def agreement(correct: Any) -> Agreement:
    """The agreement of m networks on n examples: `correct` `(m, n)` says which examples each classifies right.

    Raises `InputError` unless there are two networks or more, and truth values or zeros and ones.

    >>> import numpy as np, ntkbias as nb
    >>> print(nb.complexity.agreement(np.array([[True, True, False, True], [True, True, False, False]])))
    Two networks agree on 75.0% of 4 examples; independent ones of these accuracies on 50.0%
    """
    given = np.asarray(require_wide(correct, "correct"))
    if given.ndim != 2 or len(given) < 2 or not given.shape[1]:
        raise InputError(
            f"Expected correct (networks, examples) of two networks or more; got shape {given.shape}. Stack "
            "predictions == labels of each network."
        )
    if not np.isin(given, (0, 1)).all():
        raise InputError("Expected correct to hold truth values, or zeros and ones; got other numbers.")
    signs = 2.0 * given - 1
    means = signs.mean(1)
    return Agreement(jnp.asarray(given.mean(0), jnp.result_type(float)), _equal(signs), _equal(means[:, None]))


def _equal(signs: Float[np.ndarray, "m n"]) -> float:
    """(1 + the mean product of two different rows) / 2: the share of equal signs."""
    m, n = signs.shape
    products = np.sum(signs.sum(0) ** 2) - np.sum(signs**2)
    return float(0.5 + products / (2 * m * (m - 1) * n))
