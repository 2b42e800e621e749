"""Which image frequencies a function responds to: the energy of its input gradient over bands of the 2-D Fourier plane.

The gradient of f at an image is an image. Its Fourier transform g(k) has the energy |g(k)|^2 at the frequency k, in
cycles per pixel: how much f changes when the image gets a little of that wave. Bands are rings of |k|, and the share
of a band is its part of the energy, mean over images and sum over channels. `density` divides it by the share of
the plane that the ring holds: 1 in every band for a gradient of white noise, so that above 1 means preferred.

`image_frequencies` takes difference quotients along random images of one band. For D_b waves in band b, a random unit
image u of it has E (u . g)^2 = |g_b|^2 / D_b. It holds for functions that jump, as the modes of a finite ReLU network's
kernel do; `image_gradient_frequencies` differentiates, without that noise, and misses jumps.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.frequency import image_gradient_frequencies
>>> wave = jnp.cos(2 * jnp.pi * jnp.arange(8) / 4)[:, None, None] * jnp.ones((8, 8, 1))        # 1/4 cycle per pixel
>>> images = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
>>> response = image_gradient_frequencies(lambda x: jnp.sum(x * wave, (1, 2, 3)) ** 2, images, num_bands=4)
>>> response.edges.round(3).tolist(), response.share.round(3).tolist()
([0.0, 0.177, 0.354, 0.53, 0.707], [0.0, 1.0, 0.0, 0.0])
"""

from collections.abc import Callable

import equinox as eqx
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

__all__ = ["ImageFrequencies", "image_frequencies", "image_gradient_frequencies"]

NUM_BANDS = 6
MOST_ROWS = 6  # functions that are printed, one a column


class ImageFrequencies(eqx.Module):
    """The energy of a function's input gradient over bands of image frequency, its last axis.

    `energy` is `(bands,)` for one function and `(k, bands)` for several outputs or modes; band b has the frequencies
    from `edges[b]` to `edges[b + 1]`, in cycles per pixel (times 2 pi: radians), of which there are `counts[b]` in
    an image.
    """

    edges: Float[Array, " bands_and_one"]
    counts: Int[Array, " bands"]
    energy: Float[Array, "*k bands"]
    scale: float  # of the difference quotients; 0 for derivatives

    @property
    def share(self) -> Float[Array, "*k bands"]:
        """The part of the energy in each band: sums to one."""
        return self.energy / jnp.sum(self.energy, -1, keepdims=True)

    @property
    def mean_frequency(self) -> Float[Array, "*k"]:
        """The mean of |k| over the energy, in cycles per pixel, each band at the middle of its edges."""
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        return jnp.sum(self.share * middle, -1)

    @property
    def density(self) -> Float[Array, "*k bands"]:
        """`share` over the part of all frequencies that the band holds: 1 for a gradient of white noise."""
        return self.share * jnp.sum(self.counts) / self.counts

    def __str__(self) -> str:
        edges, shares = np.asarray(self.edges), np.asarray(self.share, float).reshape(-1, len(self.counts))
        shown = range(min(len(shares), MOST_ROWS))
        rows = [f"{'cycles per pixel':>18}" + "".join(f"{f'share {index + 1}':>10}" for index in shown)]
        for low, high, values in zip(edges[:-1], edges[1:], shares[:MOST_ROWS].T, strict=True):
            rows.append(f"{f'{low:.3f} to {high:.3f}':>18}" + "".join(f"{value:10.3f}" for value in values))
        means = np.asarray(self.mean_frequency, float).reshape(-1)[:MOST_ROWS]
        rows.append(f"{'mean frequency':>18}" + "".join(f"{value:10.3f}" for value in means))
        return "\n".join(rows + [f"... and {len(shares) - MOST_ROWS} more"] * (len(shares) > MOST_ROWS))


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
    """The bands that a function of images responds to, by difference quotients; of a spectrum, those of each mode.

    `function` maps `(n, height, width, channels)` to `(n,)` or `(n, k)`; of a `Spectrum` it is the extension of the
    first `num_modes` modes. `num_steps` steps of length `scale` (default: two median nearest-neighbor distances, as
    for `dirichlet_frequency`) go along random images of each band from each image, which is their middle. A band's
    energy has a relative standard error of about sqrt(2 / (n num_steps)), and more where few images dominate; a wave
    that turns within a step counts for less. Costs the function on 2 n `num_steps` images a band.
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
        for one in band_keys:
            step = scale / 2 * _random_image(one, points, mask)
            change = np.asarray(respond(points + step) - respond(points - step), float) / scale
            total = total + np.mean(change**2, 0) / num_steps
        energies.append(mask.sum() * points.shape[3] * np.asarray(total))
    return _response(edges, masks, np.stack(energies, -1), scale)


def image_gradient_frequencies(
    function: Callable[[Array], Array], images: ArrayLike, *, num_bands: int = NUM_BANDS
) -> ImageFrequencies:
    """The bands that a smooth function of images responds to, by automatic differentiation.

    `function` maps `(n, height, width, channels)` to `(n,)` or `(n, k)`, an image on its own. Exact at each image;
    where the function jumps, as the kernel of a finite ReLU network does, its jumps are missed. Costs a gradient an
    output.
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
    total = energy.sum(-1)  # within what the type holds, so that shares of it are numbers
    if not np.all((total >= least) & (total <= most)):
        raise InputError(
            "Expected a function that changes with its images, by finite amounts; got a constant, or NaN or infinity, "
            f"or changes whose squares {dtype} does not hold. Rescale the images or the function."
        )
    return ImageFrequencies(
        jnp.asarray(edges, dtype), jnp.asarray(masks.sum((1, 2))), jnp.asarray(energy, dtype), scale
    )


def _step_length(points: Float[Array, "n h w c"]) -> float:
    if len(points) < 2:
        raise InputError("Expected two images or more to take a step's length from; got one. Give scale=.")
    return Images(min(10, max(1, len(points) - 2))).step_length(points)


def _bands(height: int, width: int, num_bands: int) -> tuple[Float[np.ndarray, " e"], Bool[np.ndarray, "bands h w"]]:
    """Rings of equal width up to the largest frequency, as masks of the Fourier plane; the last has its outer edge."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    edges = np.linspace(0, radius.max(), num_bands + 1)
    place = np.clip(np.searchsorted(edges, radius * (1 + 1e-12), side="right") - 1, 0, num_bands - 1)
    masks = place == np.arange(num_bands)[:, None, None]
    if not masks.any((1, 2)).all():
        raise InputError(
            f"Expected bands that each hold a frequency of {height} x {width} pixels; got an empty one of "
            f"{num_bands}. Choose fewer."
        )
    return edges, masks


def _random_image(key: PRNGKeyArray, images: Array, mask: Bool[np.ndarray, "h w"]) -> Array:
    """A random image of length one in a band, for each image: noise, filtered."""
    waves = jnp.fft.fft2(jax.random.normal(key, images.shape, images.dtype), axes=(1, 2))
    noise = jnp.real(jnp.fft.ifft2(waves * mask[:, :, None], axes=(1, 2))).astype(images.dtype)
    return noise / jnp.sqrt(jnp.sum(noise**2, (1, 2, 3), keepdims=True))


def _function(function: Callable[[Array], Array] | Spectrum, num_modes: int | None) -> Callable[[Array], Array]:
    """The function, one or several outputs an image; of vector-valued modes all components are outputs."""
    if isinstance(function, Spectrum):
        spectrum, modes = function, function._first_modes(num_modes).stop
        if spectrum.eigenfunctions.ndim == 3:
            raise InputError(
                "Expected scalar modes; got vector-valued ones, of outputs='all'. Use outputs='mean', or a function of "
                "the images: lambda x: spectrum.extend(x)[:, 0]."
            )
        return lambda x: spectrum.extend(x, modes)
    if not callable(function):
        raise InputTypeError(f"Expected a function of images or a Spectrum; got {type(function).__name__}.")

    def respond(x: Array) -> Array:
        values = function(x)
        if getattr(values, "ndim", 0) not in (1, 2) or len(values) != len(x):
            got = getattr(values, "shape", type(values).__name__)
            raise InputError(f"Expected a function of images to give (n,) or (n, k) for n of them; got {got}.")
        return values

    return respond


def _checked(images: ArrayLike, num_bands: int) -> Float[Array, "n h w c"]:
    require_positive("num_bands", num_bands)
    points = require_wide(images, "images")
    if points.ndim != 4 or len(points) == 0:
        raise InputError(
            f"Expected images (n, height, width, channels); got shape {points.shape}. Add an axis of channels."
        )
    require_finite(points, "images")
    remark_on_channels(points)
    return points.astype(jnp.result_type(points.dtype, np.float32))
