"""Similarity of the first eigenfunctions of every two things of a comparison."""

import equinox as eqx
from jaxtyping import Array, Float

from ntkbias.tables import Printed, Table, number

__all__ = ["Similarity"]


class Similarity(Printed):
    """Principal angles between the spans of the first k eigenfunctions, and CKA, of every two things."""

    names: tuple[str, ...] = eqx.field(static=True)
    angles: Float[Array, "p k"]  # in degrees, ascending; one row per pair, in the order of itertools.combinations
    cka: Float[Array, " p"]

    def _table(self, num_rows: int) -> Table:
        pairs = [(a, b) for i, a in enumerate(self.names) for b in self.names[i + 1 :]]
        columns = {
            "pair": [f"{a}, {b}" for a, b in pairs],
            "CKA": [number(value) for value in self.cka],
            "largest angle": [number(row[-1]) for row in self.angles],
        }
        return Table("Similarity", columns)
