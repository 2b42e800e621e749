from .grids import compare_grid
from .running import compare
from .similarities import Similarity
from .value import ComparedKernel, Comparison
from .verdicts import Verdict, Verdicts

__all__ = ["ComparedKernel", "Comparison", "Similarity", "Verdict", "Verdicts", "compare", "compare_grid"]
