"""The command line as a user meets it: what a run leaves, and one sentence with exit code 2 for bad input."""

import json
import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

import ntkbias as nb
from ntkbias.cli import main, options

SMALL = ["--width", "16", "--depth", "1", "--num-examples", "40"]


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:  # what the parser itself refuses
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_names_of_the_options_are_those_of_the_tables():
    assert get_args(options.MeasureName) == tuple(nb.frequency.MEASURES)
    assert get_args(options.LossName) == tuple(nb.losses.NAMED)
    assert options.Parameterization == nb.types.Parameterization


def test_compare_leaves_a_whole_run_folder(tmp_path, capsys):
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


def test_track_leaves_a_whole_run_folder(tmp_path, capsys):
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
def test_track_goes_on(tmp_path, capsys):
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
        "Expected --data to be digits, circle, mnist, cifar10 or the path of an .npz file; got 'fashion'",
    ),
    "no file": (["--data", "nowhere.npz"], "Expected a file of arrays at nowhere.npz; there is none"),
    "width": (["--data", "circle", "--width", "0"], "Expected width to be at least 1; got 0"),
    "depth": (["--data", "circle", "--depth", "-1"], "Expected depth to be at least 1; got -1"),
    "examples": (["--data", "circle", "--num-examples", "0"], "Expected num_inputs to be at least 1; got 0"),
    "too many": (["--num-examples", "5000"], "Expected 1 to 1797 examples of the digits; got 5000"),
    "too few": (["--num-examples", "3"], "Expected more than 11 inputs for 10 neighbours each"),
    "bias": (["--data", "circle", "--b-std", "-1"], "Expected --b-std to be zero or more; got -1"),
    "cnn on vectors": (["--data", "circle", "--net", "cnn"], "Expected inputs of Conv to have 2 spatial axes"),
    "huge": (["--data", "circle", "--width", "9999999999"], "Expected --width below 2^31; got 9999999999"),
    "too wide": (
        ["--data", "circle", "--width", "9999999"],
        "Expected a network that fits the memory; got parameters of",
    ),
    "seed": (["--data", "circle", "--seed", "-1"], "Expected --seed to be zero or more; got -1"),
    "activation": (["--data", "circle", "--activation", "tanhh"], "Expected activation to be one of relu, erf"),
    "parser": (["--width", "many"], "Error parsing --width: invalid literal for int"),
    "option": (["--wdith", "3"], "got '--wdith'. Perhaps you meant --width. See ntkbias spectrum --help"),
    "option, equals": (["--widht=3"], "got '--widht'. Perhaps you meant --width. See ntkbias spectrum --help"),
    "option of another": (["--num-step", "3"], "got '--num-step'. Perhaps you meant --num-steps of ntkbias track. See"),
    "option of none": (["--zzz", "3"], "Expected options of ntkbias spectrum; got '--zzz'. See ntkbias spectrum"),
    "net": (["--net", "rnn"], "invalid choice 'rnn' for argument '--net'. Expected one of"),
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


def test_bad_command_is_named(capsys):
    code, _, err = run(capsys, "spektrum", "--width", "3")
    assert code == 2
    assert err == (
        "ntkbias: Expected one of spectrum, compare, track; got 'spektrum'. Perhaps you meant spectrum. See ntkbias "
        "--help.\n"
    )


BAD_CONFIGS = {
    "type": (
        'width = "wide"',
        "Expected a value of width in .*/bad.toml that it can have; got 'wide': Error parsing --width",
    ),
    "string": ("data = 3", "Expected data in .*/bad.toml to be a string; got 3"),
    "out": ("out = true", "Expected out in .*/bad.toml to be a string; got True"),
    "key": ("wdith = 3", "Expected options of spectrum in .*; got 'wdith', not one of activation, b_std"),
    "syntax": ("width 3", "Expected --config to be a TOML file"),
    "table": ("[width]\na = 3", "Expected plain values in .*; got a table at 'width'"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_config_files(tmp_path, capsys, name):
    import re

    content, message = BAD_CONFIGS[name]
    (tmp_path / "bad.toml").write_text(content)
    code, _, err = run(capsys, "spectrum", "--config", str(tmp_path / "bad.toml"))
    assert code == 2
    assert re.search(message, err)


def test_bad_arrays_of_a_file(tmp_path, capsys):
    np.savez(tmp_path / "bad.npz", x=np.array([[1.0, np.nan]] * 20))
    code, _, err = run(capsys, "spectrum", "--data", str(tmp_path / "bad.npz"), "--out", str(tmp_path / "run"))
    assert code == 2
    assert "Expected finite numbers in x of" in err
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_written_is_found_out_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    code, out, err = run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", str(tmp_path / "file"))
    assert code == 2
    assert "Choose a folder that can be written" in err
    assert out == ""
    assert (tmp_path / "file").read_text() == "mine"


def test_as_a_process_there_is_no_traceback(tmp_path):
    command = [sys.executable, "-m", "ntkbias.cli", "spectrum", "--data", "nowhere.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ntkbias: Expected a file of arrays")
    assert "Traceback" not in done.stderr
