"""What a kernel predicts will be learned: how fast, from how many examples, and with which error."""

from ntkbias.learning.behaviors import Contrast
from ntkbias.learning.curves import LearningCurve, learning_curve
from ntkbias.learning.flow import Trajectory, gradient_descent, gradient_flow
from ntkbias.learning.learnable import Learnability, learnability
from ntkbias.learning.linearized import Lazy, Linearized, lazy, linearize
from ntkbias.learning.measured import MeasuredLearningCurve, measured_learning_curve
from ntkbias.learning.rates import critical_learning_rate, learning_times
from ntkbias.learning.regression import KernelRegression, kernel_regression

__all__ = [
    "Contrast",
    "KernelRegression",
    "Lazy",
    "Learnability",
    "LearningCurve",
    "Linearized",
    "MeasuredLearningCurve",
    "Trajectory",
    "critical_learning_rate",
    "gradient_descent",
    "gradient_flow",
    "kernel_regression",
    "lazy",
    "learnability",
    "learning_curve",
    "learning_times",
    "linearize",
    "measured_learning_curve",
]
