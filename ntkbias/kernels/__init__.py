"""Kernels: functions of two sets of inputs, empirical and at infinite width, evaluated by blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
