"""Which tests `make test` leaves to `make test-all`: variants of what another test of `make test` holds.

A line is a pattern of test names and the reason. Every law, layer, domain, message and README block has a test that no
line matches. `conftest.py` gives the matching tests the mark `wide`, and refuses a line that matches none.
"""

import re
import zlib

# A test with cases is a law that each case meets. `make test` takes one case of each law, and some of a law with many
# cases, in turn, so that each case meets one law in `SHARE`. All cases of these laws stay: they read messages, pages,
# pictures or files, and hardly compile.
ALL_CASES = (
    r"(?i)bad_?input|message|refuse|named|errors?_say|test_errors\[|says_why",
    r"^(tests/)?test_(house|site|readme|pictures|studies|notebooks|keys|annotations|tables)\.py",
)
SHARE = 24

# Patterns of tests, by the reason why another test of `make test` suffices.
WIDE = {
    "a damaged search stays": (r"test_faults\.py::test_nothing.*\[kills-track-1\]",),
    "the truth of each task stays": (
        r"test_tasks\.py::TestSpiral::test_(scatter|radii|arms)",
        r"test_tasks\.py::Test(PowerLaw|RandomLabels|Eigen)\w+::test_(is_one|amplitudes|as_many|any_two|follow)",
    ),
    "products stay": (
        r"test_operator\.py::test_(weights_are_of|nothing_is_compiled_or|a_small_budget|narrow|one_example|scipy)",
        r"test_operator\.py::test_(a_function_without_a_jvp|products_in_float32|matrices_in|the_kernel_of_one)",
        r"test_operator\.py::test_(a_compiled_program_is|kernels_of_infinite|a_product_does_not)",
        r"test_cross\.py::test_(of_a_function_with|exchanged|its_matrix)",
        r"test_cross\.py::test_(inputs_of_several|functions_of_several|blocks_and_formed|ratios_of)",
        r"test_cross\.py::test_(a_step_on_one|undecided_layers|gradients_of_it|block_kernel_governs)",
    ),
    "others hold it": (
        r"test_saved_kernels\.py::test_(programs_are_shared|a_spectrum_is_saved|models_of_other|several)",
        r"test_saved_kernels\.py::test_(functions_that_agree|kernels_of_parts)",
        r"test_track\.py::test_(a_network_with_running|all_snapshots_share|a_training_loop)",
        r"test_report\.py::test_(names_are_text|page_of_one_kernel_without)",
        r"test_inputs\.py::test_(inputs_of_any_type|training_tracking|blocks_and_stores)",
        r"test_saved_kernels\.py::test_(loaded_spectra_extend|kernels_of_a_float64|inputs_of_several)",
    ),
    "densities of known spectra stay": (
        r"test_density\.py::test_(identity|probes_in_blocks|all_modes|more_steps|gauss_rule)",
    ),
    "pictures hold it": (
        r"test_plots\.py::test_(spectra_show|modes_of_images|spectral_density_shows|vector_valued|scaling_laws)",
        r"test_history_plots\.py::test_(the_page_of_a_history|evolution_draws|alignments_and)",
        r"test_plots\.py::test_(nothing_is_clipped|modes_that_inputs_do_not|saved_files_load)",
    ),
    "pages of more modes stay": (r"test_report\.py::test_kernel_of_one_mode",),
    "each type is printed once": (r"test_tables\.py::test_(nan_and|values_of_files|traced_values|one_fact)",),
    "energies stay": (r"test_harmonics\.py::test_(steps_have|a_harmonic_has|a_kernel_of)",),
    "the programs of one function stay": (r"test_lifetimes\.py::test_programs_of_two",),
    "its product stays": (
        r"test_inputs\.py::(test_what_a_layout|test_other_parameters|TestSeveralArrays::test_operators)",
        r"test_derived\.py::(TestVelocity::test_(multiplies|is_a_form)|TestCentered::test_(blocks|infinite))",
    ),
    "derivatives by parameters stay": (
        r"test_kernel\.py::test_(derivative_by_inputs|blocks_inside_jit|sum_and_product|scales_of_an)",
    ),
    "closed forms and gradients stay": (r"test_infinite\.py::test_(width_matters|derivatives_are_finite|float32)",),
    "its slow sum stays": (
        r"test_attention\.py::test_(parameterizations_are|an_input_and|transformer_has|equal_weights)",
    ),
    "values and derivatives stay": (
        r"test_repeats\.py::test_(layers_whose|deep_kernels|a_program_is|kernels_of_deep|numbers_that)",
    ),
    "messages and other models stay": (r"test_perturbations\.py::test_of_a_linear",),
    "all learners of a linear model stay": (r"test_data_scaling\.py::test_(training_sets|networks_of|the_best)",),
    "the formula stays": (r"test_inference\.py::TestPosterior::test_(left_out|products_give|it_is_saved)",),
    "a transformer stays": (r"test_fine_tuning\.py::test_(a_wide|measured_steps)",),
    "the formulas stay": (r"test_language\.py::test_(padding|layers_and_kinds)",),
    "kernels of contrasts stay": (r"test_contrasts\.py::test_(preferences|a_contrast_is)",),
    "every way to them stays": (r"test_rayleigh_quotients\.py::test_(few_rows|a_relative|an_empirical)",),
    "one output stays": (r"test_snapshot_measures\.py::test_(several_outputs|trajectory|a_kernel_too_large)",),
    "each command is run once": (
        r"test_commands\.py::test_(a_finished_run_is|the_default_learning|a_run_with_a_model|exact_prints)",
    ),
    "laws of measures stay": (
        r"test_ranking\.py::test_(three_measures|infinite_network|a_spectrum_of|without_bias|vector_valued)",
    ),
    "the measures themselves stay": (r"test_frequency_measures\.py::test_the_whole_comparison",),
    "errors against many digits stay": (
        r"test_exact\.py::test_(cube_in_float64|rows_of_a|one_leaf|nngp_is|two_circles|depth_that)",
    ),
    "a CNN stays": (r"test_keras\.py::test_other_keras",),
    "others of flax stay": (r"test_flax\.py::test_a_linen_mlp",),
    "its kernels stay": (r"test_neural_tangents\.py::test_(a_layer_in_everything|positions_that)",),
    "numbers of all modes stay": (r"test_learnability\.py::test_(ways_to_name|with_few_modes_times)",),
    "the rates stay": (r"test_rates\.py::test_(the_network_itself|infinite_kernels)",),
    "several networks stay": (r"test_compare\.py::test_(numbers_are_those|vector_valued|similarity_is)",),
    "rows of each type stay": (r"test_labeled\.py::test_(kernels_of_different|a_history_of)",),
    "Hessians stay": (r"test_losses\.py::test_(weighted_mean|a_loss_with_arrays|the_hessian_is_the_square)",),
    "one rule finds all of these": (
        r"test_resuming\.py::test_a_run_with_different.*\[(another lambda|a cap|weight|clipping|the rate)",
        r"test_resuming\.py::test_a_run_with_different.*\[(the memory|a schedule|the gradients of)",
    ),
    "pages repeat docstrings": (r"test_docs\.py::test_(the_guide|physics_informed_networks)",),
    "test_pictures.py has a band of runs": (r"test_history_plots\.py::test_several_runs_are",),
    "first derivatives stay": (r"test_repeats\.py::test_(second_derivatives_are|under_vmap)",),
    "losses of sequences are tested alone": (r"test_sequences\.py::test_measures_of_sequences",),
    "test_faults.py kills a search": (r"test_krylov\.py::TestCheckpoints::test_resumes_to_the_same_bits",),
    "blocks of features are tested against the whole": (r"test_kernel\.py::test_features_are_made_in_passes",),
    "the same values are pickled and loaded in this process": (
        r"test_copies\.py::test_kernels_work_in_another_process",
    ),
    "the docstring has the same slope": (r"test_compare\.py::TestGrid::test_every_combination_has_its_limit",),
    "docstrings show the same": (r"test_docs\.py::test_examples_print_what_they_say",),
    "two ways to one number, with other libraries": (r"test_docs\.py::test_numbers_of_other_libraries_are_converted",),
    "another study runs": (r"test_studies\.py::test_every_study_runs\[hypercube\]",),
    "numbers without errors stay": (
        r"test_alignments\.py::test_standard_errors_are",
        r"test_tiles\.py::test_second_derivatives_by_tiles",
    ),
    "other commands do it": (r"test_commands\.py::test_(a_comparison_is_found_again|learn_of_several)",),
    "laws held in float64, where tolerances are tighter; float32 has tests of its own": (r"\[(.*-)?float32(-.*)?\]$",),
    "long to compile; others stay": (r"test_repeats\.py::test_values_and_.*\[(tanh|gelu|leaky relu|product)\]",),
    "test_store.py interrupts a store in one process too": (r"test_store\.py::test_a_store_killed_twice",),
    "TestComplexNumbers of test_inputs.py has them": (r"test_preconditioned\.py::test_with_complex_numbers_inside",),
    "the page on physics-informed networks has such a kernel": (r"test_cross\.py::test_block_kernel_is_the_product",),
    "the same errors are read within one process": (r"test_cli\.py::test_as_a_process_there_is_no_traceback",),
    "the import itself is made by every test of the adapter": (
        r"test_neural_tangents\.py::test_the_import_leaves_jax",
    ),
}


def sampled_out(nodeids: list[str]) -> set[str]:
    """The cases of laws that wait for `make test-all`."""
    laws: dict[str, list[str]] = {}
    for nodeid in nodeids:
        law, has_cases, _ = nodeid.partition("[")
        if has_cases and not any(re.search(pattern, f"{law}[") for pattern in ALL_CASES):
            laws.setdefault(law, []).append(nodeid)
    out = set()
    for law, cases in laws.items():
        first = zlib.crc32(law.encode())  # the same whatever else is collected
        out |= {case for place, case in enumerate(cases) if (place + first) % min(SHARE, len(cases))}
    return out


def matched(nodeid: str) -> list[str]:
    """The patterns that match a test."""
    return [pattern for patterns in WIDE.values() for pattern in patterns if re.search(pattern, nodeid)]
