"""`track` from start to end: compiled programs, resuming bit for bit, states, several runs and users' loops."""

import inspect
import json
import shutil
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias import losses
from ntkbias.compilation import Function
from ntkbias.errors import InputError
from ntkbias.tracking import Probe, measures, open_history, track, track_many, track_snapshots
from ntkbias.tracking.fingerprints import code_digest
from ntkbias.tracking.setting import Setting
from ntkbias.training import log_steps, train

FEW = measures.chosen("loss", "eigenvalues", "trace", "kernel_distance", "trajectory_complexity", "matched_modes")
OPTIONS = {"optimizer": optax.sgd(0.1), "num_steps": 24, "probe": Probe(num_modes=5), "measures": FEW}


def same(one, other):
    """Require two histories to be equal bit for bit."""
    assert list(one) == list(other)
    np.testing.assert_array_equal(one.steps, other.steps)
    np.testing.assert_array_equal(one.times, other.times)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    for leaf, wanted in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(leaf, wanted)


def breaking():
    """Measures, one of which interrupts training as a signal might, after the step in a dictionary, if it has one."""
    end = {}

    def trace(at):
        if at.step > end.get("step", at.step):
            raise SystemExit
        return at.trace

    return FEW | {"trace": trace}, end


def traces(network, data, count, **options):
    """How often a run with `count` snapshots calls f, the loss and a measure."""
    seen = {"f": 0, "loss": 0}

    def f(params, x):
        seen["f"] += 1
        return network[0](params, x)

    def loss(outputs, targets):
        seen["loss"] += 1
        return losses.mse(outputs, targets)

    measured = measures.DEFAULT | measures.chosen("path_outputs", "path_error", "gradient_norm")
    options = {"optimizer": optax.sgd(0.1), "num_steps": 30, "measures": measured} | options
    history = track(f, network[1], data, loss=loss, at=np.linspace(0, 30, count).astype(int), **options)
    assert len(history) == count
    return seen


@pytest.mark.parametrize("batch_size", [pytest.param(None, marks=pytest.mark.slow), 5])
def test_all_snapshots_share_the_programs_of_the_first(network, data, batch_size):
    """f and the loss are traced when programs are compiled: as often for nine snapshots as for three."""
    few, many = (traces(network, data, count, batch_size=batch_size) for count in (3, 9))
    assert few == many


def test_the_kernel_and_the_step_are_compiled_once(network, data, caplog):
    def f(params, x):
        return network[0](params, x)

    with jax.log_compiles(), caplog.at_level("WARNING"):
        track(f, network[1], data, at=log_steps(24, 9), **OPTIONS)
    compiled = [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]
    for program in ("_loop", "gram_in_one_program"):
        assert sum(f"jit({program})" in line for line in compiled) == 1, program


@pytest.mark.parametrize(
    ("many", "batch_size"),
    [(False, 5), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((False, None), (True, None), (True, 5)))],
)
def test_an_interrupted_run_resumes_to_the_same_history(network, data, tmp_path, many, batch_size):
    f, params = network
    call, start = track, params
    if many:
        call, start = track_many, jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), params)
    options = OPTIONS | {"optimizer": optax.adam(0.01), "batch_size": batch_size, "at": range(0, 25, 4)}
    options["measures"], end = breaking()
    whole = call(f, start, data, **options)
    for last in (0, 1, 4):
        end["step"] = 4 * last
        with pytest.raises(SystemExit):
            call(f, start, data, **options, checkpoint=tmp_path / f"{last}")
        end.clear()
        assert open_history(tmp_path / f"{last}").steps.tolist() == list(range(0, 4 * last + 1, 4))
        resumed = call(f, start, data, **options, checkpoint=tmp_path / f"{last}")
        same(resumed, whole)
    again = call(f, start, data, **options, checkpoint=tmp_path / "4")  # finished: read, not trained
    same(again, whole)
    np.testing.assert_array_equal(open_history(tmp_path / "4")["loss"], whole["loss"])


def test_killed_between_a_snapshot_and_its_state(network, data, tmp_path):
    taken, end = breaking()
    options = OPTIONS | {"at": range(0, 25, 4), "measures": taken}
    whole = track(*network, data, **options, checkpoint=tmp_path / "run")
    track(*network, data, **options | {"num_steps": 24}, checkpoint=tmp_path / "other")
    end["step"] = 8
    with pytest.raises(SystemExit):
        track(*network, data, **options, checkpoint=tmp_path / "half")
    end.clear()
    shutil.copy(tmp_path / "other/snapshots/00003.npz", tmp_path / "half/snapshots/00003.npz")
    (tmp_path / "half/.state.npz.1.part").write_bytes(b"half a file")
    same(track(*network, data, **options, checkpoint=tmp_path / "half"), whole)


def test_a_checkpoint_of_another_run_is_refused(network, data, tmp_path):
    f, params = network
    x, y = data
    track(f, params, data, **OPTIONS, checkpoint=tmp_path)

    def refused(message, f=f, params=params, data=data, **changed):
        with pytest.raises(InputError, match=message):
            track(f, params, data, **OPTIONS | changed, checkpoint=tmp_path)

    refused("a run that differs in optimizer. Choose", optimizer=optax.sgd(0.2))
    refused("differs in params. Choose", params=jax.tree.map(lambda leaf: 2 * leaf, params))
    refused("differs in data, probe. Choose", data=(x, -y))
    refused("differs in num_modes \\(5 there, 6 here\\). Choose", probe=Probe(num_modes=6))
    refused("differs in steps \\(19 up to 24 there, 19 up to 25 here\\). Choose", num_steps=25)
    refused("differs in steps \\(19 up to 24 there, 3 up to 24 here\\). Choose", at=[0, 1])
    refused("differs in measures \\(trace\\). Choose", measures=FEW | {"trace": lambda at: 2 * at.trace})
    fewer = measures.chosen(*[name for name in FEW if name != "eigenvalues"])
    refused("differs in measures \\(eigenvalues\\). Choose", measures=fewer)
    refused("differs in f. Choose another path", f=lambda params, x: 2 * f(params, x))
    with pytest.raises(InputError, match="Expected the folder of track"):
        open_history(tmp_path / "nothing")
    (tmp_path / "state.npz").write_bytes(b"no archive")
    refused("cannot be read")


def test_measures_are_distinguished_by_their_code():
    def of(factor, power=1):
        return lambda at, shift=power: factor * at.trace + shift

    def documented(at):
        """A docstring."""
        return at.trace

    def undocumented(at):
        return at.trace

    apart = [of(2), of(3), of(2, 4), lambda at: at.trace, lambda at: at.norm, partial(of(2), shift=5)]
    assert len({code_digest(each) for each in apart}) == len(apart)
    assert code_digest(of(2)) == code_digest(of(2))
    assert code_digest(documented) == code_digest(undocumented)
    assert code_digest(jax.jit(of(2))) == code_digest(of(2))
    assert len({code_digest(each) for each in measures.ALL.values()}) == len(measures.ALL)


def test_training_that_diverges_keeps_its_history(data, tmp_path):
    def f(params, x):
        return x @ params

    with pytest.warns(UserWarning, match="to reach its last step; it ended early: training diverged at step"):
        history = track(
            f, jnp.ones(2), data, optimizer=optax.sgd(9.0), num_steps=10_000, measures=FEW, checkpoint=tmp_path
        )
    assert "is not finite; since step 0 the rate 9 has been above 2 / the largest eigenvalue, 4" in (history.stopped)
    assert 3 < len(history) < 30
    assert np.isfinite(history["loss"]).all()
    assert open_history(tmp_path).stopped == history.stopped
    starts = jnp.ones((2, 2))
    with pytest.warns(UserWarning, match="training diverged in run 1 at step"):
        many = track_many(
            f, starts, data, optimizer=optax.sgd, learning_rates=[0.5, 9.0], num_steps=10_000, measures=FEW
        )
    assert np.isfinite(many["loss"][0]).all()
    assert np.isnan(many["loss"][1, -1])
    assert many["matched_modes"][1, -1, 0] == -1
    assert many.run(0).stopped == many.stopped


def test_ctrl_c_gives_the_history_so_far(network, data, tmp_path):
    def pressed(at):
        if at.step > 8:
            raise KeyboardInterrupt
        return at.trace

    options = OPTIONS | {"at": range(0, 25, 4), "measures": FEW | {"trace": pressed}}
    with pytest.warns(UserWarning, match="interrupted after the snapshot of step 8"):
        history = track(*network, data, **options)
    assert history.steps.tolist() == [0, 4, 8]
    with pytest.raises(KeyboardInterrupt):
        track(*network, data, **options, checkpoint=tmp_path)
    assert open_history(tmp_path).steps.tolist() == [0, 4, 8]


@pytest.mark.slow
def test_runs_trained_together_equal_separate_runs(network, data):
    f, _ = network
    net = nb.nets.mlp(width=24, depth=1, b_std=0.2)
    params = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(1), 4))
    key, options = jax.random.key(3), OPTIONS | {"batch_size": 4}
    together = track_many(f, params, data, **options, key=key)
    assert together["eigenvalues"].shape == (4, len(together), 5)
    assert together.axes_of("eigenvalues") == ("run", "snapshot", "mode")
    two = track_many(f, params, data, **options, key=key, at_once=2)
    one = jax.tree.map(lambda leaf: leaf[3], params)
    alone = track(f, one, data, **options, key=jax.random.fold_in(key, 3))
    for name in ("loss", "eigenvalues", "trajectory_complexity"):
        np.testing.assert_allclose(together[name], two[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(together.run(3)[name], alone[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_learning_rates_side_by_side(network, data):
    f, params = network
    options = {**OPTIONS, "optimizer": optax.sgd}
    history = track_many(f, params, data, learning_rates=[0.05, 0.1], **options)
    alone = track(f, params, data, **OPTIONS)
    np.testing.assert_allclose(history["loss"][1], alone["loss"], rtol=1e-5)
    np.testing.assert_allclose(history.times[:, -1], [1.2, 2.4], rtol=1e-6)
    np.testing.assert_allclose(history.learning_rates[:, 0], [0.05, 0.1], rtol=1e-6)


def test_a_training_loop_of_the_user(network, data, tmp_path):
    f, params = network
    steps = list(train(f, params, data, optimizer=optax.sgd(0.1), num_steps=24))
    options = {"measures": FEW, "probe": Probe(num_modes=5), "learning_rate": 0.1}
    history = track_snapshots(f, iter(steps), data, **options)
    wanted = track(f, params, data, **OPTIONS)
    for name in ("loss", "eigenvalues", "kernel_distance"):
        np.testing.assert_allclose(history[name], wanted[name], rtol=1e-6)
    np.testing.assert_allclose(history.times, wanted.times, rtol=1e-6)
    half = track_snapshots(f, iter(steps[:4]), data, **options, checkpoint=tmp_path)
    assert len(half) == 4
    resumed = track_snapshots(f, steps, data, **options, checkpoint=tmp_path)
    same(resumed, history)
    with pytest.raises(InputError, match="Expected steps in ascending order; got 21 after 24"):
        track_snapshots(f, iter(steps[::-1]), data, measures=FEW)
    with pytest.raises(InputError, match="one pair \\(step, params\\) or more in snapshots; got none"):
        track_snapshots(f, iter([]), data)


def test_a_network_with_running_statistics(data, tmp_path):
    """Batch normalization by hand: the kernel differentiates by the parameters, with the snapshot's statistics."""

    def normalized(params, mean, x):
        return jnp.tanh(x @ params["w"] - mean) @ params["v"]

    def forward(params, state, x, key):
        mean = jnp.mean(x @ params["w"], 0)
        return normalized(params, mean, x), {"mean": 0.5 * state["mean"] + 0.5 * mean}

    def f(variables, x):
        params, state = variables
        return normalized(params, state["mean"], x)

    params = {"w": jax.random.normal(jax.random.key(0), (2, 5)), "v": jnp.ones((5, 1))}
    options = {"optimizer": optax.sgd(0.1), "num_steps": 6, "at": range(7), "batch_size": 8}
    options |= {"state": {"mean": jnp.zeros(5)}, "forward": forward}
    options |= {"measures": measures.DEFAULT | measures.chosen("path_outputs", "trace_by_layer")}
    history = track(f, params, data, **options, checkpoint=tmp_path)
    final, state = history.params
    x = data[0]
    assert float(jnp.abs(state["mean"]).max()) > 0
    kernel = nb.empirical_ntk(lambda p, x: normalized(p, state["mean"], x), final)
    np.testing.assert_allclose(history["trace"][-1], jnp.trace(kernel(x)) / 16, rtol=1e-5)
    assert dict(history.labels)["layer"] == ("[0]['v']", "[0]['w']")
    same(track(f, params, data, **options, checkpoint=tmp_path), history)


def test_users_add_measures(network, data):
    def gap(at):
        return at.spectrum.eigenvalues[0] - at.spectrum.eigenvalues[1]

    def doubled(at):
        return 2 * at.values["gap"]

    mine = {"gap": gap, "doubled": doubled, "never": lambda at: None}
    history = track(*network, data, **OPTIONS | {"measures": mine})
    assert list(history) == ["gap", "doubled"]
    np.testing.assert_array_equal(history["doubled"], 2 * history["gap"])


def test_history_as_labeled_arrays(history):
    xarray = pytest.importorskip("xarray", reason="the extra xarray is not installed")
    dataset = history.to_xarray()
    assert isinstance(dataset, xarray.Dataset)
    assert dataset["eigenvalues"].dims == ("snapshot", "mode")
    assert dataset["learned"].coords["target"].values.tolist() == ["cos", "cos 3"]
    assert dataset["step"].values.tolist() == [0, 1, 5, 20, 40]


def test_history_without_xarray_says_how_to_get_it(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match="Expected xarray to be installed"):
        history.to_xarray()


def test_history_is_saved_and_loaded(history, tmp_path):
    nb.save(tmp_path / "history", history)
    there = nb.load(tmp_path / "history")
    assert there.axes == history.axes
    assert there.labels == history.labels
    for name in history:
        np.testing.assert_array_equal(there[name], history[name])
    assert json.loads((tmp_path / "history.json").read_text())
    with pytest.raises(InputError, match="Expected the name of a measure that was taken; got 'los'"):
        history["los"]
    with pytest.raises(InputError, match="Expected one of several runs; got 0"):
        history.run(0)


def test_a_probe_of_training_inputs_has_their_targets(network, data):
    """All of them, or the first; others have none, and measures of the residual are then left out."""
    (f, params), (x, y) = network, data
    f = Function.of(f)
    for probe, known in ((x, True), (Probe(x[:5]), True), (Probe(x[5:]), False)):
        assert (Setting.of(f, params, (x, y), probe=probe).probe_y is not None) == known


def test_bad_input_is_named_before_training(unchecked, network, data):
    f, params = network
    x, y = data
    calls = []

    def measured(at):
        calls.append(at)
        return 0.0

    def refused(message, error=InputError, call=track, **changed):
        with pytest.raises(error, match=message):
            call(f, params, data, **OPTIONS | {"measures": {"mine": measured}} | changed)

    refused("like the training inputs; got shape \\(4, 3\\)", probe=jnp.ones((4, 3)))
    refused("Expected inputs \\(n, 2\\) in test, .* got shape \\(4, 3\\)", probe=Probe(test=(jnp.ones((4, 3)), y[:4])))
    refused("as many targets as inputs in probe; got 3 targets for 16", probe=(x, y[:3]))
    refused("Expected watched target 'a' of shape \\(16,\\) or \\(16, 1\\)", probe=Probe(watched={"a": y[:5]}))
    refused("Expected watched target 'a' to have a value that is not zero", probe=Probe(watched={"a": 0 * y}))
    refused("Expected inputs at distance 2 from the origin", probe=Probe(domain=nb.domains.Circle(2.0)))
    refused("inputs, a pair \\(x, targets\\) or a Probe; got 3 values", error=TypeError, probe=(x, y, y))
    refused("Expected an optax optimizer", error=TypeError, optimizer="adam")
    refused("Expected at= in ascending order", at=[3, 2])
    refused("Expected measures to be a dictionary", error=TypeError, measures=[measured])
    refused("Expected the measure 'a' to be a function", error=TypeError, measures={"a": 3})
    refused("Expected one measure or more", measures={})
    refused("Expected the measure 'a' to return numbers; got str", error=TypeError, measures={"a": lambda at: "high"})
    refused("Expected params with the runs as the first axis", call=track_many)
    refused("optimizer to be a function of the learning rate", error=TypeError, call=track_many, learning_rates=[0.1])
    refused("Expected learning_rates \\(runs,\\) above zero", call=track_many, learning_rates=[-1.0])
    with pytest.raises(InputError, match="Expected names of measures; got los. There are loss"):
        measures.chosen("los")
    assert not calls


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"outputs": "each"}, InputError, "Expected a kernel that is one matrix; got outputs='each'"),
        ({"outputs": "one"}, InputError, "Expected outputs to be one of mean"),
        ({"domain": "circle"}, TypeError, "Expected a domain, e.g. Circle"),
        ({"watched": [1.0]}, TypeError, "Expected watched to be a dictionary of named targets on the probe; got list"),
        ({"num_modes": 0}, InputError, "Expected num_modes to be at least 1"),
        ({"memory_budget": -1}, InputError, "Expected memory_budget"),
        ({"targets": [1.0]}, InputError, "Expected inputs with the targets of a probe"),
    ],
)
def test_a_probe_refuses_bad_options(unchecked, options, error, message):
    with pytest.raises(error, match=message):
        Probe(**options)


@pytest.mark.parametrize(
    ("fail", "failure"),
    [
        (lambda: 1 / 0, "it raised ZeroDivisionError: division by zero"),
        (lambda: None, "it returned None"),
        (lambda: np.ones(2), "it returned shape \\(2,\\)"),
        (lambda: "high", "it raised InputTypeError: Expected the measure '[ab]' to return numbers; got str"),
    ],
)
def test_a_measure_that_fails_later_is_named_and_training_continues(data, fail, failure):
    def f(params, x):
        return x @ params

    taken = {"a": lambda at: fail() if at.step == 2 else np.ones(1), "b": lambda at: fail() if at.step == 2 else [True]}
    options = {"optimizer": optax.sgd(0.1), "num_steps": 3, "measures": taken | measures.chosen("weight_norm")}
    with pytest.warns(
        UserWarning,
        match=f"Expected the measure '[ab]' to work as at the first snapshot; at step 2 {failure}. It has NaN",
    ):
        history = track(f, jnp.ones(2), data, **options)
    np.testing.assert_array_equal(history["a"][:, 0], [1, 1, np.nan, 1])
    np.testing.assert_array_equal(history["b"][:, 0], [1, 1, -1, 1])
    assert np.isfinite(history["weight_norm"]).all()
    assert history.stopped is None


def test_a_measure_that_fails_in_one_run_of_several(data):
    options = {"optimizer": optax.sgd, "learning_rates": [0.1, 0.2], "num_steps": 2}
    fails = {"a": lambda at: 1 / 0 if at.step == 2 and at.learning_rate > 0.15 else 3.0}
    with pytest.warns(
        UserWarning, match="'a' to work as at the first snapshot; at step 2 of run 1 it raised ZeroDivision"
    ):
        history = track_many(lambda params, x: x @ params, jnp.ones((2, 2)), data, **options, measures=fails)
    np.testing.assert_array_equal(history["a"], [[3, 3, 3], [3, 3, np.nan]])


def test_a_measure_that_fails_at_once_is_named(data):
    with pytest.raises(
        InputError, match="Expected the measure 'a' to return numbers at step 0; it raised ZeroDivision"
    ):
        track(
            lambda params, x: x @ params,
            jnp.ones(2),
            data,
            optimizer=optax.sgd(0.1),
            num_steps=3,
            measures={"a": lambda at: 1 / 0},
        )


def test_measures_that_need_a_time_are_left_out_without_one(data):
    """Adam's step does not grow with the gradient, so there is no time, not even at step 0."""
    timed = measures.chosen("frozen_outputs", "frozen_error", "path_kernel", "path_outputs", "path_error")
    options = {"num_steps": 2, "measures": measures.chosen("weight_norm") | timed}
    history = track(lambda params, x: x @ params, jnp.ones(2), data, optimizer=optax.adam(1e-2), **options)
    assert list(history) == ["weight_norm"]
    assert history.steps.tolist() == [0, 1, 2]
    assert np.isnan(history.times).all()
    assert history.stopped is None


def descent(params, x, y, steps, rate):
    """A user's loop: gradient descent on f(params, x) = x @ params, which yields (step, params) at `steps`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    for step in range(max(steps) + 1):
        if step in steps:
            yield step, jnp.asarray(params, jnp.float32)
        params = params - rate * x.T @ (x @ params - y) / len(x)


def test_the_checkpoint_of_another_loop_is_refused(data, tmp_path):
    """Two loops with the same beginning are different runs."""
    x, y = data

    def of(steps, rate, path=tmp_path):
        loop = descent(np.ones(2), x, y, steps, rate)
        return track_snapshots(lambda p, x: x @ p, loop, data, measures=measures.chosen("loss"), checkpoint=path)

    of([0, 1, 5], 0.5)
    with pytest.raises(InputError, match="got one that has other params at step 5. Choose another path, or delete"):
        of([0, 1, 5, 9], 0.05)
    with pytest.raises(InputError, match="got one that yields step 2 instead of the saved step 1"):
        of([0, 2, 5, 9], 0.5)
    with pytest.raises(InputError, match="got one that ends at step 1, before the saved step 5"):
        of([0, 1], 0.5)
    same(of([0, 1, 5, 9], 0.5), of([0, 1, 5, 9], 0.5, None))


def test_predictions_of_the_first_kernel_count_from_its_own_step(data):
    """The kernel of a linear model is constant, so predictions are exact, whatever step the loop begins at."""
    x, y = data
    taken = measures.chosen("outputs", "frozen_outputs", "path_kernel")
    loop = descent(np.array([2.0, -1.0]), x, y, [3, 5, 9], 0.5)
    history = track_snapshots(lambda params, x: x @ params, loop, data, measures=taken, learning_rate=0.5)
    np.testing.assert_allclose(history["frozen_outputs"], history["outputs"], atol=2e-6)  # some float32 roundings
    np.testing.assert_allclose(history["path_kernel"], np.stack(3 * [x @ x.T]), atol=1e-6)
    np.testing.assert_array_equal(history.times, [1.5, 2.5, 4.5])


def test_bad_arguments_are_named_before_training(unchecked, network, data):
    f, params = network
    loss = measures.chosen("loss")

    def refused(message, error=InputError, call=track, params=params, f=f, data=data, **options):
        with pytest.raises(error, match=message):
            call(f, params, data, measures=loss, **options)

    def snapshots(message, given, error=InputError):
        with pytest.raises(error, match=message):
            track_snapshots(f, given, data, measures=loss)

    snapshots("Expected the step of each pair .* to be a whole number; got list", iter([(params, 0)]), TypeError)
    snapshots("Expected an iterator of pairs \\(step, params\\); got int", iter([0, 1]), TypeError)
    snapshots("to be an iterator of pairs \\(step, params\\); got dict. To train", {"a": 1.0}, TypeError)
    halves = jax.tree.map(lambda leaf: leaf[:1], params)
    snapshots("the same shapes at all steps, .*f32\\[2,24\\].* got .* at step 1", iter([(0, params), (1, halves)]))

    trained = {"optimizer": optax.sgd(0.1), "num_steps": 3}
    for given, got in ((iter([(0, params)]), "an iterator"), ([(0, params)], "a list of \\(step, params\\)")):
        message = f"Expected params to train; got {got}. For a training loop of your own use track_snapshots"
        refused(message, TypeError, params=given, **trained)
        refused(message, TypeError, call=track_many, params=given, **trained)
    loop = iter([(0, params)])
    refused(
        "a pair .* got list_iterator. For a training loop of your own, use track_snaps", TypeError, data=loop, **trained
    )
    refused("Expected wrt= alone; got state=", wrt=lambda path: True, state=1.0, **trained)
    refused("Expected params to hold at least one array; got an empty", params={}, **trained)
    refused("Expected params to be a pytree of arrays, .* got str", TypeError, params="a", **trained)
    refused("Expected f to take these params and inputs of shape \\(16, 2\\); it raised ", params={"a": 1.0}, **trained)
    three = jax.tree.map(lambda leaf: jnp.stack(3 * [leaf]), params)
    message = "of one run, or of 2 runs, one per learning rate, along the first axis of each array; got .*\\(3,\\)"
    trained["optimizer"] = optax.sgd
    refused(message, call=track_many, params=three, learning_rates=[0.1, 0.2], **trained)


def test_a_forward_that_does_not_fit_is_named_before_training(data):
    def refused(message, forward):
        options = {"optimizer": optax.sgd(0.1), "num_steps": 3, "state": {"m": jnp.zeros(1)}, "forward": forward}
        with pytest.raises(InputError, match=message):
            track(lambda both, x: x @ both[0] - both[1]["m"], jnp.ones(2), data, **options)

    refused("forward to return the pair \\(outputs, state\\); got f32\\[16\\]", lambda p, s, x, key: x @ p)
    refused("outputs of the shape of f's, \\(16,\\); got f32\\[\\]", lambda p, s, x, key: (jnp.sum(x @ p), s))
    refused(
        "like the one it was given, {'m': f32\\[1\\]}; got {'m': f32\\[2\\]}", lambda p, s, x, key: (x @ p, {"m": p})
    )


def test_divergence_names_the_eigenvalue_that_caused_it(data):
    """It does not name the eigenvalue of a network whose outputs have already blown up."""
    taken = measures.chosen("eigenvalues")
    with pytest.warns(UserWarning, match="ended early"):
        history = track(
            lambda params, x: x @ params**3, jnp.ones(2), data, optimizer=optax.sgd(9.0), num_steps=50, measures=taken
        )
    assert history["eigenvalues"][-1, 0] > 1e6 * history["eigenvalues"][0, 0]
    assert "since step 0" in history.stopped
    assert history.stopped.endswith(f"eigenvalue, {2 / history['eigenvalues'][0, 0]:.3g}")


def test_a_history_prints_its_numbers(data):
    def f(params, x):
        return x @ params

    options = {"num_steps": 2, "measures": {"step": lambda at: at.step, "two": lambda at: [1.0, 2.0]}}
    history = track(f, jnp.ones(2), data, optimizer=optax.sgd(0.1), **options)
    assert str(history).splitlines()[0] == "History: 3 snapshots, steps 0 to 2"
    assert [line.split() for line in str(history).splitlines()[1:3]] == [
        ["measure", "at", "first", "at", "last"],
        ["step", "0.00", "2.00"],
    ]
    assert str(history).splitlines()[3] == "arrays: two (3, 2)"
    many = track_many(f, jnp.ones((3, 2)), data, optimizer=optax.sgd(0.1), **options)
    assert str(many).splitlines()[0] == "History: medians of 3 runs, 3 snapshots, steps 0 to 2"


def test_the_default_measures_do_not_fill_the_signature():
    for call in (track, track_many, track_snapshots):
        assert inspect.signature(call).parameters["measures"].default is None
    assert measures.checked(None) == measures.DEFAULT
