"""Limit NumPy's BLAS threads, which slow down small matrices on shared cores.

>>> from ntkbias.threads import blas
>>> with blas().limit(limits=1, user_api="blas"):
...     pass
"""

import functools

from threadpoolctl import ThreadpoolController

__all__ = ["blas"]


@functools.cache
def blas() -> ThreadpoolController:
    """The controller of NumPy's BLAS threads. For small matrices one thread is as fast, and never waits for others."""
    return ThreadpoolController()  # cached, since it searches the loaded libraries, which takes milliseconds
