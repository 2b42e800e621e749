"""NumPy's threads, which small matrices are better without.

>>> from ntkbias.threads import blas
>>> with blas().limit(limits=1, user_api="blas"):
...     pass
"""

import functools

from threadpoolctl import ThreadpoolController

__all__ = ["blas"]


@functools.cache
def blas() -> ThreadpoolController:
    """NumPy's threads: for small matrices one is as fast, and does not wait for others where cores are shared."""
    return ThreadpoolController()  # looking for the libraries costs milliseconds
