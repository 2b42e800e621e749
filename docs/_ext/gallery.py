"""The gallery: each plot function of ntkbias on a small case, with the code that draws it.

`SETUP` makes the values that the figures share, in some seconds. A figure is one entry of `FIGURES`: the code, what it
shows, and a text for readers who do not see it. The page runs the code that it prints.
"""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

OUT = Path(__file__).parents[1] / "generated"

SETUP = """\
import jax
import jax.numpy as jnp
import optax
import ntkbias as nb

circle = nb.domains.Circle()
x, weights = circle.quadrature(48)
kernels = {f"depth {d}": nb.infinite_ntk(nb.nets.mlp(depth=d, b_std=0.1)) for d in (1, 3)}
spectrum = nb.spectrum(kernels["depth 3"], x, weights=weights)
ranking = nb.rank_by_frequency(spectrum, circle)
targets = circle.harmonics(x, 2)[:, [1, 3]]
comparison = nb.compare(kernels, x, circle, weights=weights, targets=targets)

net = nb.nets.mlp(width=32, depth=1, b_std=0.1)
y = sum(jnp.cos(k * circle.angle(x)) for k in (1, 2, 4))
measures = nb.tracking.measures.DEFAULT | nb.tracking.measures.chosen("eigenfunctions")
options = {"optimizer": optax.sgd(0.5), "num_steps": 200, "at": (0, 1, 2, 5, 10, 20, 50, 100, 200)}
probe = nb.tracking.Probe(domain=circle)
params = net.init(jax.random.key(0), (2,))
history = nb.track(net.apply, params, (x, y), probe=probe, measures=measures, **options)
"""


class Figure(NamedTuple):
    """One figure of the gallery."""

    title: str
    code: str
    shows: str
    alt: str


FIGURES = {
    "eigenvalue_against_frequency": Figure(
        "Eigenvalue against frequency",
        "nb.plots.eigenvalue_against_frequency(comparison)",
        "Which frequencies a kernel favors: each point is an eigenfunction. Higher points are learned sooner.",
        "Scatter plot on two logarithmic axes. Eigenvalues of two networks fall as the frequency grows.",
    ),
    "spectra": Figure(
        "Eigenvalues in order",
        "nb.plots.spectra(comparison)",
        "Every eigenvalue against its index, with the noise floor below which nothing is known.",
        "Two falling curves of eigenvalues against the mode index, on logarithmic axes.",
    ),
    "energy_per_degree": Figure(
        "Power per degree",
        "nb.plots.energy_per_degree(ranking)",
        "Which harmonics each mode consists of. A mode of one harmonic has one dark cell.",
        "A map of modes against degrees. The dark cells lie along a diagonal.",
    ),
    "eigenfunctions": Figure(
        "Eigenfunctions",
        "nb.plots.eigenfunctions(spectrum, ranking, circle, num_modes=4)",
        "The first modes over the chart of the domain, with eigenvalue and frequency.",
        "Four panels with curves over the angle: a constant, two waves with one period and one with two.",
    ),
    "exact_and_measured": Figure(
        "Exact and sampled eigenvalues",
        'nb.plots.exact_and_measured(nb.exact_spectrum(kernels["depth 3"], circle, max_degree=24), spectrum)',
        "How far a sample's eigenvalues are from those of the kernel on the whole domain.",
        "Exact eigenvalues as a line, and sampled ones as points that lie on it at first and leave it at the end.",
    ),
    "spectral_density": Figure(
        "Density of eigenvalues",
        "operator = kernels['depth 3'].operator(x)\n"
        "nb.plots.spectral_density(nb.spectral_density(operator, key=jax.random.key(0), num_steps=24))",
        "How many eigenvalues there are of each size, without a decomposition.",
        "A curve of counts against the eigenvalue on a logarithmic axis.",
    ),
    "cumulative_power": Figure(
        "Power of the targets by mode",
        "nb.plots.cumulative_power(comparison)",
        "How much of the targets the first modes hold. A curve that rises early means fast learning.",
        "Rising step curves of the share of the targets' power against the number of modes, one per network.",
    ),
    "learning_curve": Figure(
        "Learning curves",
        "nb.plots.learning_curve(nb.learning_curve(spectrum, y, [2, 4, 8, 16]))",
        "The test error that the spectrum predicts against the number of examples.",
        "A falling curve of the test error against the number of examples, on logarithmic axes.",
    ),
    "scaling_laws": Figure(
        "Scaling laws",
        "sizes = jnp.array([16, 32, 64, 128, 256, 512])\n"
        'nb.plots.scaling_laws(nb.scaling_law(sizes, 2.0 / sizes + 0.01, "offset"))',
        "Error against size, the fitted law with its band, and the level at which it ends.",
        "Points that fall and flatten, with a fitted curve and its band, on logarithmic axes.",
    ),
    "posterior": Figure(
        "A posterior, or an ensemble in training",
        "grid = jnp.linspace(-2, 2, 41)[:, None]\n"
        "few = jnp.array([[-1.5], [-0.8], [0.1], [0.6], [1.4]])\n"
        'net = nb.nets.mlp(depth=2, activation="erf", b_std=0.5)\n'
        "ensemble = nb.inference.ensemble_flow(net, few, jnp.sin(3 * few[:, 0]), grid, [0.0, 10.0, jnp.inf])\n"
        "nb.plots.posterior(ensemble, grid, data=(few, jnp.sin(3 * few[:, 0])))",
        "The mean of infinitely wide networks and the interval that holds 95 % of them, at three times of training.",
        "Three curves with bands through five points. The later the time, the nearer to the points.",
    ),
    "evolution": Figure(
        "A kernel through training",
        "nb.plots.evolution(history)",
        "One panel per measure: loss, eigenvalues, alignment with the targets, effective rank, drift.",
        "A grid of panels. Each shows one measure of the kernel against the training step.",
    ),
    "eigenvalue_trajectories": Figure(
        "Eigenvalues through training",
        "nb.plots.eigenvalue_trajectories(history)",
        "The first eigenvalues at each snapshot, with the bound 2 / learning rate.",
        "Lines of the first eigenvalues against the training step.",
    ),
    "alignments": Figure(
        "Alignments through training",
        "nb.plots.alignments(history)",
        "How well the kernel fits the targets at each snapshot.",
        "Lines of the kernel's alignment with the targets against the training step.",
    ),
    "frequency_spectrogram": Figure(
        "What is not yet learned",
        "nb.plots.frequency_spectrogram(history)",
        "The error by frequency and step: low frequencies fade first.",
        "A map of the error by frequency and training step. Rows of low frequency turn pale first.",
    ),
    "eigenfunction_frames": Figure(
        "Eigenfunctions through training",
        "nb.plots.eigenfunction_frames(history, circle, num_modes=2)",
        "The first modes at several snapshots: whether the functions that the kernel favors change.",
        "Rows of curves: the first two eigenfunctions at several training steps.",
    ),
    "image_modes": Figure(
        "Eigenfunctions of images",
        """\
digits = nb.datasets.digits(200)
of_digits = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), jnp.asarray(digits.x))
ranked = nb.rank_by_frequency(of_digits, nb.domains.Images())
nb.plots.image_modes(of_digits, ranked, targets=nb.datasets.one_hot(digits.y), num_modes=3)""",
        "Which inputs lower and raise a mode, which pixels move with it, and its mean in each class.",
        "Three rows, one per eigenfunction: digits with low and with high values, a map of pixels, and bars.",
    ),
}


def page() -> str:
    """The gallery as Markdown."""
    lines = [
        "# Gallery",
        "",
        "Each figure is one call. The calls below share these values:",
        "",
        "```python",
        SETUP.strip(),
        "```",
        "",
    ]
    for name, figure in FIGURES.items():
        lines += [f"## {figure.title}", "", figure.shows, ""]
        lines += [f"```{{image}} gallery/{name}.svg", f":alt: {figure.alt}", ":class: figure", "```", ""]
        lines += ["```python", figure.code, "```", ""]
        lines += [f"Reference: {{py:obj}}`plots.{name} <ntkbias.plots.{name}>`.", ""]
    return "\n".join(lines)


def draw(folder: Path) -> None:
    """Run the code of the page, and save each figure as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, object] = {}
    exec(compile(SETUP, "gallery", "exec"), names)
    for name, figure in FIGURES.items():
        exec(compile(textwrap.dedent(figure.code), name, "exec"), names)
        plt.gcf().savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        plt.close("all")


def write(app: Any) -> None:
    """Write the page and its figures before Sphinx reads them."""
    draw(OUT / "gallery")
    (OUT / "gallery.md").write_text(page())


def setup(app: Any) -> dict[str, bool]:
    """Draw before reading."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
