from .compared import ComparedKernel
from .estimates import Estimates
from .grids import compare_grid
from .running import compare
from .similarities import Similarity
from .value import Comparison
from .verdicts import Verdict, Verdicts

__all__ = [
    "ComparedKernel",
    "Comparison",
    "Estimates",
    "Similarity",
    "Verdict",
    "Verdicts",
    "compare",
    "compare_grid",
]
