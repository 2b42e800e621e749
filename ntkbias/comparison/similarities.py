"""How similar the eigenfunctions of every two networks or kernels are.

Principal angles between the spans of the first k eigenfunctions compare what is learned first. CKA compares whole
kernels. Two runs of one network are compared as well: their difference is what initializations make, and two
architectures are as similar as two runs if theirs is no larger.

>>> import ntkbias as nb
>>> circle = nb.domains.Circle()
>>> kernels = {f"depth {d}": nb.infinite_ntk(nb.nets.mlp(depth=d, b_std=0.1)) for d in (1, 3)}
>>> found = nb.compare(kernels, circle).similarity(3)                 # a constant, and the first wave
>>> bool((found.angles < 0.1).all()), round(float(found.cka[0]), 2)
(True, 0.98)
"""

import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import require_positive
from ntkbias.errors import InputError
from ntkbias.spectra import Spectrum
from ntkbias.tables import Labeled, Printed, Table, number, spread

__all__ = ["Similarity", "similarity_of"]


class Similarity(Printed):
    """Principal angles between the spans of the first k eigenfunctions, and CKA, of every two things.

    `pairs` are the pairs of names, and then each name with several runs beside itself, for two different runs. `angles`
    `(p, k)` are in degrees, ascending. `overlap` is the mean squared cosine of the angles: the share of one span that
    lies in the other, and k / n for random spans. `cka` is that of the whole kernels, centered. All are means over the
    pairs of runs. CKA is NaN if it was not computed, since matrices did not fit in memory or modes were missing.

    >>> import ntkbias as nb
    >>> things = {"narrow": nb.nets.mlp(width=16, depth=2), "wide": nb.nets.mlp(width=64, depth=2)}
    >>> found = nb.compare(things, nb.domains.Circle(), seeds=3)
    >>> alike = found.similarity(3)
    >>> alike.pairs, alike.angles.shape
    ((('narrow', 'wide'), ('narrow', 'narrow'), ('wide', 'wide')), (3, 3))
    """

    pairs: tuple[tuple[str, str], ...] = eqx.field(static=True)
    angles: Float[Array, "p k"]
    overlap: Float[Array, " p"]
    cka: Float[Array, " p"]
    cut: tuple[str, ...] = eqx.field(static=True, default=())  # names whose first k modes cut an eigenspace

    def _labeled(self) -> Labeled:
        """The numbers by the two names of each pair."""
        first, second = ([pair[side] for pair in self.pairs] for side in (0, 1))
        columns = {"angles": self.angles, "overlap": self.overlap, "cka": self.cka}
        return spread({"first": first, "second": second}, columns, {"angles": "mode"})

    def _table(self, num_rows: int) -> Table:
        shown, k = self.pairs[:num_rows], self.angles.shape[1]
        columns = {
            "pair": [f"{a}, {b}" if a != b else f"two runs of {a}" for a, b in shown],
            "overlap": [f"{float(value):.1%}" for value in self.overlap[:num_rows]],
            "median angle": [number(np.median(row)) for row in self.angles[:num_rows]],
            "largest angle": [number(row[-1]) for row in self.angles[:num_rows]],
            "CKA": [number(value) if np.isfinite(value) else "-" for value in self.cka[:num_rows]],
        }
        notes = [f"Angles, in degrees, are between the spans of the first {k} eigenfunctions."]
        if self.cut:
            notes.append(f"These {k} modes cut an eigenspace of {', '.join(self.cut)}: their span is arbitrary.")
        return Table(f"Similarity of the first {k} eigenfunctions", columns, notes, len(self.pairs) - len(shown))


def similarity_of(
    names: Sequence[str], spectra: Sequence[Sequence[Spectrum]], cka: np.ndarray | None, k: int
) -> Similarity:
    """The similarity of every two of these, each with the spectra of its runs; `cka` is that of all runs, in order."""
    require_positive("k", k)
    for name, runs in zip(names, spectra, strict=True):
        least = min(run.num_above_noise for run in runs)
        if k > least:
            raise InputError(
                f"Expected k of at most {least}, the modes above the noise that the comparison keeps of {name!r}; got "
                f"{k}. Keep more by compare(..., keep={k})."
            )
    if len({run.eigenfunctions.shape[:-1] for runs in spectra for run in runs}) > 1:
        raise InputError(
            "Expected kernels with the same number of outputs to compare eigenfunctions; got different ones."
        )
    starts = np.cumsum([0, *(len(runs) for runs in spectra)])
    bases = [[_basis(run, k) for run in runs] for runs in spectra]
    pairs, angles, overlaps, alignments = [], [], [], []
    own = [(i, i) for i, runs in enumerate(spectra) if len(runs) > 1]
    for i, j in [*itertools.combinations(range(len(names)), 2), *own]:
        both = [(a, b) for a in range(len(bases[i])) for b in range(len(bases[j])) if i != j or a < b]
        products = [np.asarray(bases[i][a].T @ bases[j][b], float) for a, b in both]
        cosines = np.stack([np.linalg.svd(product, compute_uv=False) for product in products]).clip(0, 1)
        pairs.append((names[i], names[j]))
        angles.append(np.degrees(np.arccos(cosines)).mean(0))
        overlaps.append(np.mean(cosines**2))
        alignments.append(np.nan if cka is None else np.mean([cka[starts[i] + a, starts[j] + b] for a, b in both]))
    cut = [name for name, runs in zip(names, spectra, strict=True) if any(_cuts(run, k) for run in runs)]
    dtype = jnp.result_type(float)

    def on_device(values: Sequence) -> Array:
        with jax.debug_nans(False):
            return jnp.asarray(np.array(values, dtype))

    shape = (len(pairs), k)
    return Similarity(
        tuple(pairs), on_device(angles).reshape(shape), on_device(overlaps), on_device(alignments), tuple(cut)
    )


def _basis(spectrum: Spectrum, k: int) -> np.ndarray:
    """The first k eigenfunctions as orthonormal columns, `(rows, k)`."""
    functions = np.asarray(spectrum.eigenfunctions[..., :k], float)
    roots = np.sqrt(np.asarray(spectrum.weights, float)).reshape(-1, *(1,) * (functions.ndim - 1))
    return np.linalg.qr((roots * functions).reshape(-1, k))[0]


def _cuts(spectrum: Spectrum, k: int) -> bool:
    spaces = np.asarray(spectrum.eigenspace)
    return k < len(spaces) and bool(spaces[k - 1] == spaces[k])
