"""Predictions of a kernel: which functions are learned, how fast, from how many examples, and with which error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
