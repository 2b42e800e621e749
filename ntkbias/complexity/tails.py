"""Heavy tails: how often the steps or iterates of stochastic gradient descent are large.

A tail index alpha means that P(|X| > t) falls as t^-alpha. There are three estimates:

    Hill            1 / mean of log(|x|_(i) / |x|_(k + 1)) over the k largest                           (Hill 1975)
    Kesten          the alpha > 0 with E |A|^alpha = 1: the tail of x <- A x + B     (Kesten 1973; Hodgkinson and
                    Mahoney 2020, arXiv 2006.06293: multiplicative noise gives the iterates heavy tails)
    stable          a sum of m alpha-stable samples spreads as m^(1 / alpha)         (Mohammadi, Mohammadpour and
                    Ogata 2015; for gradient noise: Simsekli et al. 2019, arXiv 1901.06053, Zhou et al. 2020,
                    arXiv 2010.05627)

>>> import numpy as np
>>> from ntkbias.complexity import hill_tail_index, kesten_tail_index, stable_tail_index
>>> rng = np.random.default_rng(0)
>>> 2.0 in hill_tail_index(rng.pareto(2.0, 10_000) + 1)
True
>>> 2.0 in kesten_tail_index(np.exp(rng.normal(-0.25, 0.5, 10_000)))        # 2 * 0.25 / 0.5^2
True
>>> 1.0 in stable_tail_index(np.random.default_rng(0).standard_cauchy(10_000))
True
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.compilation import compiled
from ntkbias.complexity.problem import Problem, checked_rows
from ntkbias.errors import InputError
from ntkbias.losses import LossFunction
from ntkbias.parameters import Which
from ntkbias.progress import progress
from ntkbias.scaling import Interval
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["gradient_noise", "hill_tail_index", "kesten_tail_index", "stable_tail_index"]

Z, LEVEL = 1.96, 0.975  # standard deviations of a 95 % interval, and the level of its upper end
LARGEST_INDEX = 1e3  # the search stops here: a tail with a larger index is light


def hill_tail_index(samples: ArrayLike, *, tail: float = 0.02) -> Interval:
    """Hill's estimate of the tail index, with a 95 % interval, from the largest of |samples|.

    `samples` is an array of any shape, already centered. The estimate uses the share `tail` with the largest
    magnitudes, and at least ten samples. The interval is exact for k independent samples of an exact power law: then 2
    k alpha / estimate is a chi-squared variable with 2 k degrees of freedom. Successive iterates are dependent, and
    their interval is too narrow: thin them first. If the tail is not a power law, the estimate grows without bound as
    `tail` shrinks.

    Raises `InputError` on fewer than twenty samples, or if the magnitudes in the tail are all equal or reach zero.

    >>> import ntkbias as nb, numpy as np
    >>> 2.0 in nb.complexity.hill_tail_index(np.random.default_rng(0).pareto(2.0, 10_000) + 1)
    True
    """
    values = np.sort(np.abs(checked_rows(samples, "samples", 1).ravel()))[::-1]
    if len(values) < 20:
        raise InputError(f"Expected twenty samples or more for a tail index; got {len(values)}.")
    if not 0 < tail <= 0.5:
        raise InputError(f"Expected tail to be a share of the samples, above 0 and at most 0.5; got {tail!r}.")
    count = max(10, round(tail * len(values)))
    if not values[count] > 0 or values[0] == values[count]:
        raise InputError("Expected samples whose tail has several values above zero; got one. Take other samples.")
    index = float(1 / np.mean(np.log(values[:count] / values[count])))
    low, high = (index * float(scipy.special.gammaincinv(count, end)) / count for end in (0.025, 0.975))
    return Interval(index, low, high)


def kesten_tail_index(multipliers: ArrayLike) -> Interval:
    """The tail index alpha of x <- A x + B, with a 95 % interval: the positive root of E |A|^alpha = 1.

    `multipliers` `(m,)` are independent samples of A. For gradient descent on one parameter with squared error,
    A = 1 - learning rate * (mean over the batch of the squared feature). The interval accounts for the finite number of
    samples by the delta method. A large root depends on a few large values of A, and then the interval is unreliable.

    Raises `InputError` if there is no root. Either E log |A| >= 0, and the iterates have no stationary law; or all
    |A| <= 1, and their tail is light.

    >>> import ntkbias as nb, numpy as np
    >>> 2.0 in nb.complexity.kesten_tail_index(np.exp(np.random.default_rng(0).normal(-0.25, 0.5, 10_000)))
    True
    """
    values = np.abs(checked_rows(multipliers, "multipliers", 2).ravel())
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    if not np.mean(logs) < 0:
        raise InputError(
            f"Expected multipliers A with mean log |A| below zero; got {np.mean(logs):.3g}: the iterates have no "
            "stationary law. Lower the learning rate."
        )
    if not np.max(logs) > 0:
        raise InputError(
            "Expected some multipliers above one in magnitude; got none: the tail of the iterates is light."
        )

    def excess(index: float) -> float:
        """log E |A|^index. The largest term is factored out, since it could overflow."""
        scaled = index * logs
        top = np.max(scaled)
        return float(top + np.log(np.mean(np.exp(scaled - top))))

    high = 1.0
    while excess(high) <= 0:
        high *= 2
        if high > LARGEST_INDEX:
            raise InputError(f"Expected a tail index below {LARGEST_INDEX:g}; got none: the tail is light.")
    low = high / 2
    while excess(low) >= 0:
        low /= 2
    index = float(scipy.optimize.brentq(excess, low, high, xtol=1e-10))
    powers = values**index
    slope = float(np.mean(powers * np.where(values > 0, logs, 0.0)))
    half = Z * float(np.std(powers)) / math.sqrt(len(values)) / slope
    return Interval(index, index - half, index + half)


def stable_tail_index(samples: ArrayLike, *, block: int | None = None) -> Interval:
    """The index alpha of symmetric alpha-stable samples `(n,)` or `(n, ...)`, with a 95 % interval.

        1 / alpha = (mean log |sum of a block| - mean log |sample|) / log block

    Alpha lies between 0 and 2; 2 is the Gaussian. The samples are independent along the first axis, with location zero;
    the other axes are averaged over. `block` is the number of samples in a sum (default: about sqrt n). If the samples
    are not stable but have a variance, the estimate tends to 2 as `block` grows. An estimate above 2 is not cut off.
    The interval is +- t standard errors of 1 / alpha over blocks, with Student's t for the number of blocks. Columns
    that hold a zero are left out.

    Raises `InputError` on fewer than two blocks, if every column holds a zero, and if sums do not spread.

    >>> import ntkbias as nb, numpy as np
    >>> 1.0 in nb.complexity.stable_tail_index(np.random.default_rng(0).standard_cauchy(10_000))
    True
    """
    rows = checked_rows(samples, "samples", 4)
    length = math.isqrt(len(rows)) if block is None else block
    require_positive("block", length)
    count = len(rows) // length
    if length < 2 or count < 2:
        raise InputError(f"Expected two blocks or more of at least two samples each; got {count} of {length}.")
    blocks = rows[: count * length].reshape(count, length, -1)
    blocks = blocks[..., np.all(blocks != 0, (0, 1)) & np.all(blocks.sum(1) != 0, 0)]
    if not blocks.shape[-1]:
        raise InputError("Expected samples that are not zero; got zeros in every column. Take more of them.")
    spread = np.log(np.abs(blocks.sum(1))) - np.mean(np.log(np.abs(blocks)), 1)
    inverse = np.mean(spread, 1) / math.log(length)  # one value per block
    t = float(scipy.special.stdtrit(count - 1, LEVEL))
    mean, half = float(np.mean(inverse)), t * float(np.std(inverse, ddof=1)) / math.sqrt(count)
    if not mean > 0:
        raise InputError("Expected samples whose sums spread; got sums that shrink. Are they centered one by one?")
    return Interval(1 / mean, 1 / (mean + half), 1 / (mean - half) if mean > half else math.inf)


def gradient_noise(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    *,
    batch_size: int,
    num_draws: int,
    key: PRNGKeyArray,
    loss: str | LossFunction = "mse",
    wrt: Which | None = None,
) -> Float[Array, "draws p"]:
    """The gradients of random minibatches minus the gradient of all data, `(num_draws, p)`.

    Gradients are flattened to p numbers. Each minibatch is drawn anew, as `batch_size` examples without replacement.
    `loss` and the errors are those of `loss_gradient`. Costs `num_draws` backward passes over a minibatch, and memory
    for p numbers each. `stable_tail_index` of the result is the index of Simsekli et al. 2019, arXiv 1901.06053.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2), jnp.zeros(2)
    >>> nb.complexity.gradient_noise(f, w, x, y, batch_size=1, num_draws=5, key=jax.random.key(0)).shape
    (5, 2)
    """
    key = require_key(key)
    require_positive("num_draws", num_draws)
    problem = Problem(f, params, x, y, loss, batch_size, wrt)
    if batch_size >= len(problem.x):
        raise InputError(
            f"Expected batch_size below the {len(problem.x)} inputs; got {batch_size}, which leaves no noise."
        )
    full = ravel_pytree(problem.gradient(problem.params))[0]
    draws = [
        _minibatch_gradient(problem.f, problem.loss, problem.params, problem.x, problem.y, batch_size, draw) - full
        for draw in progress(jax.random.split(key, num_draws), "minibatches")
    ]
    return jnp.stack(draws)


@compiled
def _minibatch_gradient(
    f: ApplyFunction, loss: LossFunction, params: Params, x: Array, y: Array, batch_size: int, key: Any
) -> Array:
    rows = jax.random.choice(key, len(x), (batch_size,), replace=False)
    with jax.default_matmul_precision("highest"):
        return ravel_pytree(jax.grad(lambda p: loss(f(p, x[rows]), y[rows]))(params))[0]
