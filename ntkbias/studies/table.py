"""The table of studies. To add a study, write its file, which defines `STUDY`, and add its name here.

>>> from ntkbias.studies.table import study_of
>>> print(study_of("hypercube").papers[0])
Yang and Salman (2019): A Fine-Grained Spectral Perspective on Neural Networks, arXiv 1907.10599
"""

import difflib
import importlib

from ntkbias.errors import InputError
from ntkbias.studies.study import Study

__all__ = ["NAMES", "study_of"]

NAMES = (
    "sphere_decay",
    "hypercube",
    "width_limit",
    "learning_curves",
    "low_rank",
    "silent_alignment",
    "gradient_starvation",
    "shift_curvature",
    "simplicity_pitfalls",
    "heavy_tails",
    "sgd_against_adam",
    "minimal_depth",
    "output_layer",
    "power_law",
    "frequency_order",
    "feature_alignment",
    "frequency_tuning",
    "kernel_drift",
    "hat_activation",
    "fourier_features",
    "data_scaling",
    "eigenspace_restructuring",
    "linearized_networks",
    "function_frequency",
    "circle_densities",
    "gradient_regularization",
    "geometric_complexity",
    "sgd_diffusion",
    "increasing_complexity",
    "spiral",
    "information_plane",
    "shattered_gradients",
    "shallow_ensembles",
    "shared_order",
    "phase_transitions",
    "natural_clustering",
    "path_kernel",
    "washout",
    "learned_order",
    "language_model",
    "modular_addition",
    "modular_transformer",
)


def study_of(name: str) -> Study:
    """The study with this name. Raises `InputError` if there is none."""
    if name not in NAMES:
        likely = difflib.get_close_matches(name, NAMES, 1)
        hint = f" Perhaps you meant {likely[0]}." if likely else ""
        raise InputError(f"Expected a study, one of {', '.join(NAMES)}; got {name!r}.{hint}")
    study: Study = importlib.import_module(f"ntkbias.studies.{name}").STUDY
    return study
