"""The command line as a user sees it: the files of a run, and one sentence with exit code 2 for bad input."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import ntkbias as nb
from ntkbias import types
from ntkbias.cli import groups, main, options, programs
from ntkbias.cli.folder import RunFolder
from ntkbias.cli.inputs import inputs
from ntkbias.cli.outcome import Outcome, print_outcome
from ntkbias.cli.tracking import about_labels
from ntkbias.errors import InputError
from ntkbias.files import StorageError

SMALL = ["--width", "16", "--depth", "1", "--num-examples", "40"]


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:  # refused by the parser itself
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_names_of_the_options_are_those_of_the_tables():
    assert get_args(groups.MeasureName) == tuple(nb.frequency.MEASURES)
    assert get_args(groups.LossName) == tuple(nb.losses.NAMED)
    assert groups.Parameterization == types.Parameterization


@pytest.mark.parametrize("command", options.COMMANDS)
def test_the_help_shows_no_default_that_is_none(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    shown = " ".join(out.replace("│", " ").split())
    assert (code, "(default: " in shown) == (0, True)
    assert not re.search(r"\(default: (None)?\)", shown)


def test_compare_leaves_a_complete_run_folder(tmp_path, capsys):
    code, out, _ = run(capsys, "compare", "--data", "circle", *SMALL, "--out", str(tmp_path / "run"))
    assert code == 0
    assert "mlp, finite" in out
    assert "mlp, infinite" in out
    names = {path.name for path in (tmp_path / "run").iterdir()}
    wanted = {"settings.json", "comparison.npz", "comparison.json", "table.txt", "report.html"}
    assert wanted <= names
    assert {"spectra.svg", "spectra.png", "frequency.svg", "frequency.png"} <= names
    assert not any(name.endswith(".part") for name in names)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["options"]["width"] == 16
    assert settings["versions"]["jax"]
    comparison = nb.load(tmp_path / "run" / "comparison")
    assert comparison.names == ("mlp, finite", "mlp, infinite")
    assert comparison.rankings[1].frequencies[:5].tolist() == [0, 1, 1, 2, 2]
    assert (tmp_path / "run" / "table.txt").read_text().strip() in out
    assert out.startswith(f"{comparison}\n\nmlp, finite\n")
    assert "\n\n40 inputs, 2 kernels, " in out


@pytest.mark.slow
def test_spectrum_of_one_network_on_digits(tmp_path, capsys):
    arguments = ["spectrum", "--data", "digits", "--net", "cnn", "--limit", "infinite", *SMALL]
    code, out, _ = run(capsys, *arguments, "--out", str(tmp_path / "run"))
    assert code == 0
    assert "cnn, infinite" in out
    assert nb.load(tmp_path / "run" / "comparison").targets.shape == (40, 10)


@pytest.mark.slow
def test_own_arrays_and_a_config_file_that_the_command_line_overrules(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", x=np.random.default_rng(0).normal(size=(30, 3)), y=np.arange(30.0))
    config = tmp_path / "settings.toml"
    config.write_text(f'data = "{tmp_path}/own.npz"\nwidth = 8\ndepth = 1\nlimits = ["infinite"]\nb-std = 0.5\n')
    code, _, err = run(capsys, "compare", "--config", str(config), "--depth", "3", "--out", str(tmp_path / "run"))
    assert (code, err) == (0, "")
    options = json.loads((tmp_path / "run" / "settings.json").read_text())["options"]
    assert (options["width"], options["depth"], options["b_std"]) == (8, 3, 0.5)
    assert nb.load(tmp_path / "run" / "comparison").names == ("mlp, infinite",)


def test_track_leaves_a_complete_run_folder(tmp_path, capsys):
    arguments = ["track", "--data", "circle", *SMALL, "--num-steps", "12", "--num-snapshots", "4", "--probe", "20"]
    code, _, err = run(capsys, *arguments, "--out", str(tmp_path / "run"))
    assert (code, err) == (0, "")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"settings.json", "history.npz", "history.json", "table.txt", "report.html", "evolution.svg"} <= names
    assert {"residual_spectrum.png", "eigenvalues.png", "alignments.png", "checkpoint"} <= names
    history = nb.load(tmp_path / "run" / "history")
    assert history.steps.tolist() == [0, 1, 3, 12]
    assert history["loss"][-1] < history["loss"][0]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["learning rate"] > 0
    code, _, err = run(capsys, *arguments, "--resume", "--width", "8", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "Expected" in err


@pytest.mark.slow
def test_track_resumes(tmp_path, capsys):
    arguments = ["track", "--data", "circle", *SMALL, "--num-steps", "12", "--num-snapshots", "4", "--probe", "20"]
    out = run(capsys, *arguments, "--out", str(tmp_path / "run"))[1]
    again = run(capsys, *arguments, "--resume", "--out", str(tmp_path / "run"))[1]
    assert again.splitlines()[:5] == out.splitlines()[:5]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_track_several_runs_on_labels(tmp_path, capsys, loss):
    arguments = ["track", *SMALL, "--num-steps", "40", "--num-runs", "2", "--loss", loss, "--probe", "20"]
    code, out, err = run(capsys, *arguments, "--learning-rate", "0.5", "--out", str(tmp_path / "run"))
    assert (code, err) == (0, "")
    assert "medians of 2 runs" in out
    history = nb.load(tmp_path / "run" / "history")
    assert history.num_runs == 2
    assert history["accuracy"].shape == (2, len(history))


BAD_TRACKS = {
    "steps": (["--num-steps", "0"], "Expected --num-steps to be at least 1; got 0"),
    "rate": (["--learning-rate", "-1"], "Expected --learning-rate above zero; got -1"),
    "two classes": (["--loss", "logistic"], "Expected two classes for --loss logistic; got 10"),
    "no folder": (["--data", "mnist"], "Expected --folder with the files of mnist; got none"),
    "waves": (["--data", "circle", "--loss", "logistic"], "Expected --loss mse on the circle, whose targets are waves"),
    "optimizer": (["--optimizer", "lion"], "invalid choice 'lion' for argument '--optimizer'"),
}


@pytest.mark.parametrize("name", BAD_TRACKS)
def test_bad_input_of_track(tmp_path, capsys, unchecked, name):
    arguments, message = BAD_TRACKS[name]
    code, _, err = run(capsys, "track", *arguments, "--out", str(tmp_path / "run"))
    assert code == 2
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_values(tmp_path, capsys):
    for name in ("a", "b"):
        assert run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(tmp_path / name))[0] == 0
    first, second = (nb.load(tmp_path / name / "comparison") for name in ("a", "b"))
    np.testing.assert_array_equal(first.spectra[0].eigenvalues, second.spectra[0].eigenvalues)


BAD = {
    "unknown data": (
        ["--data", "fashion"],
        "Expected --data to be digits, mnist, cifar10, circle, torus:2, sphere:3, cube:8, gaussian:2 or the path of an "
        ".npz or .npy file; got 'fashion'.",
    ),
    "no file": (["--data", "nowhere.npz"], "Expected a file of arrays at nowhere.npz; there is none"),
    "width": (["--data", "circle", "--width", "0"], "Expected width to be at least 1; got 0"),
    "depth": (["--data", "circle", "--depth", "-1"], "Expected depth to be at least 1; got -1"),
    "examples": (["--data", "circle", "--num-examples", "0"], "Expected num_inputs to be at least 1; got 0"),
    "too many": (["--num-examples", "5000"], "1 to 1797 examples of the digits; got 5000. Change --num-examples."),
    "too few": (["--num-examples", "3"], "Expected more than 11 inputs for 10 neighbors each"),
    "bias": (["--data", "circle", "--b-std", "-1"], "Expected --b-std to be zero or more; got -1"),
    "cnn on vectors": (
        ["--data", "circle", "--net", "cnn"],
        "Expected images (n, height, width, channels) for cnn; got inputs of shape (n, 2). Use mlp.",
    ),
    "path without option": (["flat.npz"], "got 'flat.npz'. Perhaps you meant --data flat.npz. See ntkbias spectrum"),
    "data without option": (["--width", "8", "mnist"], "got 'mnist'. Perhaps you meant --data mnist. See ntkbias"),
    "huge": (["--data", "circle", "--width", "9999999999"], "Expected --width below 2^31; got 9999999999"),
    "too wide": (
        ["--data", "circle", "--width", "9999999"],
        "Expected a network that fits in memory; got parameters of",
    ),
    "seed": (["--data", "circle", "--seed", "-1"], "Expected --seed to be zero or more, and below 2^32; got -1"),
    "long seed": (["--seed", "4294967303"], "Expected --seed to be zero or more, and below 2^32; got 4294967303"),
    "activation": (["--data", "circle", "--activation", "tanhh"], "Expected activation to be one of relu, erf"),
    "parser": (["--width", "many"], "Error parsing --width: invalid literal for int"),
    "option": (["--wdith", "3"], "got '--wdith'. Perhaps you meant --width. See ntkbias spectrum --help"),
    "option, equals": (["--widht=3"], "got '--widht'. Perhaps you meant --width. See ntkbias spectrum --help"),
    "option of another": (["--num-step", "3"], "got '--num-step'. Perhaps you meant --num-steps of ntkbias track. See"),
    "option of none": (["--zzz", "3"], "Expected options of ntkbias spectrum; got '--zzz'. See ntkbias spectrum"),
    "net": (["--net", "cnnn"], "as mlp:256x3:relu; got 'cnnn'. Perhaps you meant cnn."),
    "modes": (["--data", "circle", "--num-modes", "0"], "Expected --num-modes to be at least 1; got 0"),
    "harmonics of digits": (["--measure", "harmonic", *SMALL], "Expected a domain with harmonics"),
    "no config": (["--config", "nowhere.toml"], "Expected --config to be a TOML file; nowhere.toml cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_and_exit_code_two(tmp_path, capsys, unchecked, name):
    arguments, message = BAD[name]
    code, _, err = run(capsys, "spectrum", *arguments, "--out", str(tmp_path / "run"))
    assert code == 2
    assert message in err
    assert err.startswith("ntkbias: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["--out", ""], ["--out="], ["--folder", " "], ["--config", ""], ["--config="], ["--out"]]
)
def test_an_empty_path_is_no_folder(capsys, words):
    code, _, err = run(capsys, "spectrum", *words)
    assert (code, err) == (2, f"ntkbias: Expected a path after {words[0].rstrip('=')}; got an empty one.\n")


def test_programs_are_kept_in_an_absolute_folder(monkeypatch, tmp_path):
    """A relative XDG_CACHE_HOME is ignored, as its specification says."""
    default = programs.folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert programs.folder() == Path.home() / ".cache/ntkbias/programs"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert programs.folder() == tmp_path / "ntkbias/programs"
    assert default.is_absolute()


def test_bad_command_is_named(capsys):
    code, _, err = run(capsys, "spektrum", "--width", "3")
    assert code == 2
    assert err == (
        "ntkbias: Expected one of spectrum, compare, track, learn, exact, info, report, study; got 'spektrum'. Perhaps "
        "you meant spectrum. See ntkbias --help.\n"
    )


BAD_CONFIGS = {
    "type": (
        'width = "wide"',
        "Expected a valid value of width in .*/bad.toml; got 'wide': Error parsing --width",
    ),
    "string": ("data = 3", "Expected data in .*/bad.toml to be a string; got 3"),
    "out": ("out = true", "Expected out in .*/bad.toml to be a string; got True"),
    "key": ("wdith = 3", "Expected options of spectrum in .*; got 'wdith', not one of activation, b_std"),
    "syntax": ("width 3", "Expected --config to be a TOML file"),
    "deep": ("a = " + "[" * 100_000, "Expected --config to be a TOML file; .* cannot be read: it is nested too deeply"),
    "long": ("width = " + "1" * 100_000, "Expected --config to be a TOML file; .* cannot be read: Exceeds the limit"),
    "bytes": ('data = "\ud800"', "Expected --config to be a TOML file; .* cannot be read: 'utf-8' codec"),
    "table": ("[width]\na = 3", "Expected plain values in .*; got a table at 'width'"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_config_files(tmp_path, capsys, name):
    content, message = BAD_CONFIGS[name]
    (tmp_path / "bad.toml").write_text(content, errors="surrogatepass")
    code, _, err = run(capsys, "spectrum", "--config", str(tmp_path / "bad.toml"))
    assert code == 2
    assert re.search(message, err)


@pytest.mark.parametrize(
    ("y", "line"),
    [(4 * [3, 5, 3, 9], "{}: they are taken as labels of 3 classes, not as values."), (4 * [0.5, 1.0, 2.0, 3.0], "")],
    ids=["labels", "values"],
)
def test_whole_numbers_in_a_file_are_said_to_be_labels(tmp_path, y, line):
    path = str(tmp_path / "own.npz")
    np.savez(path, x=np.eye(16), y=np.array(y))
    chosen = options.TrackOptions(data=path)
    wanted = line and "\n" + line.format(f"y of {path} holds whole numbers")
    assert about_labels(chosen, inputs(chosen)) == wanted


def test_bad_arrays_of_a_file(tmp_path, capsys):
    np.savez(tmp_path / "bad.npz", x=np.array([[1.0, np.nan]] * 20))
    code, _, err = run(capsys, "spectrum", "--data", str(tmp_path / "bad.npz"), "--out", str(tmp_path / "run"))
    assert code == 2
    assert "Expected finite numbers in x of" in err
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    code, out, err = run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(tmp_path / "file"))
    assert code == 2
    assert "Choose a folder that can be written" in err
    assert out == ""
    assert (tmp_path / "file").read_text() == "mine"


PROCESSES = {
    "no file": ("ntkbias.cli", ["spectrum", "--data", "nowhere.npz"], "Expected a file of arrays"),
    "no command": (
        "ntkbias",
        [],
        "Expected one of spectrum, compare, track, learn, exact, info, report, study; got no command.",
    ),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_as_a_process_there_is_no_traceback(tmp_path, name):
    module, arguments, message = PROCESSES[name]
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ntkbias: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_paths_that_are_not_files_are_named(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for name, reason in (("pipe", "it is a pipe"), ("folder", "it is a folder")):
        for option in ("--data", "--config"):
            code, _, err = run(
                capsys, "spectrum", option, str(tmp_path / f"{name}.npz"), "--out", str(tmp_path / "run")
            )
            assert (code, reason in err, len(err.splitlines())) == (2, True, 1)


# The run folder: nothing is lost, and no file of another program is replaced.

TRACK = ["track", "--data", "circle", *SMALL, "--num-steps", "12", "--num-snapshots", "4", "--probe", "20"]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A finished run. Tests work on copies."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    assert main([*TRACK, "--out", str(folder)]) == 0
    return folder


REFUSED = {
    "batch": (["--batch-size", "1000"], "Expected batch_size to be at most the number of inputs, 40; got 1000"),
    "resumed otherwise": (["--resume", "--width", "8"], "Expected the run that .*checkpoint holds, to resume it"),
    "seed": (["--seed", "4294967303"], r"below 2\^32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_command_changes_nothing(tmp_path, capsys, tracked, name):
    changed, message = REFUSED[name]
    shutil.copytree(tracked, tmp_path / "run")
    before = contents(tmp_path / "run")
    code, _, err = run(capsys, *TRACK, *changed, "--out", str(tmp_path / "run"))
    assert code == 2
    assert re.search(message, err)
    assert contents(tmp_path / "run") == before


def test_a_refused_command_leaves_no_folder(tmp_path, capsys):
    code, _, err = run(capsys, *TRACK, "--batch-size", "1000", "--out", str(tmp_path / "new" / "run"))
    assert (code, "batch_size" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_new_run_replaces_the_one_before(tmp_path, capsys, tracked):
    shutil.copytree(tracked, tmp_path / "run")
    code, _, err = run(capsys, *TRACK, "--width", "8", "--out", str(tmp_path / "run"))
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["options"]["width"] == 8
    code, _, err = run(capsys, *TRACK, "--width", "8", "--resume", "--out", str(tmp_path / "run"))
    assert (code, err) == (0, "")
    assert contents(tmp_path / "run").keys() == contents(tracked).keys()


def test_a_checkpoint_of_others_stays(tmp_path, capsys, tracked):
    folder = tmp_path / "run"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "mine.txt").write_text("precious")
    code, _, err = run(capsys, *TRACK, "--out", str(folder))
    assert code == 2
    assert f"Expected {folder / 'checkpoint'} to be absent or written by an earlier command" in err
    assert contents(folder) == {"checkpoint/mine.txt": b"precious"}
    shutil.rmtree(folder)
    shutil.copytree(tracked, folder)
    (folder / "checkpoint" / "mine.txt").write_text("precious")
    code, _, err = run(capsys, *TRACK, "--overwrite", "--out", str(folder))
    assert (code, "got one that holds mine.txt. Move it, or choose another --out" in err) == (2, True)
    assert contents(folder) == contents(tracked) | {"checkpoint/mine.txt": b"precious"}


@pytest.mark.parametrize(
    "name", ["settings.json", "report.html", "table.txt", "comparison.npz", "spectra.svg", "files.json"]
)
def test_a_file_of_others_is_named_before_the_work_and_stays(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr("ntkbias.cli.spectra.compare", lambda *arguments, **options: pytest.fail("it works"))
    (tmp_path / name).write_text("precious")
    code, _, err = run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(tmp_path))
    assert code == 2
    assert f"Expected {tmp_path / name} to be absent or written by an earlier command" in err
    assert contents(tmp_path) == {name: b"precious"}


def test_only_the_files_of_the_previous_command_are_removed(tmp_path):
    (tmp_path / "mine.svg").write_text("precious")
    names = ["a.svg", "b.svg", "c.npz", "d.svg"]
    with RunFolder.claimed(tmp_path, names) as folder:
        folder.fill(lambda place: texts(place, **dict.fromkeys(names, "1")))
    (tmp_path / "d.svg").write_text("changed by hand")
    with RunFolder.claimed(tmp_path, ["a.svg"]) as folder:
        folder.fill(lambda place: texts(place, **{"a.svg": "2"}))
    found = contents(tmp_path)
    del found["files.json"]
    assert found == {"a.svg": b"2", "d.svg": b"changed by hand", "mine.svg": b"precious"}


def test_ctrl_c_waits_until_all_results_are_in_place(tmp_path, monkeypatch):
    names, replace = ["a.svg", "b.svg", "c.npz"], os.replace

    def interrupted(*paths):
        signal.raise_signal(signal.SIGINT)
        replace(*paths)

    with RunFolder.claimed(tmp_path, names) as folder:
        folder.fill(lambda place: texts(place, **dict.fromkeys(names, "1")))
        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            folder.fill(lambda place: texts(place, **dict.fromkeys(names, "2")))
    assert [contents(tmp_path)[name] for name in names] == 3 * [b"2"]


@pytest.mark.slow
def test_a_command_replaces_only_our_files_and_removes_stale_figures(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(capsys, "compare", "--data", "circle", *SMALL, "--out", str(folder))[0] == 0
    (folder / "mine.svg").write_text("precious")
    assert (folder / "energy_mlp_infinite.svg").exists()
    assert run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(folder))[0] == 0
    assert (folder / "energy_mlp_finite.svg").exists()
    assert not (folder / "energy_mlp_infinite.svg").exists()
    assert (folder / "mine.svg").read_text() == "precious"
    assert json.loads((folder / "settings.json").read_text())["command"] == "spectrum"
    (folder / "table.txt").write_text("changed by hand")
    code, _, err = run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(folder))
    assert code == 2
    assert f"Expected {folder / 'table.txt'} to be absent or written by an earlier command; got one that was" in err
    assert (folder / "table.txt").read_text() == "changed by hand"


def test_one_command_at_a_time_uses_a_folder(tmp_path, capsys):
    with RunFolder.claimed(tmp_path, []):
        code, _, err = run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(tmp_path))
    assert code == 2
    assert f"Expected {tmp_path} to be free; another thread of this process is using it" in err
    assert list(tmp_path.iterdir()) == []


def texts(folder, **files):
    for name, text in files.items():
        (folder / name).write_text(text)


def test_failed_results_leave_the_previous_ones(tmp_path):
    with RunFolder.claimed(tmp_path, ["a", "b"]) as folder:
        folder.fill(lambda place: texts(place, a="1", b="1"))
    before = contents(tmp_path)

    def failing(place):
        texts(place, a="2")
        raise StorageError("full")

    with pytest.raises(StorageError, match="full"), RunFolder.claimed(tmp_path, ["a", "b"]) as folder:
        folder.fill(failing)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("moved", range(4))
def test_results_of_a_killed_command_are_never_mixed(tmp_path, monkeypatch, moved):
    """After a kill between any two moves, the next command finds the results of one command."""
    with RunFolder.claimed(tmp_path, "abc") as folder:
        folder.fill(lambda place: texts(place, a="1", b="1", c="1"))
    count, replace = iter(range(100)), os.replace

    def killed(source, target):
        if Path(source).parent.name == ".ntkbias.new" and next(count) == moved:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with contextlib.suppress(KeyboardInterrupt), RunFolder.claimed(tmp_path, "abc") as folder:
        folder.fill(lambda place: texts(place, a="2", b="2", c="2"))
    monkeypatch.undo()
    with pytest.raises(InputError, match="refused"), RunFolder.claimed(tmp_path, "abc"):
        raise InputError("refused")
    assert {name: text for name, text in contents(tmp_path).items() if name in "abc"} == dict.fromkeys("abc", b"2")
    with RunFolder.claimed(tmp_path, "abc") as folder:
        folder.fill(lambda place: texts(place, a="3", b="3", c="3"))
    assert {name: text for name, text in contents(tmp_path).items() if name in "abc"} == dict.fromkeys("abc", b"3")


def test_a_file_of_others_that_appears_meanwhile_stays_and_the_results_do_too(tmp_path):
    with RunFolder.claimed(tmp_path, "a") as folder:
        (tmp_path / "a").write_text("precious")
        with pytest.raises(InputError, match="/a to be absent .* The results are in .*results-1"):
            folder.fill(lambda place: texts(place, a="1"))
    assert contents(tmp_path) == {"a": b"precious", "results-1/a": b"1"}


def test_a_run_that_is_killed_before_its_first_snapshot_leaves_the_one_before(tmp_path, tracked):
    shutil.copytree(tracked, tmp_path / "run")
    before = contents(tmp_path / "run")
    os.rename(tmp_path / "run" / "checkpoint", tmp_path / "run" / ".ntkbias.before")
    (tmp_path / "run" / "checkpoint").mkdir()
    (tmp_path / "run" / "checkpoint" / "run.json").write_text("{}")
    with RunFolder.claimed(tmp_path / "run", []):
        pass
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("kind", ["head", "full", "closed", "ascii"])
def test_results_that_cannot_be_printed_are_kept(tmp_path, capsys, monkeypatch, kind):
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"head": lambda: os.fdopen(writing, "w"), "full": lambda: open("/dev/full", "w"), "closed": lambda: None}
    out = streams.get(kind, lambda: open(tmp_path / "log", "w", encoding="ascii"))()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        code = print_outcome(Outcome("ρ", Path("run")))
        if out is not None:
            out.close()
    sentence = "ntkbias: Expected to print the results; got: No space left on device. They are in run.\n"
    assert (code, capsys.readouterr().err) == ((1, sentence) if kind == "full" else (0, ""))
    if kind == "ascii":
        assert (tmp_path / "log").read_text() == "\\u03c1\nResults: run\n"


SPECTRUM = ["spectrum", "--data", "circle", *SMALL]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("| head -1; exit ${PIPESTATUS[0]}", 0, ""),
        ("> /dev/full", 1, "ntkbias: Expected to print the results; got: No space left on device. They are in run.\n"),
        (">&-", 0, ""),
    ],
    ids=["head", "full", "closed"],
)
def test_results_are_saved_before_they_are_printed(tmp_path, redirection, code, message):
    command = f"{sys.executable} -m ntkbias.cli {' '.join(SPECTRUM)} --out run {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (code, message)
    assert (tmp_path / "run" / "report.html").exists()
    assert nb.load(tmp_path / "run" / "comparison").names == ("mlp, finite",)


def test_a_run_that_stopped_early_has_its_own_code(tmp_path, capsys):
    assert print_outcome(Outcome("table", tmp_path, "the loss at step 3 is NaN")) == 3
    out, err = capsys.readouterr()
    assert out.startswith("table\nResults: ")
    assert err == (
        "ntkbias: Expected training to reach its last step; it ended early: the loss at step 3 is NaN. The "
        f"measurements until then are in {tmp_path}.\n"
    )


@pytest.mark.slow
def test_a_diverged_run_says_so_and_has_its_own_code(tmp_path, capsys):
    code, out, err = run(capsys, *TRACK, "--learning-rate", "1e6", "--out", str(tmp_path / "run"))
    assert code == 3
    assert "stopped: " in out
    assert err.startswith("ntkbias: Expected training to reach its last step; it ended early: ")
    assert len(err.splitlines()) == 1
    assert nb.load(tmp_path / "run" / "history").stopped
