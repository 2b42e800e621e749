"""Checkpoints of runs: the same run resumes, and another run is refused in one sentence."""

import os
import re
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias import files, losses
from ntkbias.errors import InputError
from ntkbias.files import StorageError
from ntkbias.tracking import following, measures, open_history, track, track_many, track_snapshots
from ntkbias.tracking.checkpoint import Checkpoint
from ntkbias.tracking.fingerprints import versions

pytestmark = pytest.mark.filterwarnings("ignore:A JAX array is being set as static")  # a loss that holds arrays
CIRCLE = nb.domains.Circle()
X, _ = CIRCLE.quadrature(32)
Y = jnp.cos(CIRCLE.angle(X)) + jnp.cos(3 * CIRCLE.angle(X))
NET = nb.nets.mlp(width=8, depth=1, b_std=0.1)
PARAMS = NET.init(jax.random.key(0), (2,))
OPTIONS = {"num_steps": 12, "at": (0, 4, 8, 12), "measures": measures.chosen("loss")}


def run(folder=None, f=NET.apply, params=PARAMS, **options):
    """The history of a short run, by gradient descent unless `options` say otherwise."""
    options = {"optimizer": optax.sgd(0.1), **OPTIONS, **options}
    return track(f, params, (X, Y), checkpoint=folder, **options)


@pytest.fixture
def stopped(monkeypatch):
    """`stopped(folder, **options)` makes a run that ends after the snapshot of step 4."""

    def begin(folder, call=run, **options):
        real = Checkpoint.save

        def save(checkpoint, index, *arguments):
            real(checkpoint, index, *arguments)
            if index == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            call(folder, **options)
        monkeypatch.setattr(Checkpoint, "save", real)

    return begin


@jax.custom_jvp
def odd(z):
    """The identity, with twice its derivative."""
    return z


odd.defjvp(lambda primals, tangents: (primals[0], 2 * tangents[0]))


def capped(most):
    return lambda outputs, targets: jnp.mean(jnp.minimum((outputs.ravel() - targets) ** 2, most))


def by_part(rate):
    """An optimizer with another rate for biases, which cannot be tried on a single number."""

    def labels(params):
        return jax.tree.map(lambda leaf: "weights" if leaf.ndim > 1 else "biases", params)

    return optax.multi_transform({"weights": optax.sgd(0.1), "biases": optax.sgd(rate)}, labels)


def late(step):
    return optax.piecewise_constant_schedule(0.1, {step: 0.5})


# The options that began a run, those that try to resume it, and the name in the error.
OTHERS = {
    "another order of Sobolev's loss": (
        {"loss": losses.sobolev(CIRCLE, X, 0, max_degree=5)},
        {"loss": losses.sobolev(CIRCLE, X, 2, max_degree=5)},
        "loss",
    ),
    "another lambda": (
        {"loss": lambda outputs, y: jnp.mean((outputs.ravel() - y) ** 2)},
        {"loss": lambda outputs, y: jnp.mean(jnp.abs(outputs.ravel() - y))},
        "loss",
    ),
    "a cap that no loss comes by": (
        {"loss": capped(1e4)},
        {"loss": capped(1e5)},
        "loss (the values that it closes over)",
    ),
    "weight decay": (
        {"optimizer": optax.adamw(1e-2, weight_decay=1e-4)},
        {"optimizer": optax.adamw(1e-2, weight_decay=2e-4)},
        "optimizer",
    ),
    "decay of lars": (
        {"optimizer": optax.lars(0.1, weight_decay=1e-4)},
        {"optimizer": optax.lars(0.1, weight_decay=2e-4)},
        "optimizer",
    ),
    "clipping": (
        {"optimizer": optax.chain(optax.clip(10.0), optax.sgd(0.1))},
        {"optimizer": optax.chain(optax.clip(0.5), optax.sgd(0.1))},
        "optimizer",
    ),
    "the rate of biases": ({"optimizer": by_part(0.1)}, {"optimizer": by_part(0.2)}, "optimizer"),
    "a schedule's last steps": ({"optimizer": optax.sgd(late(10))}, {"optimizer": optax.sgd(late(11))}, "optimizer"),
    "the memory of Adam": ({"optimizer": optax.adam(0.1)}, {"optimizer": optax.adam(0.1, b2=0.99)}, "optimizer"),
    "f": ({}, {"f": lambda p, x: 2 * NET.apply(p, x)}, "f"),
    "the gradients of f": ({}, {"f": lambda p, x: odd(NET.apply(p, x))}, "f"),
    "f at one input": ({}, {"f": lambda p, x: NET.apply(p, x) * jnp.where(x[:, :1] < -0.99, 2.0, 1.0)}, "f"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_with_different_functions_is_refused(tmp_path, stopped, name):
    begun, other, named = OTHERS[name]
    stopped(tmp_path, **begun)
    message = f"to resume it; got a run that differs in {re.escape(named)}. Choose another path, or delete that"
    with pytest.raises(InputError, match=message):
        run(tmp_path, **other)


@pytest.mark.parametrize("name", ["another order of Sobolev's loss", "the rate of biases", "decay of lars"])
def test_the_same_run_resumes_without_a_warning(tmp_path, stopped, name):
    options = OTHERS[name][0]
    stopped(tmp_path, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Expected")
        resumed = run(tmp_path, **options)
    np.testing.assert_array_equal(resumed["loss"], run(**options)["loss"])


def test_one_warning_names_what_cannot_be_compared(tmp_path, stopped):
    stopped(tmp_path, loss=lambda outputs, y: jnp.mean(jnp.square(outputs.ravel() - y)))
    with pytest.warns(
        UserWarning, match="everything that can be compared agrees, but the code of loss differs. Training"
    ):
        run(tmp_path, loss=lambda outputs, y: jnp.mean(jnp.square(outputs.ravel() - y) + 0 * y))


def test_another_version_resumes_with_a_warning(tmp_path, stopped, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(following, "versions", lambda: versions() | {"jax": "0.1"})
        stopped(tmp_path)
    with pytest.warns(UserWarning, match=r"but versions differ \(jax 0.1 there, .* here\). Training resumes"):
        run(tmp_path)


def test_another_training_mode_is_refused(tmp_path, stopped):
    """Training uses `forward`, so f does not reveal the change."""

    def call(folder, factor=1.0):
        def forward(params, state, x, key):
            return factor * NET.apply(params, x), state

        options = {"optimizer": optax.sgd(0.1), **OPTIONS, "state": {"mean": jnp.zeros(2)}, "forward": forward}
        return track(lambda both, x: NET.apply(both[0], x), PARAMS, (X, Y), checkpoint=folder, **options)

    stopped(tmp_path, call)
    with pytest.raises(InputError, match="differs in forward. Choose"):
        call(tmp_path, 1.5)
    np.testing.assert_array_equal(call(tmp_path)["loss"], call(None)["loss"])


def test_several_runs_with_other_learning_rates_are_refused(tmp_path, stopped):
    def call(folder, rates=(0.05, 0.1)):
        options = {**OPTIONS, "optimizer": optax.sgd, "learning_rates": rates, "at_once": 1}
        return track_many(NET.apply, PARAMS, (X, Y), checkpoint=folder, **options)

    stopped(tmp_path, call)
    with pytest.raises(InputError, match="differs in optimizer. Choose"):
        call(tmp_path, (0.05, 0.2))
    np.testing.assert_array_equal(call(tmp_path)["loss"], call(None)["loss"])


# Names of measures.


@pytest.mark.parametrize("name", ["file", "allow_pickle", "", "a/b", "../up", "η, 100%", "x.npy", "two\nlines", "\0"])
def test_a_measure_may_have_any_name(tmp_path, stopped, name):
    options = {"measures": {name: lambda at: at.step + 1.0}}
    stopped(tmp_path, **options)
    assert run(tmp_path, **options)[name].tolist() == [1.0, 5.0, 9.0, 13.0]
    assert list(open_history(tmp_path)) == [name]
    assert open_history(tmp_path)[name].tolist() == [1.0, 5.0, 9.0, 13.0]


def test_reserved_names_are_refused():
    with pytest.raises(InputError, match=r"Expected another name than '\(step\)' for a measure"):
        run(measures={"(step)": lambda at: 1.0})


# Folders.


@pytest.mark.parametrize(
    "name", ["run.json", "start.npz", "about.json", "state.npz", "snapshots/00000.npz", "run.part"]
)
def test_files_of_others_stay(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    with pytest.raises(InputError, match=re.escape(str(path.parent if "/" in name else path))):
        run(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "precious"


def test_a_run_without_its_description_is_refused(tmp_path, stopped):
    stopped(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="start.npz; got that file without the run.json of a run"):
        run(tmp_path)


def test_a_run_killed_before_its_first_snapshot_resumes(tmp_path, stopped):
    """The folder has only run.json, so start.npz is written again."""
    expected = run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a/run.json", tmp_path / "b")
    np.testing.assert_array_equal(run(tmp_path / "b")["loss"], expected["loss"])
    assert (tmp_path / "b/start.npz").read_bytes() == (tmp_path / "a/start.npz").read_bytes()


MISSING = {
    "start.npz": "start.npz beside about.json; it is missing. Delete that folder",
    "state.npz": "state.npz beside snapshots; it is missing. Delete that folder",
    "snapshots/00000.npz": "00000.npz to be part of a run; there is no such file",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_file_that_is_missing_is_named(tmp_path, name):
    run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=MISSING[name]):
        run(tmp_path)


def test_snapshots_of_another_run_are_not_mixed_in(tmp_path, stopped):
    stopped(tmp_path / "a")
    run(tmp_path / "b", at=(0, 2, 12))
    shutil.copy(tmp_path / "b/snapshots/00000.npz", tmp_path / "a/snapshots/00001.npz")
    for read in (lambda: run(tmp_path / "a"), lambda: open_history(tmp_path / "a")):
        with pytest.raises(InputError, match="00001.npz to belong to the run beside it; it belongs to another"):
            read()
    known = files.read_arrays(tmp_path / "a/snapshots/00000.npz", "a snapshot")
    files.write_arrays(tmp_path / "a/snapshots/00001.npz", known)
    with pytest.raises(
        InputError, match="Expected the step of .*00001.npz to be later than that of the snapshot before"
    ):
        open_history(tmp_path / "a")
    files.write_arrays(tmp_path / "a/snapshots/00001.npz", known | {"loss": np.ones(3)})
    with pytest.raises(InputError, match="loss.npy has shape .*, not"):
        open_history(tmp_path / "a")


@pytest.mark.parametrize("name", ["00001.npz", "00003.npz"])
def test_a_history_with_a_missing_snapshot_is_refused(tmp_path, name):
    run(tmp_path)
    (tmp_path / "snapshots" / name).unlink()
    with pytest.raises(InputError, match=f"{name} to be part of a run; there is no such file"):
        open_history(tmp_path)


def test_links_are_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.part").symlink_to(victim)
    with pytest.raises(InputError, match="Expected a plain file, or none, at .*run.part; got a link"):
        run(tmp_path / "run")
    assert victim.read_text() == "precious"


def test_an_end_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    """At the last snapshot the complete history is returned. Earlier the error is raised, and the same call resumes."""
    real = Checkpoint.save

    def failing(at):
        def save(checkpoint, index, *arguments):
            if index == at:
                raise StorageError("Expected to write; got: No space left on device.")
            real(checkpoint, index, *arguments)

        return save

    monkeypatch.setattr(Checkpoint, "save", failing(3))
    with pytest.warns(UserWarning, match="Expected to write the end of the run to .*No space left.* save it elsewhere"):
        history = run(tmp_path)
    assert len(history) == 4
    monkeypatch.setattr(Checkpoint, "save", failing(2))
    with pytest.raises(StorageError, match="No space left"):
        run(tmp_path / "other")
    assert len(open_history(tmp_path / "other")) == 2
    loop = [(step, PARAMS) for step in (0, 1, 2, 3)]

    def own(folder, steps):
        return track_snapshots(NET.apply, loop[:steps], (X, Y), measures=OPTIONS["measures"], checkpoint=folder)

    with pytest.warns(UserWarning, match="Expected to write the end of the run to"):
        assert len(own(tmp_path / "own", 3)) == 3
    with pytest.raises(StorageError, match="No space left"):
        own(tmp_path / "own", 4)


def test_a_folder_in_use_is_refused_with_the_name_of_its_user(tmp_path):
    def nested(at):
        if at.step:
            run(tmp_path)
        return 1.0

    with pytest.warns(UserWarning, match="to be free; another thread of this process is using it. Choose another"):
        run(tmp_path, measures={"nested": nested})
    assert not (tmp_path / "run.part").exists()
    assert os.listdir(tmp_path / "snapshots") != []


LEVEL = {"flood": 0.01}  # the loss reads it, and the test changes it later


@pytest.mark.parametrize("what", ["loss", "measure"])
def test_different_mutable_values_lead_to_a_warning(tmp_path, stopped, monkeypatch, what):
    """A dictionary, an object or a global name may change during use, so a difference proves nothing."""

    def flooded(outputs, targets):
        return jnp.maximum(jnp.mean((outputs.ravel() - targets) ** 2), LEVEL["flood"])

    def call(folder):
        options = {"loss": flooded} if what == "loss" else {"measures": {"level": lambda at: LEVEL["flood"]}}
        return run(folder, **options)

    stopped(tmp_path, call)
    monkeypatch.setitem(LEVEL, "flood", 0.02)
    name = "measure level" if what == "measure" else "loss"
    with pytest.warns(
        UserWarning, match=f"but {name} reads different values from lists, dictionaries, objects or global"
    ):
        call(tmp_path)


def test_a_folder_that_is_removed_during_the_run_is_reported(tmp_path):
    def remove(at):
        (tmp_path / "run/run.json").unlink(missing_ok=True)
        return 0.0

    with pytest.raises(StorageError, match="run.json until the run ends; it was removed meanwhile"):
        run(tmp_path / "run", measures={"remove": remove})


def test_the_working_directory_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def move(at):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        os.chdir(tmp_path / "elsewhere")
        return 0.0

    found = run("here", measures={"move": move})
    np.testing.assert_array_equal(open_history(tmp_path / "here").steps, found.steps)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_one_line_says_whether_a_run_is_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE")
    folder = tmp_path / "run"
    run(folder)
    assert capsys.readouterr().err == f"ntkbias: starting a new run in {folder}, which holds none\n"
    run(folder)
    assert capsys.readouterr().err == f"ntkbias: resuming the run in {folder} after step 12\n"
    run()
    assert capsys.readouterr().err == ""
