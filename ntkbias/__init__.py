"""ntkbias shows what a neural network is inclined to learn.

It computes the neural tangent kernel of a network, at a finite width and in the infinite-width limit, splits it into
eigenfunctions, and ranks those by frequency and by how fast they are learned.

Nothing is loaded before it is used: the names are those in `__init__.pyi`, which type checkers read.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
