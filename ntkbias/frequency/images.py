"""The image frequencies that a function responds to: the energy of its input gradient in bands of the Fourier plane.

The gradient of f at an image is itself an image. Its Fourier transform g(k) has the energy |g(k)|^2 at the frequency k,
in cycles per pixel. This energy says how much f changes if a little of the wave k is added to the image. Bands are
rings of |k|. The share of a band is its part of the energy, averaged over images and summed over channels. `density` is
the share divided by the part of the plane that the ring covers: it is 1 in every band if the gradient is white noise,
and a band with more than 1 is preferred.

`image_frequencies` takes difference quotients along random images from one band. If band b has D_b waves, a random unit
image u in it has E (u . g)^2 = |g_b|^2 / D_b. This works for functions that jump, such as the modes of a finite ReLU
network's kernel. `image_gradient_frequencies` differentiates instead: it has no sampling noise, but misses jumps.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.frequency import image_gradient_frequencies
>>> wave = jnp.cos(2 * jnp.pi * jnp.arange(8) / 4)[:, None, None] * jnp.ones((8, 8, 1))        # 1/4 cycle per pixel
>>> images = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
>>> response = image_gradient_frequencies(lambda x: jnp.sum(x * wave, (1, 2, 3)) ** 2, images, num_bands=4)
>>> response.edges.round(3).tolist(), response.share.round(3).tolist()
([0.0, 0.177, 0.354, 0.53, 0.707], [0.0, 1.0, 0.0, 0.0])
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkbias.checks import key_or_default, require_finite, require_positive, require_wide
from ntkbias.domains import Images
from ntkbias.domains.images import remark_on_channels
from ntkbias.errors import InputError, InputTypeError
from ntkbias.progress import progress
from ntkbias.spectra import Spectrum
from ntkbias.tables import Axes, Printed, Table, counted

__all__ = ["ImageFrequencies", "image_frequencies", "image_gradient_frequencies"]

NUM_BANDS = 6
MOST_COLUMNS = 6  # functions that are printed, one per column


class ImageFrequencies(Printed):
    """The energy of a function's input gradient in each band of image frequency.

    `energy` is `(bands,)` for one function, and `(k, bands)` for several outputs or modes. Band b covers the
    frequencies from `edges[b]` to `edges[b + 1]`, in cycles per pixel; multiply by 2 pi for radians. An image has
    `counts[b]` of these frequencies.

    >>> import jax, ntkbias as nb
    >>> images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    >>> response = nb.frequency.image_gradient_frequencies(lambda x: x.mean((1, 2, 3)), images, num_bands=2)
    >>> response.edges.round(2).tolist()  # cycles per pixel
    [0.0, 0.35, 0.71]
    """

    named_axes = Axes("band", also=["bounds", "share"], bands="band", bands_and_one="edge", k="function")

    edges: Float[Array, " bands_and_one"]
    counts: Int[Array, " bands"]
    energy: Float[Array, "*k bands"]
    scale: float  # of the difference quotients; 0 for derivatives

    @property
    def bounds(self) -> Float[Array | np.ndarray, "bands 2"]:
        """The lowest and the highest frequency of each band."""
        return self.edges.__array_namespace__().stack([self.edges[:-1], self.edges[1:]], 1)

    @property
    def share(self) -> Float[Array | np.ndarray, "*k bands"]:
        """The share of the energy in each band. The shares sum to one."""
        return self.energy / self.energy.sum(-1, keepdims=True)

    @property
    def mean_frequency(self) -> Float[Array | np.ndarray, "*k"] | np.floating:
        """The energy-weighted mean of |k|, in cycles per pixel. Each band counts at the middle of its edges."""
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        return (self.share * middle).sum(-1)

    @property
    def density(self) -> Float[Array | np.ndarray, "*k bands"]:
        """`share` divided by the band's share of all frequencies: 1 if the gradient is white noise."""
        return self.share * self.counts.sum() / self.counts

    def _table(self, num_rows: int) -> Table:
        shares = np.asarray(self.share, float).reshape(-1, len(self.counts))
        means = np.ravel(self.mean_frequency)
        edges = [f"{low:.3f} to {high:.3f}" for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)]
        columns = {"cycles per pixel": [*edges, "mean frequency"]}
        for place, (share, mean) in enumerate(zip(shares[:MOST_COLUMNS], means, strict=False), 1):
            columns[f"share {place}"] = [f"{value:.3f}" for value in (*share, mean)]
        rest = len(shares) - MOST_COLUMNS
        notes = [f"... and {rest:,} more functions"] if rest > 0 else []
        return Table(
            f"ImageFrequencies: {counted(len(shares), 'function')}, {counted(len(self.counts), 'band')}", columns, notes
        )


def image_frequencies(
    function: Callable[[Array], Array] | Spectrum,
    images: ArrayLike,
    *,
    num_bands: int = NUM_BANDS,
    num_modes: int | None = None,
    scale: float | None = None,
    num_steps: int = 8,
    key: PRNGKeyArray | None = None,
) -> ImageFrequencies:
    """The frequency bands that a function of images, or each mode of a spectrum, responds to, by difference quotients.

    `function` maps `(n, height, width, channels)` to `(n,)` or `(n, k)`. A `Spectrum` stands for the extensions of its
    first `num_modes` modes. For each band and image, `num_steps` steps of length `scale` are centered on the image and
    go along random images from the band, drawn with `key` (default: a fixed key). The default scale is two median
    nearest-neighbor distances, as for `dirichlet_frequency`.

    The energy of a band has a relative standard error of about sqrt(2 / (n num_steps)), and a larger one if a few
    images dominate. A wave that turns within one step is underestimated. Costs the function on 2 n `num_steps` images
    per band.

    Raises `InputError` on a function that is constant, that returns NaN, or whose output does not have one row per
    image.

    >>> import jax, ntkbias as nb
    >>> images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    >>> response = nb.frequency.image_frequencies(lambda x: x.mean((1, 2, 3)), images, num_bands=4)
    >>> response.share.shape, int(response.share.argmax())  # the mean responds to the lowest band
    ((4,), 0)
    """
    points = _checked(images, num_bands)
    require_positive("num_steps", num_steps)
    key = key_or_default(key)
    respond = _function(function, num_modes)
    scale = _step_length(points) if scale is None else float(scale)
    if not scale > 0:
        raise InputError(f"Expected a scale above zero; got {scale!r}.")
    edges, masks = _bands(points.shape[1], points.shape[2], num_bands)
    energies = []
    keys = jax.random.split(key, (num_bands, num_steps))
    for mask, band_keys in progress(list(zip(masks, keys, strict=True)), "bands"):
        total: Float[np.ndarray, "..."] | float = 0.0
        for step_key in band_keys:
            step = scale / 2 * _random_image(step_key, points, mask)
            change = np.asarray(respond(points + step) - respond(points - step), float) / scale
            total = total + np.mean(change**2, 0) / num_steps
        energies.append(mask.sum() * points.shape[3] * np.asarray(total))
    return _response(edges, masks, np.stack(energies, -1), scale)


def image_gradient_frequencies(
    function: Callable[[Array], Array], images: ArrayLike, *, num_bands: int = NUM_BANDS
) -> ImageFrequencies:
    """The frequency bands that a smooth function of images responds to, by automatic differentiation.

    `function` maps `(n, height, width, channels)` to `(n,)` or `(n, k)`, each image independently. The gradient is
    exact at each image. It misses jumps, such as those of a finite ReLU network's kernel: use `image_frequencies`
    there. Costs one gradient per output. Errors are those of `image_frequencies`.

    >>> import jax, ntkbias as nb
    >>> images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    >>> response = nb.frequency.image_gradient_frequencies(lambda x: x.mean((1, 2, 3)), images, num_bands=2)
    >>> response.share.round(2).tolist()
    [1.0, 0.0]
    """
    points = _checked(images, num_bands)
    respond = _function(function, None)
    edges, masks = _bands(points.shape[1], points.shape[2], num_bands)
    outputs = jax.eval_shape(respond, points).shape
    pull = jax.vjp(respond, points)[1]
    energies = []
    for index in np.ndindex(*outputs[1:]):
        (gradient,) = pull(jnp.zeros(outputs, points.dtype).at[(slice(None), *index)].set(1))
        power = np.abs(np.fft.fft2(np.asarray(gradient, float), axes=(1, 2), norm="ortho")) ** 2
        energies.append([power.sum(-1)[:, mask].sum(1).mean() for mask in masks])
    return _response(edges, masks, np.reshape(energies, (*outputs[1:], num_bands)), 0.0)


def _response(
    edges: np.ndarray, masks: Bool[np.ndarray, "bands h w"], energy: np.ndarray, scale: float
) -> ImageFrequencies:
    dtype = jnp.result_type(float)
    least, most = jnp.finfo(dtype).tiny, jnp.finfo(dtype).max
    total = energy.sum(-1)  # must fit the dtype, so that the shares are finite
    if not np.all((total >= least) & (total <= most)):
        raise InputError(
            "Expected a function that changes with its images by finite amounts; got a constant, NaN, infinity, "
            f"or changes whose squares do not fit {dtype}. Rescale the images or the function."
        )
    return ImageFrequencies(
        jnp.asarray(edges, dtype), jnp.asarray(masks.sum((1, 2))), jnp.asarray(energy, dtype), scale
    )


def _step_length(points: Float[Array, "n h w c"]) -> float:
    if len(points) < 2:
        raise InputError("Expected two images or more to choose the length of a step; got one. Pass scale=.")
    return Images(min(10, max(1, len(points) - 2))).step_length(points)


def _bands(height: int, width: int, num_bands: int) -> tuple[Float[np.ndarray, " e"], Bool[np.ndarray, "bands h w"]]:
    """Rings of equal width up to the largest frequency, as masks of the Fourier plane. The last includes that edge."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    edges = np.linspace(0, radius.max(), num_bands + 1)
    band = np.clip(np.searchsorted(edges, radius * (1 + 1e-12), side="right") - 1, 0, num_bands - 1)
    masks = band == np.arange(num_bands)[:, None, None]
    if not masks.any((1, 2)).all():
        raise InputError(
            f"Expected bands that each hold a frequency of {height} x {width} pixels; got an empty one of "
            f"{num_bands}. Choose fewer."
        )
    return edges, masks


def _random_image(key: PRNGKeyArray, images: Array, mask: Bool[np.ndarray, "h w"]) -> Array:
    """A random image of norm one in a band, for each image: filtered white noise."""
    waves = jnp.fft.fft2(jax.random.normal(key, images.shape, images.dtype), axes=(1, 2))
    noise = jnp.real(jnp.fft.ifft2(waves * mask[:, :, None], axes=(1, 2))).astype(images.dtype)
    return noise / jnp.sqrt(jnp.sum(noise**2, (1, 2, 3), keepdims=True))


def _function(function: Callable[[Array], Array] | Spectrum, num_modes: int | None) -> Callable[[Array], Array]:
    """The function of images, checked; for a spectrum, the extension of its first modes."""
    if isinstance(function, Spectrum):
        spectrum, modes = function, function._first_modes(num_modes).stop
        if spectrum.eigenfunctions.ndim == 3:
            raise InputError(
                "Expected scalar modes; got vector-valued modes from outputs='all'. Use outputs='mean', or pass a "
                "function of the images: lambda x: spectrum.extend(x)[:, 0]."
            )
        return lambda x: spectrum.extend(x, modes)
    if not callable(function):
        raise InputTypeError(f"Expected a function of images or a Spectrum; got {type(function).__name__}.")

    def respond(x: Array) -> Array:
        values = function(x)
        if getattr(values, "ndim", 0) not in (1, 2) or len(values) != len(x):
            got = getattr(values, "shape", type(values).__name__)
            raise InputError(f"Expected a function that maps n images to (n,) or (n, k); got {got}.")
        return values

    return respond


def _checked(images: ArrayLike, num_bands: int) -> Float[Array, "n h w c"]:
    require_positive("num_bands", num_bands)
    points = require_wide(images, "images")
    if points.ndim != 4 or len(points) == 0:
        raise InputError(f"Expected images (n, height, width, channels); got shape {points.shape}. Add a channel axis.")
    require_finite(points, "images")
    remark_on_channels(points)
    return points.astype(jnp.result_type(points.dtype, np.float32))
