"""Training: a small loop over an optax optimizer. It compiles once and stops at the steps that you choose.

One step is theta_{t+1} = theta_t + u_t, where the optimizer computes u_t from the gradient of the loss over the batch.
`train` yields (step, params). The steps run in one compiled loop, which serves any number of steps. Networks with
convolutions on a CPU are the exception: there, gradients are some 20 times slower inside a compiled loop, so each step
is a compiled call of its own.

>>> import jax, jax.numpy as jnp, optax
>>> from ntkbias.training import log_steps, train
>>> f = lambda params, x: x @ params
>>> x = jnp.eye(2)
>>> data = (x, jnp.array([1.0, 2.0]))
>>> steps = dict(train(f, jnp.zeros(2), data, optimizer=optax.sgd(1.0), num_steps=20, at=log_steps(20, 4)))
>>> {step: [round(float(p), 3) for p in params] for step, params in steps.items()}
{0: [0.0, 0.0], 1: [0.5, 1.0], 4: [0.938, 1.875], 20: [1.0, 2.0]}
"""

from ntkbias.training.fit import accuracy
from ntkbias.training.flow import parameter_flow
from ntkbias.training.inputs import Forward
from ntkbias.training.loop import steps_until, train, trained
from ntkbias.training.mup import scale_by_mup
from ntkbias.training.steps import Steps, log_steps
from ntkbias.training.time import effective_learning_rates

__all__ = [
    "Forward",
    "Steps",
    "accuracy",
    "effective_learning_rates",
    "log_steps",
    "parameter_flow",
    "scale_by_mup",
    "steps_until",
    "train",
    "trained",
]


def __dir__() -> list[str]:
    return sorted(__all__)
