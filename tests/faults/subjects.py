"""The subjects of the bench of faults: small cases of everything that keeps files in a folder between processes.

A subject is one line of `SUBJECTS`: a function that works in a folder and returns its result, and a function that reads
the folder. All of them run in separate processes; nothing here starts JAX.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ntkbias as nb
from ntkbias.cli import main
from ntkbias.eigen import krylov, subspace
from ntkbias.errors import InputError

Result = dict[str, np.ndarray]


class Subject(NamedTuple):
    """Work in a folder that resumes where it stopped. `run(folder, other)` works on one of two problems."""

    run: Callable[[Path, bool], Result]
    read: Callable[[Path], Result] | None = None  # reads the folder, which need not be finished


def f(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def _params(other: bool):
    scale = np.float32(1.5 if other else 1.0)
    return {
        "w": scale * np.sin(np.arange(12, dtype=np.float32)).reshape(3, 4),
        "v": np.cos(np.arange(8, dtype=np.float32)).reshape(4, 2),
    }


X = np.sin(np.arange(36, dtype=np.float32)).reshape(12, 3)


def store(folder: Path, other: bool) -> Result:
    return {"kernel": np.asarray(nb.gram_on_disk(folder / "store", nb.empirical_ntk(f, _params(other)), X, rows=4))}


def read_store(folder: Path) -> Result:
    found = nb.open_gram(folder / "store")
    found.verify()
    return {"kernel": np.asarray(found)}


def track(folder: Path, other: bool) -> Result:
    measured = nb.tracking.measures.chosen("loss", "trace", "kernel_distance")
    options = {"optimizer": optax.adam(0.02 if other else 0.01), "num_steps": 12, "at": range(0, 13, 2)}
    options |= {"measures": measured, "batch_size": 4, "checkpoint": folder / "run"}
    history = nb.track(f, _params(False), (X, np.cos(X[:, :2])), **options)
    return {"step": history.steps} | {name: np.asarray(history[name]) for name in history}


def read_track(folder: Path) -> Result:
    history = nb.open_history(folder / "run")
    return {"step": history.steps} | {name: np.asarray(history[name]) for name in history}


def search(folder: Path, other: bool) -> Result:
    """Eigenvalues, eigenfunctions, and residuals, which depend on the operator."""
    krylov.DENSE, krylov.SAVE_SECONDS, subspace.BLOCKS = 0, 0.0, 4
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 200)))[0]
    law = np.arange(1.0, 201) ** -1.5
    if other:
        law[5] *= 1.001
    operator = ((vectors * law) @ vectors.T).astype(np.float32)
    path = folder / "search.npz"
    modes = nb.top_modes(operator, 10, key=jax.random.key(0), block_size=8, checkpoint=path)
    return {name: np.asarray(getattr(modes, name)) for name in ("eigenvalues", "eigenfunctions", "residuals")}


def command(folder: Path, other: bool) -> Result:
    """Run `ntkbias spectrum`, and read the values that it saved."""
    printed = io.StringIO()
    options = ["--data", "circle", "--num-examples", "8", "--width", "16" if other else "8", "--depth", "1"]
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        code = main(["spectrum", *options, "--no-cache", "--out", str(folder / "run")])
    if code:
        raise InputError(printed.getvalue().strip().removeprefix("ntkbias: "))
    return read_command(folder)


def read_command(folder: Path) -> Result:
    found = nb.load(folder / "run/comparison").spectra[0]
    return {name: np.asarray(getattr(found, name)) for name in ("eigenvalues", "eigenfunctions", "x")}


SUBJECTS = {
    "store": Subject(store, read_store),
    "track": Subject(track, read_track),
    "search": Subject(search),
    "command": Subject(command, read_command),
}
