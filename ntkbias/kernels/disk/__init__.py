"""A kernel on disk: blocks that are computed once, survive what kills a job, and are read back piece by piece."""

from ntkbias.kernels.disk.reader import KernelOnDisk, open_kernel
from ntkbias.kernels.disk.writer import kernel_on_disk

__all__ = ["KernelOnDisk", "kernel_on_disk", "open_kernel"]
