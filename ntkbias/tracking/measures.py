"""The measures by name: a plain dictionary, to choose from and to add to.

A measure is a function of a `Snapshot` that gives a number, or an array of one shape at all snapshots. They are taken
in the dictionary's order, and a later one finds the values of earlier ones in `snapshot.values`, and those of the
snapshot before in `snapshot.before`. One that gives None at the first snapshot does not apply, and is left out;
one that raises there ends the call. Later on, one that raises, gives None or changes its shape has NaN there, or -1 for
whole numbers, with a warning that names it, and training goes on. Its axes have the names in its attribute `axes`,
where it has one.

>>> from ntkbias.tracking import measures
>>> def ratio(at):
...     return at.spectrum.eigenvalues[0] / at.spectrum.eigenvalues[1]
>>> mine = measures.chosen("loss", "trace") | {"ratio": ratio}
>>> list(mine)
['loss', 'trace', 'ratio']
"""

from collections.abc import Callable, Mapping
from typing import Any

from ntkbias.errors import InputError, InputTypeError
from ntkbias.tracking import function_measures, kernel_measures, network_measures, path_measures
from ntkbias.tracking.snapshot import Snapshot

__all__ = ["ALL", "DEFAULT", "Measure", "checked", "chosen"]

Measure = Callable[[Snapshot], Any]


def _named(*functions: Measure) -> dict[str, Measure]:
    return {function.__name__: function for function in functions}


# What costs little beside the kernel and its eigendecomposition.
DEFAULT: dict[str, Measure] = _named(
    function_measures.loss,
    function_measures.accuracy,
    function_measures.test_loss,
    function_measures.test_accuracy,
    kernel_measures.eigenvalues,
    kernel_measures.trace,
    kernel_measures.effective_rank,
    kernel_measures.participation_ratio,
    kernel_measures.trace_ratios,
    kernel_measures.alignment,
    kernel_measures.centered_alignment,
    kernel_measures.alignment_by_class,
    kernel_measures.kernel_distance,
    kernel_measures.kernel_drift,
    kernel_measures.kernel_velocity,
    kernel_measures.principal_angles,
    kernel_measures.initial_alignment,
    kernel_measures.matched_modes,
    kernel_measures.matched_overlap,
    function_measures.energy_of_labels,
    function_measures.energy_of_residual,
    function_measures.energy_of_residual_at_start,
    function_measures.frequencies,
    function_measures.residual_frequency,
    function_measures.residual_spectrum,
    function_measures.output_spectrum,
    function_measures.target_alignment,
    function_measures.learned,
    path_measures.trajectory_complexity,
    network_measures.weight_norm,
)

# All of them: those that DEFAULT leaves out cost more kernels, gradients over all data, or memory.
ALL: dict[str, Measure] = DEFAULT | _named(
    kernel_measures.centered_effective_rank,
    kernel_measures.alignment_by_layer,
    kernel_measures.centered_alignment_by_layer,
    kernel_measures.trace_by_layer,
    kernel_measures.critical_learning_rate,
    kernel_measures.eigenfunctions,
    function_measures.learning_time,
    function_measures.train_loss,
    function_measures.train_accuracy,
    function_measures.outputs,
    function_measures.frozen_outputs,
    function_measures.frozen_error,
    function_measures.frozen_loss,
    path_measures.path_kernel,
    path_measures.path_eigenvalues,
    path_measures.path_outputs,
    path_measures.path_error,
    network_measures.gradient_norm,
    network_measures.weight_norm_by_layer,
    network_measures.geometric_complexity,
    network_measures.sharpness,
)


def chosen(*names: str) -> dict[str, Measure]:
    """The measures of these names, from `ALL`; an `InputError` on a name that there is not."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise InputError(f"Expected names of measures; got {', '.join(unknown)}. There are {', '.join(ALL)}.")
    return {name: ALL[name] for name in names}


def checked(measures: Any) -> dict[str, Measure]:
    """The measures as a dictionary of functions, `DEFAULT` for None; or an `InputTypeError`."""
    if measures is None:
        return dict(DEFAULT)
    if not isinstance(measures, Mapping) or not all(isinstance(name, str) for name in measures):
        raise InputTypeError(
            f"Expected measures to be a dictionary from names to functions; got {type(measures).__name__}. "
            "Use measures.chosen('loss', 'trace') | {'mine': function}."
        )
    for name, measure in measures.items():
        if not callable(measure):
            raise InputTypeError(f"Expected the measure {name!r} to be a function; got {type(measure).__name__}.")
    if not measures:
        raise InputError("Expected one measure or more; got none.")
    return dict(measures)
