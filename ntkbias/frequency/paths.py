"""The interpolation spectrum: the frequencies of a network's output along the path between two examples.

On the straight path from an example a to an example b, the softmax over the classes moves away from its start:

    d(s) = | softmax(f(x(s))) - softmax(f(a)) |,    x(s) = a + s (b - a) / |b - a|,    s = 0, 1, ... |b - a|

|Fourier transform of d|^2 shows how fast it moves (Fridovich-Keil et al. 2021, arXiv 2110.02424, section 4.2). The path
includes both a and b. d is not periodic, and the jump from its end to its start would add a tail of f^-2 to every
spectrum. So its mean is removed, and a Hann window fades out both ends. Paths differ in length, but all transforms use
the same frequencies, in cycles per unit of distance.

>>> import jax.numpy as jnp
>>> from ntkbias.frequency import interpolation_path, interpolation_spectrum
>>> interpolation_path(jnp.zeros(2), jnp.array([3.0, 4.0])).tolist()[-1]        # six samples, the last one included
[3.0, 4.0]
>>> def network(x):
...     return jnp.stack([jnp.cos(2 * jnp.pi * 0.2 * x[:, 0]), jnp.zeros(len(x))], 1)
>>> x = jnp.array([[0.0, 0.0], [40.0, 0.0], [0.0, 1.0], [40.0, 1.0]])
>>> spectrum = interpolation_spectrum(network, x, jnp.array([0, 0, 1, 1]), num_frequencies=51)
>>> round(float(spectrum.frequencies[spectrum.within.argmax()]), 2)
0.20
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import key_or_default, require_finite, require_positive, require_wide
from ntkbias.compilation import compiled
from ntkbias.errors import InputError
from ntkbias.progress import progress
from ntkbias.tables import Axes, Printed, Table, number

__all__ = ["InterpolationSpectrum", "interpolation_path", "interpolation_spectrum"]

_BATCH = 256  # samples of a path at a time
_PATH_BYTES = 2**30  # the most memory for a path and its transform


class InterpolationSpectrum(Printed):
    """The power along paths within a class and between classes, at `frequencies` in cycles per unit of distance.

    The power is normalized so that a wave d(s) of amplitude one has the power one. All paths count equally.
    `within_each` `(p, f)` and `between_each` `(q, f)` hold the power of each path, for intervals.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> x, labels = jax.random.normal(jax.random.key(0), (8, 2)), jnp.array([0, 1] * 4)
    >>> options = {"num_pairs": 4, "spacing": 0.2, "num_frequencies": 8}
    >>> spectrum = nb.frequency.interpolation_spectrum(lambda x: x, x, labels, **options)
    >>> float(spectrum.frequencies[0])  # in cycles per unit of distance
    0.0
    """

    named_axes = Axes(
        "frequency",
        index={"frequency": "frequencies"},
        also=["within", "between"],
        f="frequency",
        p="path_within",
        q="path_between",
    )

    frequencies: Float[Array, " f"]
    within_each: Float[Array, "p f"]
    between_each: Float[Array, "q f"]

    @property
    def within(self) -> Float[Array | np.ndarray, " f"]:
        """The mean power over paths between examples of one class."""
        return self.within_each.mean(0)

    @property
    def between(self) -> Float[Array | np.ndarray, " f"]:
        """The mean power over paths between examples of two classes."""
        return self.between_each.mean(0)

    @property
    def mean_frequency(self) -> tuple[float, float]:
        """The power-weighted mean frequency, sum f P(f) / sum P(f), within classes and between classes."""
        f = self.frequencies
        return tuple(float((f * power).sum() / power.sum()) for power in (self.within, self.between))  # type: ignore[return-value]

    def _table(self, num_rows: int) -> Table:
        within, between = self.mean_frequency
        parts = [np.asarray(part, float) for part in (self.frequencies, self.within, self.between)]
        bands = np.array_split(np.arange(len(self.frequencies)), max(1, min(num_rows, len(self.frequencies))))
        heads = "frequency", "within classes", "between classes"  # power of neighboring frequencies together
        columns = {
            head: [number(np.mean(part[band])) for band in bands if len(band)]
            for head, part in zip(heads, parts, strict=True)
        }
        means = f"mean frequency {number(within)} within, {number(between)} between classes"
        paths = f"{len(self.within_each)} paths within, {len(self.between_each)} between"
        return Table(f"InterpolationSpectrum: {len(self.frequencies)} frequencies", columns, [f"{means}; {paths}"])


def interpolation_path(start: ArrayLike, end: ArrayLike, spacing: float = 1.0) -> Float[Array, "m ..."]:
    """Equally spaced examples `(m, ...)` on the straight line from `start` to `end`, both included.

    The length of the path is divided into round(length / spacing) equal steps, at least one. Raises `InputError` if the
    two examples are equal or differ in shape, or if the path takes more than a gigabyte.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.frequency.interpolation_path(jnp.zeros(1), jnp.ones(1), spacing=0.5).tolist()
    [[0.0], [0.5], [1.0]]
    """
    first, last = require_wide(start, "start"), require_wide(end, "end")
    if first.shape != last.shape:
        raise InputError(f"Expected two examples of one shape; got {first.shape} and {last.shape}.")
    require_finite(first, "start")
    require_finite(last, "end")
    length = float(jnp.linalg.norm((last - first).ravel()))
    if not length > 0:
        raise InputError("Expected two different examples; got the same one twice.")
    _require_spacing(spacing, length, first.nbytes)
    share = jnp.linspace(0, 1, max(1, round(length / spacing)) + 1).reshape(-1, *(1,) * first.ndim)
    return (1 - share) * first + share * last


def interpolation_spectrum(
    predict: Callable[[Array], Array],
    x: ArrayLike,
    labels: ArrayLike,
    *,
    num_pairs: int = 64,
    spacing: float = 1.0,
    num_frequencies: int = 64,
    key: PRNGKeyArray | None = None,
) -> InterpolationSpectrum:
    """The spectrum of the softmax along `num_pairs` random paths within classes and as many paths between classes.

    `predict` maps inputs `(b, ...)` to logits `(b, c)`, such as `lambda x: f(params, x)`. `labels` `(n,)` are whole
    numbers. Frequencies go from 0 to 1 / (2 spacing), the highest that samples at this distance can show. Pairs are
    distinct, and drawn with `key` (default: a fixed key). If there are fewer than `num_pairs`, all are used. Costs the
    network on 2 `num_pairs` (mean length of a path) / `spacing` samples.

    Raises `InputError` if `predict` does not return finite logits of two classes or more, if the labels have no pair
    within a class or none between classes, or if a path takes more than a gigabyte.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> x, labels = jax.random.normal(jax.random.key(0), (8, 2)), jnp.array([0, 1] * 4)
    >>> options = {"num_pairs": 4, "spacing": 0.2, "num_frequencies": 8}
    >>> spectrum = nb.frequency.interpolation_spectrum(lambda x: x, x, labels, **options)
    >>> spectrum.within.shape, spectrum.between.shape
    ((8,), (8,))
    """
    points, classes = require_wide(x, "x"), np.asarray(require_wide(labels, "labels"))
    require_finite(points, "x")
    require_positive("num_pairs", num_pairs)
    require_positive("num_frequencies", num_frequencies)
    if classes.shape != points.shape[:1] or classes.dtype.kind not in "iub":
        raise InputError(
            f"Expected a whole-number label for each of {len(points)} inputs; got {classes.dtype} of shape "
            f"{classes.shape}."
        )
    key = key_or_default(key)
    within, between = _pairs(points, classes, num_pairs, key)
    ends = np.asarray(points, float).reshape(len(points), -1)[np.concatenate([within, between])]
    longest = float(np.max(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)))
    _require_spacing(spacing, longest, points[0].nbytes + 16 * num_frequencies)
    softmax = _batched(predict, points)
    frequencies = np.linspace(0, 0.5 / spacing, num_frequencies)
    powers = [
        _path_power(softmax, interpolation_path(points[i], points[j], spacing), frequencies)
        for i, j in progress(np.concatenate([within, between]), "paths")
    ]
    each = jnp.asarray(np.stack(powers), jnp.result_type(float))
    return InterpolationSpectrum(jnp.asarray(frequencies, each.dtype), each[: len(within)], each[len(within) :])


def _require_spacing(spacing: float, length: float, num_bytes: int) -> None:
    """Raise an `InputError` unless a path of this length fits in memory, with `num_bytes` per sample."""
    if not 0 < spacing < np.inf:
        raise InputError(f"Expected a spacing above zero; got {spacing!r}.")
    if length / spacing * num_bytes > _PATH_BYTES:
        raise InputError(
            f"Expected a path of at most {_PATH_BYTES // num_bytes:,} samples; got {length / spacing:,.0f}, for a "
            f"length of {length:.3g} and a spacing of {spacing:g}. Choose a larger spacing."
        )


def _pairs(
    x: Array, classes: np.ndarray, num_pairs: int, key: PRNGKeyArray
) -> tuple[Int[np.ndarray, "p 2"], Int[np.ndarray, "q 2"]]:
    """Distinct pairs of different inputs, within classes and between classes."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    flat = np.asarray(x).reshape(len(x), -1)
    chosen = []
    for same in (True, False):
        first, second = np.nonzero(np.triu((classes[:, None] == classes) == same, 1))
        order = rng.permutation(len(first))
        pairs = np.stack([first[order], second[order]], 1)
        found = pairs[:num_pairs]
        apart = np.any(flat[found[:, 0]] != flat[found[:, 1]], 1)
        if not apart.any():
            raise InputError(
                f"Expected two different examples {'of one class' if same else 'of two classes'}; got none among "
                f"{len(x)} inputs of {len(np.unique(classes))} classes."
            )
        chosen.append(found[apart])
    return chosen[0], chosen[1]


def _batched(predict: Callable[[Array], Array], x: Array) -> Callable[[Array], Float[np.ndarray, "m c"]]:
    """The softmax of `predict` over the classes, in batches of one size, so that it compiles once."""
    logits = jax.eval_shape(predict, jax.ShapeDtypeStruct((_BATCH, *x.shape[1:]), x.dtype))
    if getattr(logits, "ndim", 0) != 2 or logits.shape[0] != _BATCH or logits.shape[1] < 2:
        got = getattr(logits, "shape", type(logits).__name__)
        raise InputError(
            f"Expected predict(x) to return logits (n, classes) of two classes or more; got {got} for {_BATCH} inputs."
        )
    probabilities_of = compiled(lambda batch: jax.nn.softmax(predict(batch), axis=-1))

    def batches(path: Array) -> Iterator[np.ndarray]:
        for begin in range(0, len(path), _BATCH):
            part = path[begin : begin + _BATCH]
            padded = jnp.concatenate([part, jnp.broadcast_to(part[-1:], (_BATCH - len(part), *part.shape[1:]))])
            yield np.asarray(probabilities_of(padded), float)[: len(part)]

    return lambda path: np.concatenate(list(batches(path)))


def _path_power(
    softmax: Callable[[Array], np.ndarray], path: Array, frequencies: Float[np.ndarray, " f"]
) -> Float[np.ndarray, " f"]:
    """4 |Fourier transform|^2 of the distance to the start, minus its mean, under a Hann window with sum one."""
    probabilities = softmax(path)
    if not np.isfinite(probabilities).all():
        raise InputError("Expected finite logits from predict(x); got NaN or infinity on a path. Check its parameters.")
    distance = np.linalg.norm(probabilities - probabilities[0], axis=1)
    count = len(distance)
    window = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2  # shifted by 1/2, so that no sample has weight zero
    window /= window.sum()
    length = np.linalg.norm(np.asarray(path[-1] - path[0], float).ravel())
    positions = np.linspace(0, length, count)
    waves = np.exp(-2j * np.pi * np.outer(frequencies, positions))
    return 4 * np.abs(waves @ (window * (distance - window @ distance))) ** 2
