from .curves import LearningCurve, learning_curve
from .flow import Trajectory, gradient_descent, gradient_flow
from .learnable import Learnability, learnability
from .linearized import Lazy, Linearized, lazy, linearize
from .measured import MeasuredLearningCurve, measured_learning_curve
from .named import NAMED, NamedTarget, named_targets
from .rates import critical_learning_rate, learning_times
from .readiness import Readiness
from .regression import KernelRegression, kernel_regression
from .sizes import DataScaling, data_scaling
from .steps import steps_to_learn
from .targets import Contrast
from .under_loss import LossTrajectory

__all__ = [
    "NAMED",
    "Contrast",
    "DataScaling",
    "KernelRegression",
    "Lazy",
    "Learnability",
    "LearningCurve",
    "Linearized",
    "LossTrajectory",
    "MeasuredLearningCurve",
    "NamedTarget",
    "Readiness",
    "Trajectory",
    "critical_learning_rate",
    "data_scaling",
    "gradient_descent",
    "gradient_flow",
    "kernel_regression",
    "lazy",
    "learnability",
    "learning_curve",
    "learning_times",
    "linearize",
    "measured_learning_curve",
    "named_targets",
    "steps_to_learn",
]
