"""A Gram matrix on disk: blocks that are computed once, survive what kills a job, and are read back piece by piece."""

from ntkbias.kernels.disk.reader import GramOnDisk, open_gram
from ntkbias.kernels.disk.writer import gram_on_disk

__all__ = ["GramOnDisk", "gram_on_disk", "open_gram"]
