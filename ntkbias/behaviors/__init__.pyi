from .contrasts import ContinuationContrast, Contrast, continuation_contrast, contrast
from .easiness import Ease, ease
from .fine_tuning import FineTuning, fine_tuning_prediction
from .held_out import HeldOutAccuracy, held_out_accuracy
from .null_weights import permuted_weights, random_weights

__all__ = [
    "ContinuationContrast",
    "Contrast",
    "Ease",
    "FineTuning",
    "HeldOutAccuracy",
    "continuation_contrast",
    "contrast",
    "ease",
    "fine_tuning_prediction",
    "held_out_accuracy",
    "permuted_weights",
    "random_weights",
]
