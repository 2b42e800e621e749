"""Synthetic tasks of papers, whose truth is known. Each file has the tasks on one kind of inputs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
