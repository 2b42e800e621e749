"""How errors fall with the number of examples, and how to measure the exponent.

>>> from ntkbias.studies import study_of
>>> study_of("power_law").claims[0].quantity
'power'
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """A synthetic law a n^b + c with noise, and regression of a wave on the sphere with a fixed and a tuned ridge."""

    exponent: float = -0.35
    offset: float = 0.02
    noise: float = 0.02
    num_replicates: int = 20
    sizes: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
    regression_sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    label_noise: float = 0.3
    ridges: tuple[float, ...] = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
    num_draws: int = 50


def network() -> nb.layers.Layer:
    """The architecture whose kernel is used for regression. Change it here."""
    return nb.nets.mlp(depth=2, b_std=0.1)


def run(settings: Settings, key: Any) -> Findings:
    """Fits to synthetic errors, and the bend of measured curves without and with a ridge that is tuned at each n."""
    rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**30)))
    sizes = np.array(settings.sizes, float)
    scatter = np.exp(settings.noise * rng.normal(size=(settings.num_replicates, len(sizes))))
    plain = nb.scaling_law(sizes, sizes**settings.exponent * scatter)
    offset = nb.scaling_law(sizes, (sizes**settings.exponent + settings.offset) * scatter, "offset")
    ignored = nb.scaling_law(sizes, (sizes**settings.exponent + settings.offset) * scatter)
    sphere = nb.domains.Sphere(3)
    x = sphere.sample(2 * max(settings.regression_sizes), key=key)
    kernel = nb.infinite_ntk(network())
    y = x[:, 0] * x[:, 1] * x[:, 2] * 5
    options: dict[str, Any] = {"noise": settings.label_noise**2, "num_draws": settings.num_draws, "key": key}
    curves = np.array(
        [
            np.asarray(
                nb.measured_learning_curve(kernel, x, y, list(settings.regression_sizes), ridge=ridge, **options).errors
            )
            for ridge in settings.ridges
        ]
    )
    return {
        "sizes": np.array(settings.regression_sizes),
        "curves": curves,
        "tuned": curves.min(0),
        "power": abs(float(plain.exponent) - settings.exponent),
        "with offset": abs(float(offset.exponent) - settings.exponent),
        "without offset": abs(float(ignored.exponent) - settings.exponent),
        "gain": float((curves / curves.min(0)).max(1).min()),
    }


def draw(found: Findings, ax: Axes) -> None:
    """Test error against n at each fixed ridge, and at the best ridge for each n."""
    for curve in found["curves"]:
        ax.loglog(found["sizes"], curve, color="0.7", lw=1)
    ax.loglog(found["sizes"], found["tuned"], "o-", label="ridge tuned at each n")
    ax.set_xlabel("examples")
    ax.set_ylabel("test error")
    ax.legend()


STUDY = Study(
    name="power_law",
    papers=(Paper("Hestness et al.", 2017, "Deep Learning Scaling is Predictable, Empirically", "1712.00409"),),
    idea="Test errors fall as a power of the number of examples, over many decades and for many architectures. The "
    "exponent belongs to the task and to the learner, and it predicts what more data will bring. It can only be read "
    "off if an irreducible error is part of the fit, and if every point is tuned at its own size.",
    scales={
        "smoke": Settings(regression_sizes=(16, 32, 64), ridges=(1e-4, 1e-1, 10.0), num_draws=10),
        "small": Settings(),
        "paper": Settings(num_replicates=100, num_draws=400),
    },
    run=run,
    claims=(
        Claim("A power law's exponent is recovered.", "power", Bound(high=0.01), "absolute error", "each"),
        Claim(
            "So is that of a law with an irreducible error.",
            "with offset",
            Bound(high=0.05),
            "absolute error; the offset and the exponent are fitted together",
        ),
        Claim("Without the offset in the fit, the exponent is wrong.", "without offset", Bound(low=0.05)),
        Claim(
            "No single ridge is best at every n.",
            "gain",
            Bound(low=1.02),
            "largest error relative to the tuned one, for the best single ridge",
        ),
    ),
    figures={"curves": Figure("Fixed ridges (gray) bend away from the tuned curve.", draw)},
    num_seeds=3,
)
