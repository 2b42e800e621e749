from .running import Measured, StudyResult, run_study
from .study import Bound, Claim, Figure, Paper, Study
from .table import NAMES, study_of

__all__ = [
    "NAMES",
    "Bound",
    "Claim",
    "Figure",
    "Measured",
    "Paper",
    "Study",
    "StudyResult",
    "run_study",
    "study_of",
]
