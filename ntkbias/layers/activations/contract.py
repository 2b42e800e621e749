"""The contract of an activation: `apply` at a finite width, its dual in the infinite-width limit."""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError
from ntkbias.layers.covariance import Covariance, Needs, Positions
from ntkbias.layers.layer import Layer

__all__ = ["Activation", "require_numbers"]


class Activation(Layer):
    """An elementwise function with a dual. A new one says `apply` and `dual`."""

    # The variance of the inputs at which `gain` is critical: one, or zero for functions like tanh, through the origin
    # and flatter away from it, whose signals tend to zero without biases (Roberts et al. 2022, chapter 5).
    critical_variance: ClassVar[float] = 1.0

    @property
    def gain(self) -> Any:
        """The w_std that keeps gradients from growing or dying with depth: 1 / sqrt(E[phi'(z)^2]).

        For z of variance `critical_variance`. Piecewise linear functions through the origin have one gain at all
        variances. A float, or an array where hyperparameters are traced.
        """
        leaves = jax.tree.leaves(self)
        if not all(isinstance(leaf, int | float) for leaf in leaves):
            return self._slope(jnp.asarray(self.critical_variance)) ** -0.5
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            return float(self._slope(jnp.asarray(self.critical_variance))) ** -0.5

    def _slope(self, variance: Array) -> Array:
        """E[phi'(z)^2], as one program: an expansion has hundreds of steps."""
        return eqx.filter_jit(lambda phi, v: phi.dual(v, v, v)[1])(self, variance)

    @abc.abstractmethod
    def dual(self, covariance: Array, variance1: Array, variance2: Array) -> tuple[Array, Array]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)]; the arrays broadcast against each other."""

    def moment(self, variance: Array) -> Array:
        """E[phi(u)^2]: the dual at equal arguments, for which a class may know a shorter way."""
        return self.dual(variance, variance, variance)[0]

    def decorrelates(self, before: bool) -> bool:
        return False

    def needs(self, after: Needs) -> Needs:
        """The variances, beside what comes after."""
        return after | Needs(own=Positions.EQUAL)

    def propagate(self, covariance: Covariance) -> Covariance:
        if not covariance.gaussian:
            raise InputError(
                f"Expected a Dense or Conv layer before {type(self).__name__}; got an input that is not Gaussian at "
                "infinite width. Put a linear layer between the input, or the activation before, and this one."
            )
        return covariance.activate(self.dual, self.moment)


def require_numbers(phi: Activation) -> None:
    """Raise an `InputError` unless all hyperparameters are finite numbers."""
    for field in dataclasses.fields(phi):
        name, value = f"{field.name} of {type(phi).__name__}", getattr(phi, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            require_finite(require_array(part, name), name)
