"""Kernels of one network with given parameters, for any f(params, x): the NTK, kernels made from it, and the NNGP."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
