"""A kernel of this package as one of scikit-learn's.

>>> import ntkbias as nb
>>> from sklearn.svm import SVC
>>> images, labels = nb.datasets.digits(200)
>>> limit = nb.infinite_ntk(nb.nets.cnn(depth=1))
>>> kernel = nb.adapters.sklearn_kernel(limit, input_shape=images.shape[1:])
>>> rows = images.reshape(200, -1)
>>> SVC(kernel=kernel).fit(rows[:150], labels[:150]).score(rows[150:], labels[150:]) > 0.8
True
"""

from typing import TYPE_CHECKING, Any

__all__ = ["sklearn_kernel"]

if TYPE_CHECKING:
    from ntkbias.adapters.sklearn_kernels import SklearnKernel


def sklearn_kernel(
    kernel: Any,
    input_shape: tuple[int, ...] | None = None,
    *,
    scale: float = 1.0,
    scale_bounds: tuple[float, float] | str = (1e-5, 1e5),
) -> "SklearnKernel":
    """`scale * kernel` as `kernel=` of scikit-learn's `KernelRidge`, `SVC`, `SVR` and `GaussianProcessRegressor`.

    The result is a `sklearn.gaussian_process.kernels.Kernel`. `fit`, `predict`, `clone`, `GridSearchCV` and `pickle`
    work as with scikit-learn's own kernels, and it can be added to them: `sklearn_kernel(kernel) + WhiteKernel()`.

    Arguments:
    - `kernel`: a `Kernel` with `outputs` "mean" or "sum", one number per pair of inputs.
    - `input_shape`: the shape of one input. Rows `(n, d)` of scikit-learn are reshaped to `(n, *input_shape)`, as for
      convolutional networks. By default the kernel takes the rows.
    - `scale`: the factor of the kernel, the one hyperparameter. A Gaussian process fits it within `scale_bounds`;
      "fixed" keeps it. `KernelRidge(alpha=a)` at scale s equals `nb.kernel_regression(..., ridge=a / s)`.

    Each call costs the Gram matrix of its inputs. Rows that equal those of the call before are not computed again while
    a Gaussian process fits the scale. Gram matrices are rounded as `kernel` computes them, in float32 unless JAX is set
    to float64. A Gaussian process then needs `alpha` of 1e-6 times the kernel's diagonal or more; its default, 1e-10,
    is for float64.

    Raises `InputTypeError` if `kernel` is not a kernel, and `InputError` if it returns several numbers per pair of
    inputs, if `scale` is not above zero, and in `fit` and `predict` if rows do not have the size of `input_shape`.

    >>> import numpy as np, ntkbias as nb
    >>> from sklearn.kernel_ridge import KernelRidge
    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=2))
    >>> fit = KernelRidge(alpha=0.1, kernel=nb.adapters.sklearn_kernel(kernel)).fit(x, x[:, 0])
    >>> same = nb.kernel_regression(kernel, x, x[:, 0], ridge=0.1)
    >>> np.allclose(fit.predict(x[:4] / 2), same.predict(x[:4] / 2), atol=1e-3)
    True
    """
    from ntkbias.adapters.sklearn_kernels import SklearnKernel, checked  # imports scikit-learn

    checked(kernel, input_shape, scale)
    return SklearnKernel(kernel, input_shape, scale, scale_bounds)
