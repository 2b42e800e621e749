"""Test error against the number of examples: a network beside regressions with its kernels.

At each number n of examples there are the following learners, which all minimize the squared error and start from zero:

    network             f less its outputs at the start, trained on n examples
    kernel at start     regression with the empirical NTK of the random parameters
    kernel after t      regression with the empirical NTK after training on the first t examples
    kernel after n      regression with the empirical NTK of the trained network itself

and regressions with further kernels, such as that of infinite width. If the network's error falls with a steeper power
of n than that of the kernel at start, then its kernel has learned something (Vyas, Bansal and Nakkiran 2022,
arXiv 2206.10012).

>>> import jax, ntkbias as nb, optax
>>> net = nb.nets.mlp(width=32, depth=1)
>>> seeds = jax.vmap(lambda key: net.init(key, (6,)))(jax.random.split(jax.random.key(0), 2))
>>> x = jax.random.normal(jax.random.key(1), (96, 6))
>>> y = x[:, 0] * x[:, 1]
>>> options = {"optimizer": optax.adam(1e-2), "num_steps": 50, "kernels": {"infinite": nb.infinite_ntk(net)}}
>>> scaling = nb.learning.data_scaling(net.apply, seeds, (x[:64], y[:64]), (x[64:], y[64:]), [16, 32, 64], **options)
>>> scaling.learners
('network', 'infinite', 'kernel at start', 'kernel after n')
>>> scaling.errors.shape
(4, 2, 3)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import key_or_default, require_name, require_positive, widened
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel, empirical_ntk
from ntkbias.kernels.kernel import require_kernel
from ntkbias.learning.curves import checked_sizes
from ntkbias.learning.regression import kernel_regression
from ntkbias.progress import progress
from ntkbias.scaling import ScalingLaw, crossing, scaling_law
from ntkbias.tables import Axes, Printed, Table, counted, number, spaced
from ntkbias.training import trained
from ntkbias.training.inputs import checked_data, output_shape
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["DataScaling", "data_scaling"]


class DataScaling(Printed):
    """The test error of each learner, run and number of examples. It prints as a table of means over runs.

    `errors` is the squared error, summed over outputs and averaged over the test inputs. It is NaN where a learner was
    not measured: the kernel after t examples counts from more than t examples on.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> n = jnp.array([8, 16, 32, 64])
    >>> errors = jnp.stack([4 / n, n**-0.5])[:, None] * jnp.array([[1.0], [1.1]])
    >>> scaling = nb.learning.DataScaling(n, errors, ("network", "kernel at start"))
    >>> round(scaling.law("network").exponent.value, 3), round(scaling.crossover("network", "kernel at start"), 1)
    (-1.0, 16.0)
    """

    named_axes = Axes(
        *("learner", "run", "size"), index={"size": "sizes", "learner": "learners"}, s="size", l="learner", r="run"
    )

    sizes: Int[Array, " s"]
    errors: Float[Array, "l r s"]
    learners: tuple[str, ...] = eqx.field(static=True)

    def of(self, learner: str) -> Float[np.ndarray, "r s"]:
        """The errors of one learner, by its name."""
        require_name(learner, self.learners, "a learner")
        return np.asarray(self.errors, float)[self.learners.index(learner)]

    def law(self, learner: str) -> ScalingLaw:
        """The power law of one learner's error, by `scaling_law`, over the sizes at which it was measured.

        The interval of its exponent comes from runs, if there are two or more. `scaling.exponent_difference(law,
        other, paired=True)` compares two learners.
        """
        errors = self.of(learner)
        known = np.isfinite(errors).all(0)
        values = errors[:, known]
        return scaling_law(np.asarray(self.sizes)[known], values if len(values) > 1 else values[0])

    def crossover(self, first: str, second: str) -> float:
        """The number of examples from which on `first` has the smaller mean error; NaN if it never overtakes `second`.

        Interpolated by `scaling.crossing`, over the sizes at which both were measured.
        """
        ratio = self.of(first).mean(0) / self.of(second).mean(0)
        known = np.isfinite(ratio)
        return float(crossing(np.asarray(self.sizes)[known], ratio[known], 1.0))

    def _table(self, num_rows: int) -> Table:
        shown = spaced(len(self.sizes), num_rows)
        means = np.asarray(self.errors, float).mean(1)
        columns = {"n": [f"{int(self.sizes[row]):,}" for row in shown]}
        for name, row in zip(self.learners, means, strict=True):
            columns[name] = ["" if np.isnan(row[place]) else number(row[place]) for place in shown]
        runs = counted(self.errors.shape[1], "run")
        return Table(
            f"DataScaling: test errors of {counted(len(self.learners), 'learner')}, means over {runs}", columns
        )


def data_scaling(
    f: ApplyFunction,
    params: Params,
    data: tuple[Inputs, ArrayLike],
    test: tuple[Inputs, ArrayLike],
    sizes: ArrayLike | Sequence[int],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    num_before: int | None = None,
    kernels: Mapping[str, Kernel] | None = None,
    ridges: Sequence[float] = (1e-5,),
    batch_size: int | None = None,
    key: PRNGKeyArray | None = None,
) -> DataScaling:
    """Measure the test error of `f(params, x)` and of regressions with its kernels on `sizes` `(s,)` examples.

    The runs are the first axis of each array of `params`, as in `track_many`. Run i draws an order of `data` = (x, y)
    with `key` (default: a fixed key), and its training sets are the first examples in this order: they are nested.
    `test` = (x, y) is the same for all. The networks are trained on the squared error for `num_steps` steps of
    `optimizer`, by `training.trained`, on all examples or on batches of `batch_size`.

    `num_before` is t: with it, "kernel after t" is measured at sizes above t. `kernels` are further kernels by name.
    `ridges` are relative to the mean diagonal of each Gram matrix. Of several, each regression takes the one with the
    least leave-one-out error. Kernels of networks with several outputs are their means over outputs.

    Parameters and data of half precision are computed with in float32. Costs one training per run and size, and n^3
    operations per run, size, kernel and ridge. A progress bar counts trainings and regressions.

    Raises `InputError` on sizes beyond the number of examples, ridges or names that do not fit, targets of another
    shape than the outputs, and if training diverges.

    >>> import jax, ntkbias as nb, optax
    >>> net, (x, _) = nb.nets.mlp(width=16, depth=1, b_std=0.1), nb.domains.Circle().quadrature(32)
    >>> params = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(0), 2))
    >>> data, test = (x[::2], x[::2, 0]), (x[1::2], x[1::2, 0])
    >>> scaling = nb.learning.data_scaling(net.apply, params, data, test, [4, 8], optimizer=optax.sgd(0.5), num_steps=9)
    >>> bool((scaling.of("kernel at start")[:, 1] < scaling.of("kernel at start")[:, 0]).all())
    True
    """
    key, counts = key_or_default(key), checked_sizes(sizes)
    runs = _runs(params)
    (x, y), (x_test, y_test) = (_fitting(f, runs[0], *each) for each in ((data, "the data"), (test, "the test data")))
    kernels = dict(kernels or {})
    _require_options(counts, num_before, kernels, ridges, len(x))
    options = {"optimizer": optimizer, "num_steps": num_steps, "batch_size": batch_size}
    learners = ["network", *kernels, "kernel at start"]
    learners += [] if num_before is None else [_after(num_before)]
    learners += ["kernel after n"]
    errors = np.full((len(learners), len(runs), len(counts)), np.nan)
    most = int(counts.max())
    total = len(runs) * (len(counts) * len(learners))
    with progress(None, "trainings and regressions", total=total) as bar:
        for run, start in enumerate(runs):
            own = jax.random.fold_in(key, run)
            order = jax.random.permutation(own, len(x))[:most]
            xs, ys, zero = x[order], y[order], f(start, x_test)

            def end_of(n: int, start: Params = start, xs: Array = xs, ys: Array = ys, own: Any = own) -> Params:
                """The parameters after training f less its start, which is to train f on y plus its start."""
                return trained(f, start, (xs[:n], ys[:n] + f(start, xs[:n])), key=own, **options)

            fixed = {**kernels, "kernel at start": empirical_ntk(f, start)}
            if num_before is not None:
                fixed[_after(num_before)] = empirical_ntk(f, end_of(num_before))
            for name, kernel in fixed.items():
                grams = np.asarray(kernel(xs)), np.asarray(kernel(x_test, xs))
                for place, n in enumerate(counts.tolist()):
                    if num_before is None or name != _after(num_before) or n > num_before:
                        outputs = _regressed(*grams, ys[:n], ridges)
                        errors[learners.index(name), run, place] = _error(outputs, y_test)
                    bar.update(1)
            for place, n in enumerate(counts.tolist()):
                end = end_of(n)
                errors[0, run, place] = _error(f(end, x_test) - zero, y_test)
                bar.update(1)
                kernel = empirical_ntk(f, end)
                grams = np.asarray(kernel(xs[:n])), np.asarray(kernel(x_test, xs[:n]))
                errors[-1, run, place] = _error(_regressed(*grams, ys[:n], ridges), y_test)
                bar.update(1)
    return DataScaling(jnp.asarray(counts), jnp.asarray(errors, jnp.result_type(float)), tuple(learners))


def _after(num_examples: int) -> str:
    return f"kernel after {num_examples}"


def _runs(params: Params) -> list[Params]:
    """The parameters of each run."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if len(lengths) != 1 or lengths == {()}:
        raise InputError(
            "Expected params with the runs as the first axis of each array; got first axes "
            f"{sorted(lengths)}. Use jax.vmap(lambda key: net.init(key, shape))(keys)."
        )
    (count,) = lengths.pop()
    return [jax.tree.map(lambda leaf, run=run: widened(jnp.asarray(leaf))[run], params) for run in range(count)]


def _fitting(f: ApplyFunction, params: Params, data: Any, name: str) -> tuple[Array, Array]:
    """The inputs, and the targets in the shape of the outputs."""
    x, y = checked_data(data, name)
    x = widened(x)  # a Gram matrix in half precision is too rough for a small ridge
    outputs = output_shape(f, params, x)
    return x, losses.checked_targets("mse", outputs, y).reshape(outputs.shape)


def _require_options(
    counts: np.ndarray, num_before: int | None, kernels: dict[str, Kernel], ridges: Sequence[float], most: int
) -> None:
    if np.any(np.diff(counts) <= 0):
        raise InputError(f"Expected sizes that ascend; got {counts.tolist()}.")
    if num_before is not None:
        require_positive("num_before", num_before)
    if max(int(counts.max()), num_before or 1) > most:
        raise InputError(
            f"Expected sizes, and num_before, of at most {most}, the number of examples; got "
            f"{max(int(counts.max()), num_before or 1)}."
        )
    own = {"network", "kernel at start", "kernel after n"} | ({_after(num_before)} if num_before is not None else set())
    if taken := own & set(kernels):
        raise InputError(f"Expected other names of kernels than those of the learners; got {min(taken)!r}.")
    for kernel in kernels.values():
        require_kernel(kernel)
        if kernel.outputs not in ("mean", "sum"):
            raise InputError(
                f"Expected kernels with one value per pair of inputs; got outputs={kernel.outputs!r}. Use "
                "outputs='mean'."
            )
    values = np.asarray(ridges, float)
    if values.ndim != 1 or not values.size or not (np.isfinite(values).all() and np.all(values > 0)):
        raise InputError(f"Expected ridges above zero, relative to the mean diagonal, as (1e-5,); got {ridges!r}.")


def _regressed(K: np.ndarray, K_test: np.ndarray, y: Array, ridges: Sequence[float]) -> Float[np.ndarray, "m *o"]:
    """The outputs at test inputs of the regression on the first examples, with the best of the ridges."""
    n = len(y)
    matrix = K[:n, :n]
    scale = float(np.trace(matrix)) / n
    fits = [kernel_regression(matrix, y, ridge=scale * ridge) for ridge in ridges]
    best = min(fits, key=lambda fit: float(fit.leave_one_out_error))
    return np.asarray(best.predict(K_test=K_test[:, :n]))


def _error(outputs: Any, targets: Array) -> float:
    return 2 * float(losses.mse(jnp.asarray(outputs), targets))
