"""Inference with kernels: Gaussian-process posteriors, and ensembles of infinitely wide networks in training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
