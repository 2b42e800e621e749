"""The amplitudes of Fourier features choose which frequencies a network learns.

>>> from ntkbias.studies import study_of
>>> [claim.quantity for claim in study_of("fourier_features").claims]
['flattening', 'best for the kernel', 'best for networks']
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

import ntkbias as nb
from ntkbias.studies.study import Bound, Claim, Figure, Findings, Paper, Study

__all__ = ["STUDY", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The decays p of the features' amplitudes j^-p, the signals and their samples, the networks and their training.

    Training ends before it converges: then a kernel that is too steep has not learned the high frequencies.
    """

    decays: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0)
    num_samples: int = 32
    oversampling: int = 4  # test inputs per sample
    num_signals: int = 64
    signal_decay: float = 1.0  # of a signal's amplitude with frequency
    depth: int = 3
    width: int = 512
    num_outputs: int = 16  # signals that one network learns, one per output
    learning_rate: float = 1.0  # relative to 1 / K(x, x)
    num_steps: int = 500


def network(settings: Settings, num_frequencies: int, decay: float) -> nb.layers.Layer:
    """The architecture behind features of one decay. Change it here."""
    inner = nb.nets.mlp(settings.width, settings.depth, settings.num_outputs)
    return nb.nets.fourier_features(inner, num_frequencies=num_frequencies, decay=decay, domain="circle")


def signals(settings: Settings, key: Any, x: Array, degrees: np.ndarray) -> Array:
    """Random signals on the circle, of the range 1: waves of Gaussian coefficients that fall with their degree."""
    scales = np.where(degrees > 0, np.maximum(degrees, 1.0) ** -settings.signal_decay, 0.0)
    coefficients = scales[:, None] * jax.random.normal(key, (len(degrees), settings.num_signals))
    values = nb.domains.Circle().harmonics(x, int(degrees.max())) @ coefficients
    return values / jnp.ptp(values, axis=0)


def psnr(outputs: Array, targets: Array) -> float:
    """The peak signal-to-noise ratio in decibels, averaged over signals whose range is 1."""
    return float(jnp.mean(-10 * jnp.log10(jnp.mean((outputs - targets) ** 2, 0))))


def run(settings: Settings, key: Any) -> Findings:
    """The exact spectrum for each decay of the amplitudes, and the test PSNR of the kernel and of trained networks."""
    circle, num_frequencies = nb.domains.Circle(), settings.num_samples // 2
    x_test = circle.grid(settings.oversampling * settings.num_samples)
    train = slice(None, None, settings.oversampling)
    keys = jax.random.split(key)
    y_test = signals(settings, keys[0], x_test, circle.degrees(len(x_test) // 2 - 1))
    degrees = np.arange(1, num_frequencies + 1)
    found: dict[str, Any] = {"decays": np.array(settings.decays), "degrees": degrees, "spectra": []}
    exponents, by_kernel, by_network = [], [], []
    for decay in settings.decays:
        net: Any = network(settings, num_frequencies, decay)
        limit = nb.infinite_ntk(net)
        eigenvalues = np.asarray(nb.exact_spectrum(limit, circle, num_frequencies).eigenvalues)[degrees]
        found["spectra"].append(eigenvalues / eigenvalues[0])
        exponents.append(nb.scaling.power_law(degrees, eigenvalues).exponent)
        rate = settings.learning_rate / float(limit(x_test[:1])[0, 0])
        steps = [settings.num_steps]
        descent = nb.gradient_descent(limit, x_test[train], y_test[train], steps, rate, x_test=x_test)
        by_kernel.append(psnr(jnp.asarray(descent.test_outputs)[0], y_test))
        some = y_test[:, : settings.num_outputs]
        end = nb.training.trained(
            net.apply,
            net.init(keys[1], (2,)),
            (x_test[train], some[train]),
            optimizer=optax.sgd(rate),
            num_steps=settings.num_steps,
        )
        by_network.append(psnr(net.apply(end, x_test), some))
    return found | {
        "kernel": np.array(by_kernel),
        "network": np.array(by_network),
        "flattening": float(np.diff(exponents).max()),
        "best for the kernel": settings.decays[int(np.argmax(by_kernel))],
        "best for networks": settings.decays[int(np.argmax(by_network))],
    }


def draw(found: Findings, ax: Axes) -> None:
    """Test PSNR against the decay of the amplitudes."""
    ax.plot(found["decays"], found["kernel"], "o-", label="gradient descent of the infinite NTK")
    ax.plot(found["decays"], found["network"], "s-", label="trained networks")
    ax.set_xlabel("decay p of the amplitudes")
    ax.set_ylabel("test PSNR (dB)")
    ax.legend()


def draw_spectra(found: Findings, ax: Axes) -> None:
    """The exact eigenvalues of each composed kernel, relative to the first."""
    for decay, eigenvalues in zip(found["decays"], found["spectra"], strict=True):
        ax.loglog(found["degrees"], eigenvalues, "o-", ms=3, label=f"p = {decay:g}")
    ax.set_xlabel("frequency")
    ax.set_ylabel("eigenvalue, relative to frequency 1")
    ax.legend()


STUDY = Study(
    name="fourier_features",
    papers=(
        Paper(
            "Tancik et al.",
            2020,
            "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains",
            "2006.10739",
        ),
    ),
    idea="A network on low-dimensional inputs hardly learns high frequencies. Fourier features a_j cos(2 pi j v) and "
    "a_j sin(2 pi j v) of the inputs change its kernel: the slower the amplitudes a_j = j^-p fall, the flatter is the "
    "spectrum. A spectrum that is too steep blurs the signal, one that is too flat overfits it, and the best lies "
    "between.",
    scales={
        "smoke": Settings(decays=(0.0, 1.0), num_signals=16, depth=1, width=64, num_outputs=4, num_steps=100),
        "small": Settings(),
        "paper": Settings(decays=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), width=4_096, num_signals=256),
    },
    run=run,
    claims=(
        Claim(
            "The smaller p is, the flatter is the spectrum of the composed NTK.",
            "flattening",
            Bound(high=0.0),
            "largest change of the exponent against frequency from one p to the next larger one",
            "each",
        ),
        Claim(
            "Gradient descent with the kernel has its best test PSNR at p = 0.5 to 1.",
            "best for the kernel",
            Bound(0.5, 1),
            "after 500 steps; at convergence all p from 1 on are alike",
        ),
        Claim("So have trained networks.", "best for networks", Bound(0.5, 1)),
    ),
    figures={
        "psnr": Figure("Test PSNR of random signals, by the decay of the features' amplitudes.", draw),
        "spectra": Figure("Exact eigenvalues by frequency. A small p flattens the spectrum.", draw_spectra),
    },
    num_seeds=3,
)
