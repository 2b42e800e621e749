"""Ways to the spectrum of a kernel: dense, by products alone, from landmarks; and what products alone can tell."""

from ntkbias.eigen.dense import eigh, spectrum

__all__ = ["eigh", "spectrum"]
