"""The checkpoint from which a search for top modes resumes: its subspace, and a description of its problem."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ntkbias.claims import alone
from ntkbias.eigen.subspace import FIRST, Problem, Subspace, first_product
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import read_arrays, storage_errors, write_arrays

__all__ = ["ROUNDING", "checked_path", "claimed_file", "loaded", "save"]


def checked_path(checkpoint: Any) -> Path:
    """The path of a checkpoint, with its suffix; an `InputError` if no file can be written there."""
    if not isinstance(checkpoint, str | Path) or not Path(checkpoint).name or "\0" in str(checkpoint):
        raise InputTypeError(f"Expected checkpoint to be the path of a file; got {checkpoint!r}.")
    path = Path(checkpoint).absolute()
    if path.is_dir():
        raise InputError(f"Expected checkpoint to be the path of a file; got the folder {path}.")
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    if path.is_dir():
        raise InputError(f"Expected checkpoint to be the path of a file; got the folder {path}.")
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        raise InputError(f"Expected to write {path}; {nearest} is not writable. Choose a writable folder.")
    return path


@contextlib.contextmanager
def claimed_file(path: Path) -> Iterator[None]:
    """Create the checkpoint's folder, and keep other processes away from the checkpoint within a `with` block."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path, path):
        yield


def _description(problem: Problem) -> dict[str, Any]:
    """The facts about a problem that must be the same for a search to resume."""
    return {
        "rows": problem.operator.shape[0],
        "dtype": problem.operator.dtype.name,
        "num_modes": problem.num_modes,
        "block_size": problem.block_size,
        "key": np.asarray(jax.random.key_data(problem.key)).ravel().tolist(),
    }


COUNTS = "filled", "num_products", "num_starts"


def save(problem: Problem, state: Subspace, path: Path) -> None:
    """Write the subspace, completely or not at all. If there are several processes, the first one writes."""
    filled = state.filled
    vectors, products = (
        problem.operator.unpack(array)[:, :filled] for array in (state.vectors, state.products)
    )  # every process must take part: unpacking gathers the parts
    if jax.process_index():
        return
    counts = np.array([getattr(state, name) for name in COUNTS])
    arrays = {"vectors": vectors, "products": products, "counts": counts, "norms": state.norms}
    arrays["first"] = np.zeros((0, 0)) if state.first is None else state.first
    arrays |= {
        "scale": np.array(state.scale),
        "projected": state.projected,
        "problem": np.array(json.dumps(_description(problem))),
    }
    write_arrays(path, arrays)


AGAIN = "Choose another path, or delete that file to begin again."
ROUNDING = 100  # in units of the precision: larger than the difference of a product between devices


def loaded(problem: Problem, path: Path) -> Subspace:
    """The subspace that a search of the same problem saved.

    Raises `InputError` if the file is damaged, belongs to another problem, or belongs to an operator with a different
    first product.
    """
    try:
        arrays = read_arrays(path, "a checkpoint of top_modes")
        saved = json.loads(str(arrays["problem"]))
        if not isinstance(saved, dict):
            raise ValueError("it does not describe its problem")
        current = _description(problem)
        if not (different := [name for name in current if saved.get(name) != current[name]]):
            state = _subspace(problem, arrays)
    except (KeyError, ValueError, RecursionError) as error:
        missing = f"it does not hold {error}" if isinstance(error, KeyError) else getattr(error, "reason", error)
        raise InputError(
            f"Expected {path} to be a checkpoint of top_modes; it cannot be read: {missing}. Choose another path, or "
            "delete it to begin again."
        ) from error
    if different:
        shown = ", ".join(f"{name} ({saved.get(name)} in the file, {current[name]} now)" for name in different)
        raise InputError(
            f"Expected the search that wrote {path}, to resume it; got one that differs in {shown}. {AGAIN}"
        )
    if state.filled:
        _require_same_operator(problem, state, path)
    return state


def _subspace(problem: Problem, arrays: dict[str, np.ndarray]) -> Subspace:
    """The subspace of these arrays; a `ValueError` if they are not finite or have other shapes."""
    rows, width, dtype = problem.operator.shape[0], problem.width, problem.operator.dtype
    counts = dict(zip(COUNTS, map(int, arrays["counts"].ravel()), strict=True))
    filled, scale = counts["filled"], float(arrays["scale"].reshape(()))
    shapes = {
        "first": (rows, min(FIRST, problem.block_size)),
        "vectors": (rows, filled),
        "products": (rows, filled),
        "projected": (width, width),
        "norms": (width,),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
            raise ValueError(f"its array {name!r} does not fit a subspace")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"its array {name!r} holds NaN or infinity")
    if min(counts.values()) < 0 or not (np.isfinite(scale) and scale >= 0) or (filled and not scale):
        raise ValueError("its counts or its scale are impossible")
    vectors, products = (
        problem.operator.pack(np.pad(arrays[name].astype(dtype), ((0, 0), (0, width - filled))))
        for name in ("vectors", "products")
    )
    numbers: dict[str, Any] = {**counts, "scale": scale, "first": arrays["first"]}
    numbers["definite"] = problem.operator.definite
    return Subspace(vectors, products, arrays["projected"], arrays["norms"], **numbers)


def _require_same_operator(problem: Problem, state: Subspace, path: Path) -> None:
    """Raise an `InputError` if the first product differs from the saved one; record whether it is equal bit for bit."""
    now, before = first_product(problem)[1], state.first
    assert before is not None
    state.is_of_operator = np.array_equal(now, before)
    difference, size = np.linalg.norm(now.astype(float) - before, axis=0), np.linalg.norm(before.astype(float), axis=0)
    if not np.all(difference <= ROUNDING * problem.operator.epsilon * size):
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        raise InputError(
            f"Expected the operator of the search that wrote {path}; got one whose product with a vector differs by "
            f"{difference[worst]:.2g}, compared with a norm of {size[worst]:.2g}. {AGAIN}"
        )
