"""Measures of one network, its data or its trajectory, to stand beside its kernel: one subject a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
