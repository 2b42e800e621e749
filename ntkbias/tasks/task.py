"""What a task is: inputs, targets, and the function that the targets come from.

>>> import jax
>>> from ntkbias.tasks import disk
>>> task = disk(100, key=jax.random.key(0))
>>> x, y = task.data
>>> x.shape, y.shape, bool((task.truth(x) == y).all())
((100, 2), (100,), True)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.errors import InputError

__all__ = ["Task"]


class Task(NamedTuple):
    """Inputs `(n, ...)`, targets `(n,)`, and the truth: a function from any inputs `(m, ...)` to targets `(m,)`.

    The targets equal the truth unless the task says that they have noise. The truth prints its parameters.

    >>> import jax, ntkbias as nb
    >>> task = nb.tasks.disk(100, key=jax.random.key(0))
    >>> task.truth
    InDisk(squared_radius=0.6366197723675814)
    """

    x: Float[Array, "n ..."]
    y: Float[Array, " n"]
    truth: Callable[[Array], Array]

    @property
    def data(self) -> tuple[Array, Array]:
        """The pair (x, y), as `train` and `track` take it."""
        return self.x, self.y

    def split(self, num_train: int, *, key: PRNGKeyArray | None = None) -> tuple["Task", "Task"]:
        """Two tasks: `num_train` examples for training, and all others for testing.

        They are the first examples, or, with a `key`, random ones. Raises `InputError` unless both parts have examples.

        >>> import jax, ntkbias as nb
        >>> train, test = nb.tasks.disk(100, key=jax.random.key(0)).split(70)
        >>> len(train.x), len(test.x)
        (70, 30)
        """
        n = len(self.x)
        require_positive("num_train", num_train)
        if num_train >= n:
            raise InputError(f"Expected num_train below the number of examples, {n}; got {num_train}.")
        x, y = self.data
        if key is not None:
            order = jax.random.permutation(require_key(key), n)
            x, y = x[order], y[order]
        return Task(x[:num_train], y[:num_train], self.truth), Task(x[num_train:], y[num_train:], self.truth)
