"""The contract of an activation: `apply` at finite width, and its dual in the infinite-width limit."""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer

__all__ = ["Activation", "require_numbers"]


class Activation(Layer):
    """An elementwise function with a dual. A new one defines `apply` and `dual`.

    >>> import ntkbias as nb
    >>> from ntkbias.layers import Activation
    >>> isinstance(nb.layers.Relu(), Activation), round(nb.layers.Relu().gain, 3)  # sqrt 2
    (True, 1.414)
    """

    # The input variance at which `gain` is critical. It is zero for functions such as tanh, which pass through the
    # origin and flatten away from it: without biases their signals tend to zero (Roberts et al. 2022, chapter 5).
    critical_variance: ClassVar[float] = 1.0

    def __new__(cls, *args: Any, **kwargs: Any) -> "Activation":
        if cls is Activation:
            raise InputTypeError(
                'Expected an activation by its name, layers.activation("relu"), or by its class, Relu(); got the base '
                "class Activation. For a function of your own write Elementwise(f)."
            )
        return super().__new__(cls)

    @property
    def gain(self) -> Any:
        """The w_std that keeps gradients from growing or dying with depth: 1 / sqrt(E[phi'(z)^2]).

        Here z has variance `critical_variance`. Piecewise linear functions through the origin have the same gain at all
        variances. The result is a float, or an array if hyperparameters are arrays.
        """
        leaves = jax.tree.leaves(self)
        if not all(isinstance(leaf, int | float) for leaf in leaves):
            return self._slope(jnp.asarray(self.critical_variance)) ** -0.5
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            return float(self._slope(jnp.asarray(self.critical_variance))) ** -0.5

    def _slope(self, variance: Array) -> Array:
        """E[phi'(z)^2], compiled as one program because an expansion has hundreds of steps."""
        return eqx.filter_jit(lambda phi, v: phi.dual(v, v, v)[1])(self, variance)

    @abc.abstractmethod
    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)]; the arrays broadcast against each other."""

    def moment(self, variance: Array) -> Array:
        """E[phi(u)^2], the dual at equal arguments. A class may override it with a cheaper formula."""
        return self.dual(variance, variance, variance)[0]

    def decorrelates(self, before: bool) -> bool:
        return False

    def needs(self, after: Needs) -> Needs:
        """The variances, and what later layers need."""
        return after | Needs(own=Positions.EQUAL)

    def propagate(self, covariance: Covariance) -> Covariance:
        if not covariance.gaussian:
            raise InputError(
                f"Expected a Dense or Conv layer before {type(self).__name__}; got an input that is not Gaussian at "
                "infinite width. Put a linear layer directly before it, after the input or the previous activation."
            )
        return covariance.activate(self.dual, self.moment)


def require_numbers(phi: Activation) -> None:
    """Raise an `InputError` unless all hyperparameters are finite numbers."""
    for field in dataclasses.fields(phi):
        name, value = f"{field.name} of {type(phi).__name__}", getattr(phi, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            require_finite(require_array(part, name), name)
