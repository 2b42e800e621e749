"""The file from which a search for top modes goes on: its subspace, and what has to be the same."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ntkbias.eigen.subspace import Problem, Subspace
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import unreadable, write

__all__ = ["checked_path", "loaded", "save"]


def checked_path(checkpoint: Any) -> Path:
    """The path of a checkpoint, with its suffix, or an error where no file can be written there."""
    if not isinstance(checkpoint, str | Path) or not Path(checkpoint).name:
        raise InputTypeError(f"Expected checkpoint to be the path of a file; got {checkpoint!r}.")
    path = Path(checkpoint)
    if path.is_dir():
        raise InputError(f"Expected checkpoint to be the path of a file; got the folder {path}.")
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    if path.is_dir():
        raise InputError(f"Expected checkpoint to be the path of a file; got the folder {path}.")
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise InputError(f"Expected to write {path}; {nearest} cannot be written. Choose a folder that can be.")
    return path


def _description(problem: Problem) -> dict[str, Any]:
    """What has to be the same for a search to go on."""
    return {
        "rows": problem.operator.shape[0],
        "dtype": problem.operator.dtype.name,
        "num_modes": problem.num_modes,
        "block_size": problem.block_size,
        "key": np.asarray(jax.random.key_data(problem.key)).ravel().tolist(),
    }


COUNTS = ("filled", "num_products", "num_starts")


def save(problem: Problem, state: Subspace, path: Path) -> None:
    """Write the subspace, whole or not at all; of several processes the first does."""
    filled = state.filled
    vectors, products = (
        problem.operator.unpack(array)[:, :filled] for array in (state.vectors, state.products)
    )  # all processes: they bring the parts together
    if jax.process_index():
        return
    counts = np.array([getattr(state, name) for name in COUNTS])
    arrays = {"vectors": vectors, "products": products, "counts": counts, "norms": state.norms}
    arrays |= {
        "scale": np.array(state.scale),
        "projected": state.projected,
        "problem": np.array(json.dumps(_description(problem))),
    }
    write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def loaded(problem: Problem, path: Path) -> Subspace:
    """The subspace that a search of the same problem left; one product with a vector makes sure of the operator."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        there = json.loads(str(arrays["problem"]))
        counts = dict(zip(COUNTS, map(int, arrays["counts"]), strict=True))
        stored = [arrays[name] for name in ("vectors", "products", "projected", "norms")]
        scale = float(arrays["scale"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected {path} to be a checkpoint of top_modes; it cannot be read: {unreadable(path, error)}. Choose "
            "another path, or delete it to begin again."
        ) from error
    here = _description(problem)
    different = [
        f"{name} ({there.get(name)} there, {here[name]} here)" for name in here if there.get(name) != here[name]
    ]
    if different:
        raise InputError(
            f"Expected the search that {path} is of, to go on with it; got one that differs in {', '.join(different)}. "
            "Choose another path, or delete that file to begin again."
        )
    operator, filled = problem.operator, counts["filled"]
    vectors, products = (operator.pack(np.pad(array, ((0, 0), (0, problem.width - filled)))) for array in stored[:2])
    if filled:
        probe = operator.unpack(operator.product(operator.pack(stored[0][:, :1]))) / scale
        difference, size = np.linalg.norm(probe - stored[1][:, :1]), np.linalg.norm(probe)
        if not difference <= operator.epsilon**0.5 * max(size, stored[3][0]):
            raise InputError(
                f"Expected the operator that {path} is of, to go on with it; got one whose product with a vector "
                f"differs by {difference:.2g}, of {size:.2g}. Choose another path, or delete that file to begin again."
            )
    return Subspace(vectors, products, stored[2], stored[3], **counts, scale=scale)
