"""Ways to the spectrum of a kernel: dense, by products alone, from landmarks; and what products alone can tell."""

from ntkbias.eigen.automatic import spectrum
from ntkbias.eigen.dense import eigh
from ntkbias.eigen.krylov import top_modes

__all__ = ["eigh", "spectrum", "top_modes"]
