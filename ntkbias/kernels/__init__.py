"""Kernels: functions of two sets of inputs, empirical and in the limit of infinite width, evaluated in blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
