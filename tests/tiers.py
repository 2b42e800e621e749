"""Which tests `make test` leaves to `make test-all`: variants of what another test of `make test` holds.

A line is a pattern of test names and the reason. Every law, layer, domain, message and README block has a test that no
line matches. `conftest.py` gives the matching tests the mark `wide`, and refuses a line that matches none.
"""

import re
import zlib

_LAYER_VARIANTS = "|".join(
    re.escape(name)
    for name in (
        "dense, bias from zero",
        "conv, 1-D even window",
        "conv, 1-D strides",
        "conv, 2-D circular strides",
        "conv, 4-D",
        "conv, window of one",
        "conv, stride beyond window",
        "conv, window beyond image",
        "conv, dilation circular",
        "relu, image",
        "erf, image",
        "flatten, vector",
        "pool, vector",
        "sequential, empty",
        "residual, convolutions",
        "residual, shortcut",
        "average pool, edges",
        "layer norm, all",
        "attention, sqrt",
        "positional encoding, decay",
        "positional encoding, concat",
        "sinusoidal encoding, concat",
    )
)

# Laws of tables: each law meets one case in `SHARE`, and each case one law in `SHARE`, in turn.
SAMPLED = (
    r"layers/test_(layers|repeats|activations|attention|encodings|combine)\.py::test_\w+\[",
    r"layers/test_against_stax\.py::test_kernels_of_layers\[",
    r"kernels/test_infinite\.py::test_(symmetric|cnn|float32|mlp)\w*\[",
    r"kernels/test_(kernel|tiles|store|jaxprs|derived|cross|mixing|inputs|preconditioned|operator|on_inputs|tied)\.py::(\w+::)?test_\w+\[",
    r"kernels/test_empirical\.py::test_ntk_is_the_product\w*\[",
    r"test_half_precision\.py::test_half_precision_is\w*\[",
    r"tracking/test_training_measures\.py::test_\w+\[",
    r"domains/test_\w+\.py::test_\w+\[",
    r"test_(nets|losses|eigen|exact|scaling|plots|datasets)\.py::(\w+::)?test_\w+\[",
    r"eigen/test_\w+\.py::(\w+::)?test_\w+\[",
    r"frequency/test_\w+\.py::test_\w+\[",
    r"faults/test_damages\.py::test_\w+\[",
    r"tracking/test_resuming\.py::test_\w+\[",
    r"test_(lifetimes|arrays_in_files|saved_kernels)\.py::test_\w+\[",
)
MESSAGES = r"(?i)bad_?input|message|refuse|named|error"  # tests that read a message: all of them stay
SHARE = 24  # a law of fewer cases keeps one of them

WIDE = {
    r"test_docs\.py::test_(the_guide|physics_informed_networks)": "pages repeat docstrings",
    r"test_cross\.py::test_(inputs_of_several|functions_of_several|blocks_and_formed|ratios_of)": "products stay",
    r"test_cross\.py::test_(a_step_on_one|undecided_layers|gradients_of_it|block_kernel_governs)": "products stay",
    r"test_report\.py::test_(names_are_text|page_of_one_kernel_without)": "others hold it",
    r"test_history_plots\.py::test_several_runs_are": "test_pictures.py has a band of runs",
    r"test_plots\.py::test_(nothing_is_clipped|modes_that_inputs_do_not|saved_files_load)": "pictures hold it",
    r"test_repeats\.py::test_(second_derivatives_are|under_vmap)": "first derivatives stay",
    r"test_inputs\.py::test_(inputs_of_any_type|training_tracking|blocks_and_stores)": "others hold it",
    r"test_saved_kernels\.py::test_(loaded_spectra_extend|kernels_of_a_float64|inputs_of_several)": "others hold it",
    r"test_alignments\.py::test_(every_way_to_give_a_kernel\[all\]|standard_errors_are)": "the mean of outputs stays",
    r"test_sequences\.py::test_measures_of_sequences": "losses of sequences are tested alone",
    r"test_krylov\.py::TestCheckpoints::test_resumes_to_the_same_bits": "test_faults.py kills a search",
    r"test_kernel\.py::test_features_are_made_in_passes": "blocks of features are tested against the whole",
    r"test_copies\.py::test_values_are_equal_after\[(copy|deepcopy)\]": "pickle takes values apart, too",
    r"test_copies\.py::test_kernels_work_in_another_process": "the same values are pickled and loaded in this process",
    r"test_compare\.py::TestGrid::test_every_combination_has_its_limit": "the docstring has the same slope",
    r"test_docs\.py::test_examples_print_what_they_say": "pages repeat what the docstrings' examples show",
    r"test_docs\.py::test_numbers_of_other_libraries_are_converted": "two ways to one number, with other libraries",
    r"test_contrasts\.py::test_the_kernel_of_contrasts_is_that_of_jacobians\[each\]": "all pairs of outputs stay",
    r"test_commands\.py::test_(a_comparison_is_found_again|learn_of_several)": "other commands do it",
    r"test_studies\.py::test_every_study_runs\[hypercube\]": "another study runs",
    rf"layers/test_layers\.py.*\[({_LAYER_VARIANTS})\]": "options of a layer whose law another line of LAYERS tests",
    r"test_empirical\.py::test_ntk_is_the_product.*-each and mean\]": "'each' and 'mean' sum the blocks of 'all' anew",
    r"test_empirical\.py::test_blocks_do_not_change.*\[mlp-": "the function with axes of outputs has all four outputs",
    r"test_empirical\.py::test_pieces_and_strips.*\[embedding\]": "the two other functions cross the same pieces",
    r"\[(.*-)?float32(-.*)?\]$": "laws held in float64, where tolerances are tighter; float32 has tests of its own",
    r"test_infinite\.py::test_cnn_is_the_slow_sum.*\(\d, \d, ?\d?\).*flatten\]": "the same windows are pooled",
    r"test_infinite\.py::test_mlp_is_the_closed_form\[[13]-": "one depth, with biases, tests the recursion",
    r"test_infinite\.py::test_gradient_agrees.*\[cnn, flatten\]": "the pooled network carries more pairs",
    r"test_infinite\.py::test_derivatives_are_finite.*\[None-": "the case with biases meets the same kinks",
    r"test_against_stax\.py::test_kernels_of_layers\[attention, (abs|relu|sqrt)\]": "tested in test_attention.py",
    r"test_kernel\.py::test_features_are_made_in_passes\[1-(mlp|shared read-outs)\]": "passes of three have it",
    r"test_kernel\.py::test_derivative_by_inputs\[sum-": "the two summands are tested alone",
    r"test_kernel\.py::test_blocks_inside_jit\[sum\]": "the two summands are tested alone",
    r"test_tiles\.py::test_is_the_matrix_at_once\[(1|5)-1\]": "one set of inputs tests the mirrored tiles",
    r"test_jaxprs\.py::test_what_a_strided.*\[length(0|2|5)-": "windows and strides, of which four of seven stay",
    r"test_activations\.py::test_both_modes_of_diff.*\[(hat|sin|polynomial)\]": "one activation of each kind stays",
    r"test_activations\.py::test_float32\[": "the extremes of float32 have test_any_scale_in_float32",
    r"test_repeats\.py::test_values_and_.*\[(tanh|gelu|leaky relu|product)\]": "long to compile; others stay",
    r"test_derived\.py::TestVelocity::test_is_the_difference_quotient\[(mlp|cnn)\]": "three functions stay",
    r"test_derived\.py::TestCentered::test_is_the_doubly_centered_gram_matrix\[(each|sum)\]": "'mean' and 'all' stay",
    r"test_nets\.py::test_stds\[.*-cnn\]": "the MLP of each activation stays",
    r"test_krylov\.py::test_eigenvalues_with_their_multiplicity\[pairs-1\]": "blocks of several vectors stay",
    r"test_rayleigh_quotients\.py::test_every_way.*\[mean-": "all outputs stay",
    r"test_store\.py::test_a_store_killed_twice": "test_store.py interrupts a store in one process too",
    r"test_store\.py::test_every_kernel_can_be_stored\[(sum|infinite NTK)\]": "a kernel of each maker stays",
    r"test_faults\.py::test_nothing.*\[(company-track|kills-store)-1\]": "test_locks.py and test_store.py hold it",
    r"test_preconditioned\.py::test_with_complex_numbers_inside": "TestComplexNumbers of test_inputs.py has them",
    r"test_tiles\.py::test_second_derivatives_by_tiles": "test_repeats.py takes second derivatives at such inputs",
    r"test_cross\.py::test_block_kernel_is_the_product": "the page on physics-informed networks has such a kernel",
    r"test_cli\.py::test_as_a_process_there_is_no_traceback": "the same errors are read within one process",
    r"test_keras\.py::test_other_keras_models\[(lstm|shared layer)\]": "the model with attention stays",
    r"test_neural_tangents\.py::test_the_import_leaves_jax": "the import itself is made by every test of the adapter",
    r"test_nets\.py::test_patch_network_is_the_recursion.*\[branching1\]": "the other tree stays",
    r"test_neural_tangents\.py::test_the_kernels_are_those.*\[normalized\]": "its layers are tested against stax alone",
}


def sampled_out(nodeids: list[str]) -> set[str]:
    """Of the tests that `SAMPLED` matches, those that wait for `make test-all`."""
    laws: dict[str, list[str]] = {}
    for nodeid in nodeids:
        law = nodeid.partition("[")[0]
        if any(re.search(pattern, nodeid) for pattern in SAMPLED) and not re.search(MESSAGES, law):
            laws.setdefault(law, []).append(nodeid)
    out = set()
    for law, cases in laws.items():
        first = zlib.crc32(law.encode())  # the same whatever else is collected
        out |= {case for place, case in enumerate(cases) if (place + first) % min(SHARE, len(cases))}
    return out


def matched(nodeid: str) -> list[str]:
    """The patterns that match a test."""
    return [pattern for pattern in WIDE if re.search(pattern, nodeid)]
