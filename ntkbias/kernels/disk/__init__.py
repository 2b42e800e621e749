"""Gram matrices on disk. Each block is computed once, survives the end of the process, and can be read alone."""

from ntkbias.kernels.disk.reader import GramOnDisk, open_gram
from ntkbias.kernels.disk.writer import gram_on_disk

__all__ = ["GramOnDisk", "gram_on_disk", "open_gram"]
