from .agreements import Agreement, agreement
from .curvature import hessian_eigenvalues, hessian_operator, sharpness, shift_curvature
from .gradients import (
    example_gradient_norms,
    geometric_complexity,
    gradient_norm,
    implicit_gradient_regularization,
    loss_gradient,
    modified_loss,
)
from .information import (
    LayerInformation,
    conditional_mutual_information,
    explained_information,
    layer_information,
    mutual_information,
)
from .outer_products import average_gradient_outer_product, feature_correlations
from .perturbations import local_energy
from .ranks import effective_rank, embedding_effective_rank, end_to_end_matrix, stable_rank
from .separation import (
    activations,
    class_distance_variance,
    effective_depth,
    hidden_activations,
    layer_separation,
    nearest_center_accuracy,
)
from .simplicity import FeatureResponses, ShuffledAUC, feature_responses, shuffle_coordinates, shuffled_auc
from .tails import gradient_noise, hill_tail_index, kesten_tail_index, stable_tail_index
from .trajectories import (
    displacement_exponent,
    local_displacement_exponents,
    mean_squared_displacement,
    path_complexity,
    weight_norm,
    weight_norms,
)

__all__ = [
    "Agreement",
    "FeatureResponses",
    "LayerInformation",
    "ShuffledAUC",
    "activations",
    "agreement",
    "average_gradient_outer_product",
    "class_distance_variance",
    "conditional_mutual_information",
    "displacement_exponent",
    "effective_depth",
    "effective_rank",
    "embedding_effective_rank",
    "end_to_end_matrix",
    "example_gradient_norms",
    "explained_information",
    "feature_correlations",
    "feature_responses",
    "geometric_complexity",
    "gradient_noise",
    "gradient_norm",
    "hessian_eigenvalues",
    "hessian_operator",
    "hidden_activations",
    "hill_tail_index",
    "implicit_gradient_regularization",
    "kesten_tail_index",
    "layer_information",
    "layer_separation",
    "local_displacement_exponents",
    "local_energy",
    "loss_gradient",
    "mean_squared_displacement",
    "modified_loss",
    "mutual_information",
    "nearest_center_accuracy",
    "path_complexity",
    "sharpness",
    "shift_curvature",
    "shuffle_coordinates",
    "shuffled_auc",
    "stable_rank",
    "stable_tail_index",
    "weight_norm",
    "weight_norms",
]
