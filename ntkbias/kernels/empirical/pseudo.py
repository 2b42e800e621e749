"""The pseudo-NTK: an estimate of the empirical NTK from a few random combinations of the outputs.

With directions v of random signs in the space of o outputs,

    v^T K(x, x') v = trace K(x, x') + noise,   where K(x, x') is (o, o)      (Hutchinson's estimator of the trace)

costs one backward pass per direction in place of o. The outputs of a wide network are nearly independent, so K is
nearly diagonal and the noise is small (Mohamadi et al. 2023, arXiv 2206.12543, for the sum of the outputs).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=512, depth=2, num_outputs=100)
>>> params = net.init(jax.random.key(0), (3,))
>>> x = jax.random.normal(jax.random.key(1), (5, 3))
>>> estimate = nb.kernels.pseudo_ntk(net.apply, params, key=jax.random.key(2), num_directions=4)(x)
>>> exact = nb.empirical_ntk(net.apply, params)(x)
>>> bool(jnp.linalg.norm(estimate - exact) < 0.1 * jnp.linalg.norm(exact))
True
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_choice, require_key, require_positive
from ntkbias.errors import InputTypeError
from ntkbias.kernels.empirical.ntk import EmpiricalNTK, empirical_ntk
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Params, Precision
from ntkbias.wrappers import Wrapper

__all__ = ["pseudo_ntk"]


def pseudo_ntk(
    f: ApplyFunction,
    params: Params,
    *,
    key: PRNGKeyArray,
    num_directions: int = 1,
    outputs: Literal["mean", "sum"] = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> EmpiricalNTK:
    """An unbiased estimate of the empirical NTK's mean or sum over outputs, from random directions drawn with `key`.

    With `num_directions` r, the standard error of an entry of the sum is

        sqrt(1/r * sum over outputs a != b of (K_ab^2 + K_ab K_ba)),   K_ab = K(x, x')[a, b]

    and 1/o of that for the mean. It is below sqrt(2 / r) |K|_F, and falls as 1 / sqrt(width), as outputs decorrelate.
    All entries share the same directions, so their errors are correlated, and the estimate is positive semi-definite.

    Mohamadi et al. use the kernel of the summed outputs, `empirical_ntk` of f(params, x).sum(1, keepdims=True). Other
    arguments and errors are those of `empirical_ntk`; the cost is too, with r in place of o.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.mlp(width=16, depth=1, num_outputs=3)
    >>> params, x = net.init(jax.random.key(0), (2,)), jax.numpy.ones((4, 2))
    >>> nb.kernels.pseudo_ntk(net.apply, params, key=jax.random.key(1))(x).shape
    (4, 4)
    """
    require_choice("outputs", outputs, ("mean", "sum"))
    require_positive("num_directions", num_directions)
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    projected = Projected(f, _seed(key), num_directions, outputs)
    return empirical_ntk(projected, params, outputs="mean", memory_budget=memory_budget, precision=precision, wrt=wrt)


@dataclasses.dataclass(frozen=True)
class Projected(Wrapper):
    """The function that gives the outputs of `f` along a few directions. Two are equal if their fields are equal."""

    saved_as: ClassVar[str] = "kernels.pseudo_ntk"

    f: ApplyFunction
    seed: tuple[str, tuple[int, ...]]
    num_directions: int
    outputs: str

    def __call__(self, params: Params, x: Array) -> Float[Array, "n r"]:
        values = self.f(params, x)
        values = values.reshape(len(values), -1)
        directions = self.directions(values.shape[1]).astype(values.dtype)
        return values @ (directions / values.shape[1] ** 0.5 if self.outputs == "mean" else directions)

    def directions(self, num_outputs: int) -> Float[Array, "o r"]:
        """Random signs, one column per direction."""
        kind, data = self.seed
        key = jax.random.wrap_key_data(jnp.array(data, jnp.uint32), impl=kind)
        return jax.random.rademacher(key, (num_outputs, self.num_directions), float)


def _seed(key: PRNGKeyArray) -> tuple[str, tuple[int, ...]]:
    """A key as plain values, which can be compared and saved."""
    key = require_key(key)
    return str(jax.random.key_impl(key)), tuple(jax.random.key_data(key).ravel().tolist())
