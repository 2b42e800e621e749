from .circle import uneven_circle
from .cube import slabs, staircase
from .labels import RandomLabels, eigenfunction_labels, with_random_labels
from .line import power_law_signal
from .linear import whitened
from .modular import modular_addition
from .plane import disk, polar, spiral
from .task import Task

__all__ = [
    "RandomLabels",
    "Task",
    "disk",
    "eigenfunction_labels",
    "modular_addition",
    "polar",
    "power_law_signal",
    "slabs",
    "spiral",
    "staircase",
    "uneven_circle",
    "whitened",
    "with_random_labels",
]
