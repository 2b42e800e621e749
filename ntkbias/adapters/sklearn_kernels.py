"""SklearnKernel: a kernel of scikit-learn that evaluates one of this package. `to_sklearn.sklearn_kernel` makes it.

>>> import numpy as np, ntkbias as nb
>>> from ntkbias.adapters.sklearn_kernels import SklearnKernel
>>> kernel = SklearnKernel(nb.infinite_ntk(nb.nets.mlp(depth=1)), scale=2.0)
>>> K, slope = kernel(np.eye(3), eval_gradient=True)
>>> K.shape, bool(np.all(slope[:, :, 0] == K)), np.exp(kernel.theta).round(3).tolist()
((3, 3), True, [2.0])
"""

import math
from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from ntkbias.errors import InputError
from ntkbias.kernels.kernel import require_kernel

__all__ = ["SklearnKernel", "checked"]


class SklearnKernel(Kernel):
    """`scale * kernel(X, Y)` of rows `(n, d)`, which are reshaped to `(n, *input_shape)`; arrays of NumPy in float64.

    The attributes are the parameters that `get_params` and `set_params` know. The kernel itself is never copied, since
    it is immutable.
    """

    def __init__(
        self,
        kernel: Any,
        input_shape: tuple[int, ...] | None = None,
        scale: float = 1.0,
        scale_bounds: tuple[float, float] | str = (1e-5, 1e5),
    ) -> None:
        self.kernel, self.input_shape, self.scale, self.scale_bounds = kernel, input_shape, scale, scale_bounds
        self._last: tuple[np.ndarray, Any, Any, np.ndarray] | None = None

    @property
    def hyperparameter_scale(self) -> Hyperparameter:
        """The scale, as scikit-learn describes hyperparameters."""
        return Hyperparameter("scale", "numeric", self.scale_bounds)

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """The Gram matrix `(n, m)` of rows X and Y, or `(n, n)` of X alone.

        With `eval_gradient` also its derivative by log scale, `(n, n, 1)`, or `(n, n, 0)` if the scale is fixed.
        """
        if eval_gradient:
            if Y is not None:
                raise InputError("Expected no Y with eval_gradient=True; got one. Leave it out.")
            gram = self.scale * self._remembered(np.asarray(X))
            slopes = gram[:, :, None][:, :, : 1 - self.hyperparameter_scale.fixed]
            return gram, slopes.copy()  # GaussianProcessRegressor adds its noise to the matrix in place
        if Y is None or Y is X:
            return self.scale * self._gram(X)
        return self.scale * np.asarray(self.kernel(self._inputs(X), self._inputs(Y)), np.float64)

    def diag(self, X: Any) -> np.ndarray:
        """The diagonal of the Gram matrix, `(n,)`; computes no matrix."""
        operator = self.kernel.operator(self._inputs(X), num_products=1)
        return self.scale * np.asarray(operator.diagonal(), np.float64)

    def is_stationary(self) -> bool:
        """False: a network's kernel is no function of differences of inputs."""
        return False

    def _gram(self, X: Any) -> np.ndarray:
        return np.asarray(self.kernel(self._inputs(X)), np.float64)

    def _remembered(self, X: np.ndarray) -> np.ndarray:
        """The Gram matrix at scale one, kept for the next call: fitting the scale asks for the same one many times."""
        last = self._last
        if last is None or last[1] is not self.kernel or last[2] != self.input_shape or not np.array_equal(last[0], X):
            last = self._last = X.copy(), self.kernel, self.input_shape, self._gram(X)
        return last[3]

    def _inputs(self, X: Any) -> np.ndarray:
        rows = np.asarray(X)
        if self.input_shape is None:
            return rows
        if math.prod(rows.shape[1:]) != math.prod(self.input_shape):
            raise InputError(
                f"Expected rows of {math.prod(self.input_shape)} numbers, for inputs of shape {self.input_shape}; got "
                f"rows of shape {rows.shape[1:]}. Change input_shape=."
            )
        return rows.reshape(len(rows), *self.input_shape)

    def __sklearn_clone__(self) -> "SklearnKernel":
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SklearnKernel):
            return False
        own, others = self.get_params(), other.get_params()
        return own.pop("kernel") is others.pop("kernel") and own == others

    __hash__ = None  # type: ignore[assignment]  # as scikit-learn's kernels: it can be changed in place

    def __repr__(self) -> str:
        return f"{self.scale:.3g} * ({self.kernel!r})"


def checked(kernel: Any, input_shape: Any, scale: Any) -> None:
    """Raise an `InputError` unless these make a kernel of scikit-learn: before it is fitted, not within."""
    require_kernel(kernel, 'For a Gram matrix use kernel="precomputed".')
    if kernel.outputs not in ("mean", "sum"):
        raise InputError(
            f'Expected a kernel with outputs "mean" or "sum", one number per pair of inputs; got "{kernel.outputs}".'
        )
    sizes = (1,) if input_shape is None else input_shape
    if not isinstance(sizes, tuple) or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise InputError(f"Expected input_shape to be a tuple of whole numbers above zero; got {input_shape!r}.")
    if not isinstance(scale, int | float | np.number) or not 0 < scale < math.inf:
        raise InputError(f"Expected a scale above zero; got {scale!r}.")
