"""Measures of one network, its data or its training, to compare with its kernel. Each file has one subject."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
