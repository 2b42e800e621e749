"""Behaviors of a network: contrasts of its outputs, how easily it learns labelings of contexts, and fine-tuning."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
