"""Pictures of the plots are those that are stored in tests/pictures: what they show is where it was.

Letters are left out, and the layout that depends on them: fonts differ between versions of matplotlib, and other tests
read the texts. Pictures are compared as averages over blocks of pixels, so that other rounding at an edge passes, and a
missing curve, band, bar or panel does not. `make pictures` draws the stored ones anew; look at them before you commit.
"""

import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from PIL import Image

import ntkbias as nb
from ntkbias import plots
from ntkbias.exact import ExactSpectrum
from ntkbias.frequency import FrequencyRanking
from ntkbias.learning import LearningCurve, MeasuredLearningCurve
from ntkbias.spectra import DecayExponent, Spectrum

FOLDER = Path(__file__).parent / "pictures"
DPI = 50
BLOCK = 6  # pixels of a block's side
MOST = 0.08  # of full scale, in one block; the missing marks of one kernel of three change a block by 0.09
MEAN = 0.002  # of full scale, over all blocks

CIRCLE = nb.domains.Circle()
ANGLES = 2 * np.pi * np.arange(32) / 32
DEGREES = np.repeat(np.arange(1, 9), 2)  # of the modes beyond the constant


def spectrum_of(slope, functions=None, x=None):
    """A spectrum with the eigenvalues 0.3 * degree^slope on 32 nodes of the circle."""
    values = 0.3 * np.concatenate([[1.5], DEGREES.astype(float) ** slope])
    if functions is None:
        waves = [wave(k * ANGLES) for k in range(1, 9) for wave in (np.cos, np.sin)]
        functions = np.stack([np.ones(32), *(np.sqrt(2) * wave for wave in waves)], 1)
    x = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1) if x is None else x
    spaces = np.concatenate([[0], DEGREES])
    fields = {
        "trace": values.sum(),
        "residuals": np.zeros(17),
        "noise_floor": 1e-5,
        "weights": np.full(len(x), 1 / len(x)),
    }
    fields |= {"eigenvalues": values, "eigenfunctions": functions, "x": x}
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in fields.items()}
    return Spectrum(**arrays, eigenspace=jnp.asarray(spaces))


def ranking_of(spectrum, slope, num_resolved=13):
    energy = np.eye(9)[np.concatenate([[0], DEGREES])]
    return FrequencyRanking(
        eigenvalues=spectrum.eigenvalues,
        frequencies=jnp.asarray(np.concatenate([[0], DEGREES]), jnp.float32),
        resolved=jnp.arange(17) < num_resolved,
        resamples=jnp.tile(jnp.asarray(np.concatenate([[0], DEGREES]), jnp.float32), (2, 1)),
        eigenspace=spectrum.eigenspace,
        learning_times=1 / spectrum.eigenvalues,
        energy=jnp.asarray(0.9 * energy + 0.1 * np.roll(energy, 2, 1), jnp.float32),
        levels=jnp.arange(9),
        decay=DecayExponent(slope, slope - 0.1, slope + 0.1, "frequency", 1, 13),
        measure="harmonic",
    )


def comparison(*slopes, num_resolved=13):
    spectra = tuple(spectrum_of(slope) for slope in slopes)
    rankings = tuple(ranking_of(*pair, num_resolved) for pair in zip(spectra, slopes, strict=True))
    targets = jnp.asarray(np.stack([np.cos(ANGLES), np.cos(3 * ANGLES)], 1), jnp.float32)
    return nb.Comparison(tuple(f"slope {slope:g}" for slope in slopes), spectra, rankings, CIRCLE, targets)


def seeds():
    """Five runs of one network."""
    found = comparison(-2)
    runs = jnp.stack([found.spectra[0].eigenvalues * factor for factor in (0.5, 0.8, 1, 1.3, 2)])
    others = tuple(nb.spectra.Spectrum(**vars(found.spectra[0]) | {"eigenvalues": run}) for run in runs[1:])
    return nb.Comparison(**vars(found) | {"other_spectra": (others,), "eigenvalues": (runs,)})


def history(num_runs=None):
    steps = np.array([0, 1, 2, 4, 8, 16, 32])
    decay = np.exp(-steps / 10)
    values = {
        "loss": decay,
        "alignment": 0.2 + 0.5 * (1 - decay),
        "uncentered_alignment": 0.3 + 0.3 * (1 - decay),
        "alignment_by_class": 0.25 + np.outer(1 - decay, [0.2, 0.4]),
        "eigenvalues": np.outer(1 + steps / 8, [1, 0.3, 0.1, 0.03]),
        "residual_spectrum": np.exp(-np.outer(steps / 5, 1 / np.arange(1, 7)) - np.array([0, 1, 2, 4, 30, 40])),
    }
    values["eigenfunctions"] = np.stack([np.sin(np.outer(ANGLES, [1, 2]) + phase) for phase in steps / 8])
    shape = () if num_runs is None else (num_runs,)
    factors = 1 if num_runs is None else np.array([0.8, 1, 1.4])
    spread = {name: np.multiply.outer(factors, value) for name, value in values.items()}
    runs = () if num_runs is None else ("run",)
    axes = {"alignment_by_class": ("class",), "eigenvalues": ("mode",), "residual_spectrum": ("level",)}
    axes["eigenfunctions"] = ("input", "mode")
    return nb.History(
        steps=steps,
        times=np.broadcast_to(steps * 0.5, (*shape, 7)),
        learning_rates=np.full((*shape, 7), 0.5),
        values=spread,
        probe=np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1),
        level_frequencies=np.arange(6.0),
        axes=tuple((name, (*runs, "snapshot", *axes.get(name, ()))) for name in values),
        labels=(),
        panels=(
            ("loss", ("loss", "loss", "log")),
            ("alignment", ("alignment", "centered", "linear")),
            ("uncentered_alignment", ("alignment", "uncentered", "linear")),
            ("residual_spectrum", ("power of the residual", "residual", "log")),
        ),
    )


def images():
    """Sixteen images of 4 x 4 pixels, which are brighter on a side, and a mode that tells these sides apart."""
    side = np.linspace(-1, 0.9, 16)  # no two alike, so that their order is certain
    x = 0.5 + 0.4 * side[:, None, None, None] * np.linspace(-1, 1, 4)[None, None, :, None] * np.ones((1, 4, 1, 1))
    functions = np.stack([side**k / np.sqrt(np.mean(side ** (2 * k))) for k in range(17)], 1)
    spectrum = spectrum_of(-2, functions, x)
    return spectrum, ranking_of(spectrum, -2), np.eye(4)[np.arange(16) // 4]


def drawn(draw, *arguments, **options):
    size = options.pop("size", plots.SIZE)
    figure = Figure(figsize=size, layout="constrained")
    draw(*arguments, figure.subplots(), **options)
    return figure


def drawn_on_grid(draw, grid, *arguments, **options):
    draw(*arguments, axes=grid, **options)
    return grid[0, 0].figure


def curves():
    sizes = jnp.asarray([4, 8, 16, 32])
    errors = jnp.asarray([[1.0, 0.8], [0.6, 0.5], [0.3, 0.4], [0.1, 0.3]])
    ones = jnp.ones(4)
    predicted = LearningCurve(
        sizes, errors, ones, ones, jnp.ones((4, 3)), jnp.ones((3, 2)), jnp.zeros(2), jnp.ones(3), 0.0, 0.0
    )
    measured = MeasuredLearningCurve(sizes, 1.1 * errors, 0.1 * errors, errors, errors, 0.0, 0.0, 5)
    return predicted, measured


def exact():
    degrees = np.arange(9)
    values = 0.3 * np.maximum(degrees, 0.8) ** -2.0
    counts = np.where(degrees == 0, 1.0, 2.0)
    return ExactSpectrum(values, degrees, counts, np.full(9, 1e-9), degrees.astype(float), np.asarray(values @ counts))


def density():
    known = np.array([1.0, 0.3])
    diagonals = np.tile(np.geomspace(1e-3, 0.2, 6), (3, 1)) * np.array([[0.8], [1.0], [1.25]])
    return nb.eigen.SpectralDensity(
        jnp.asarray(diagonals), jnp.zeros((3, 6)) + 1e-6, jnp.asarray(known), jnp.asarray(1e-6), 40, 40
    )


def law():
    sizes = 2 ** np.arange(4, 9)
    noise = 1 + 0.1 * np.sin(np.arange(15)).reshape(3, 5)
    return nb.scaling_law(sizes, 3 * sizes**-0.5 * noise, num_resamples=50)


DATA = np.array([-1.0, 0.5]), np.array([0.8, -0.5])


def ensemble():
    """Two times, in which the mean moves to the data and the spread shrinks there."""
    x = np.linspace(-2, 2, 25)
    means = np.stack([0 * x, -0.5 * x])
    covariances = np.stack([np.eye(25), np.diag(0.1 + 0.1 * x**2)])
    return nb.inference.Ensemble(*(jnp.asarray(part) for part in (np.array([0.0, 10.0]), means, covariances)))


def modes_as_images(classes):
    spectrum, ranking, targets = images()
    grid = plots.panels_of_images(3, classes, Figure())
    options = {"targets": targets if classes else None, "num_modes": 3}
    return drawn_on_grid(plots.image_modes, grid, spectrum, ranking, **options)


def frames():
    figure = Figure(figsize=(5, 3), layout="constrained")
    return drawn_on_grid(
        plots.eigenfunction_frames, figure.subplots(2, 3, squeeze=False), history(), CIRCLE, num_modes=2, num_frames=3
    )


def functions(domain):
    stretched = np.stack([2 * np.cos(ANGLES), np.sin(ANGLES)], 1)  # whose principal components are certain
    spectrum = spectrum_of(-2, x=None if domain is CIRCLE else stretched)
    grid = plots.panels(3, Figure())
    return drawn_on_grid(plots.eigenfunctions, grid, spectrum, ranking_of(spectrum, -2), domain, 3)


def evolution(num_runs):
    figure = Figure(figsize=(5, 2.4), layout="constrained")
    return drawn_on_grid(plots.evolution, figure.subplots(1, 2, squeeze=False), history(num_runs))


PICTURES = {
    "spectra": lambda: drawn(plots.spectra, comparison(-2, -3)),
    "spectra_of_seeds": lambda: drawn(plots.spectra, seeds()),
    "spectral_density": lambda: drawn(plots.spectral_density, density()),
    "exact_and_measured": lambda: drawn(plots.exact_and_measured, exact(), spectrum_of(-2.3)),
    "cumulative_power": lambda: drawn(plots.cumulative_power, comparison(-2, -3)),
    "frequency_of_one": lambda: drawn(plots.eigenvalue_against_frequency, comparison(-2).rankings[0]),
    "frequency_of_three": lambda: drawn(
        plots.eigenvalue_against_frequency, comparison(-1, -2, -3), size=plots.frequency_size(3)
    ),
    "frequency_all_resolved": lambda: drawn(plots.eigenvalue_against_frequency, comparison(-1, -2, num_resolved=17)),
    "energy_per_degree": lambda: drawn(plots.energy_per_degree, comparison(-2).rankings[0]),
    "eigenfunctions_on_circle": lambda: functions(CIRCLE),
    "eigenfunctions_in_plane": lambda: functions(nb.domains.PointCloud()),
    "image_modes": lambda: modes_as_images(True),
    "image_modes_without_classes": lambda: modes_as_images(False),
    "evolution": lambda: evolution(None),
    "evolution_of_runs": lambda: evolution(3),
    "eigenvalue_trajectories": lambda: drawn(plots.eigenvalue_trajectories, history(), num_modes=4),
    "alignments": lambda: drawn(plots.alignments, history()),
    "frequency_spectrogram": lambda: drawn(plots.frequency_spectrogram, history()),
    "eigenfunction_frames": frames,
    "scaling_laws": lambda: drawn(plots.scaling_laws, {"net": law()}),
    "learning_curve": lambda: drawn(plots.learning_curve, *curves()),
    "posterior": lambda: drawn(plots.posterior, ensemble(), np.linspace(-2, 2, 25), data=DATA),
}
# Helpers, files and sizes: what draws nothing of its own.
NOT_PICTURES = {
    "PANEL",
    "SIZE",
    "are_images",
    "classes_of",
    "color",
    "frequency_size",
    "num_panels",
    "panels",
    "panels_of_images",
    "save",
    "svg",
}


def pixels(figure):
    """The figure without letters as PNG."""
    figure.set_layout_engine("none")
    for ax in figure.findobj(Axes):
        for axis in (ax.xaxis, ax.yaxis):
            axis.set(major_formatter=NullFormatter(), minor_formatter=NullFormatter())
    for text in (*figure.findobj(Text), *figure.findobj(Legend)):  # a legend is as wide as its texts
        text.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def blocks(png):
    """The mean of each block of pixels, from 0 to 1."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    small = image.reduce(BLOCK)
    return np.asarray(small, float) / 255


def differ(png, other):
    """Why two pictures are not the same; None if they are."""
    found, expected = blocks(png), blocks(other)
    if found.shape != expected.shape:
        return f"sizes {found.shape} and {expected.shape}"
    gap = np.abs(found - expected).max(-1)
    if gap.max() > MOST or gap.mean() > MEAN:
        row, column = np.unravel_index(gap.argmax(), gap.shape)
        place = f"{column / gap.shape[1]:.0%} from the left, {row / gap.shape[0]:.0%} from the top"
        return f"a block by {gap.max():.2f} (at {place}), the mean of all by {gap.mean():.4f}"
    return None


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_as_stored(name):
    png = pixels(PICTURES[name]())
    why = differ(png, (FOLDER / f"{name}.png").read_bytes())
    assert why is None, f"{name} has changed: {why}. If it should: make pictures, and look at tests/pictures."


def test_every_plot_function_has_a_picture():
    drawn_names = {name for make in PICTURES.values() for name in make.__code__.co_names}
    for helper in (functions, evolution, frames, modes_as_images):
        drawn_names |= set(helper.__code__.co_names)
    assert set(plots.__all__) - NOT_PICTURES - drawn_names == set()
    assert {path.stem for path in FOLDER.glob("*.png")} == set(PICTURES)


def test_pictures_notice_what_is_missing():
    """A picture without one of its curves, marks, bands or panels is not the stored one."""
    removed = {
        "spectra": lambda ax: ax.lines[0],
        "spectra_of_seeds": lambda ax: ax.collections[0],
        "frequency_of_one": lambda ax: ax.child_axes[0],
        "frequency_of_three": lambda ax: ax.child_axes[0].collections[0],
        "alignments": lambda ax: ax.lines[-1],
        "scaling_laws": lambda ax: ax.collections[0],
        "image_modes": lambda ax: ax.images[0],
    }
    for name, part in removed.items():
        figure = PICTURES[name]()
        part(figure.axes[0]).set_visible(False)
        assert differ(pixels(figure), (FOLDER / f"{name}.png").read_bytes()), name


def redraw():
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.png"):
        if path.stem not in PICTURES:
            path.unlink()
    for name, make in PICTURES.items():
        (FOLDER / f"{name}.png").write_bytes(pixels(make()))
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    redraw()
