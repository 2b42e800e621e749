"""The commands: what each prints and leaves, what `--data` and `--net` name, and what is refused."""

import json
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.cli import config, main, outcome, tracking
from ntkbias.cli.architectures import FAMILIES, Architecture, architecture
from ntkbias.cli.groups import DOMAINS
from ntkbias.cli.inputs import inputs
from ntkbias.cli.networks import initialized, networks, one_network, things
from ntkbias.cli.options import (
    COMMANDS,
    GROUPS,
    CompareOptions,
    InfoOptions,
    LearnOptions,
    SpectrumOptions,
    TrackOptions,
)
from ntkbias.cli.parsing import parsed
from ntkbias.cli.targets import named

DOCS = Path(__file__).parent.parent / "docs"
SMALL = ["--width", "16", "--depth", "1", "--num-examples", "40"]


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, which take seconds."""
    monkeypatch.setattr(outcome.report, "figures", lambda value: {})


# What the options name.


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_each_group_is_valid(command):
    for group in GROUPS[COMMANDS[command]].values():
        (example,) = re.findall(r"Example: (.+)", group.__doc__)
        assert parsed([command, *shlex.split(example)])


def test_all_options_of_a_command_are_in_its_groups():
    for command in COMMANDS.values():
        fields = [name for group in GROUPS[command].values() for name in vars(group())]
        assert sorted(fields) == sorted(vars(command()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mlp", Architecture("", "mlp")),
        ("mlp:64", Architecture("", "mlp", 64)),
        ("mlp:256x3:relu", Architecture("", "mlp", 256, 3, "relu")),
        ("cnn:pool:64x2", Architecture("", "cnn", 64, 2, None, "pool")),
        ("myrtle5:8:erf", Architecture("", "myrtle5", 8, None, "erf")),
    ],
)
def test_networks_by_name(text, found):
    assert architecture(text) == found._replace(text=text)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_architecture_is_made(family):
    size = ":8" if FAMILIES[family].depth is None else ":8x1"
    network = one_network(SpectrumOptions(net=f"{family}{size}"), (4, 4, 1), num_outputs=3)
    assert network.layer.output_shape((4, 4, 1)) == (3,)
    assert (network.name, network.width) == (f"{family}{size}", 8)


def test_old_and_new_spellings_are_the_same_network():
    old = parsed(["spectrum", "--net", "cnn-pool", "--width", "8", "--depth", "3", "--activation", "erf"])
    new = parsed(["spectrum", "--net", "cnn:8x3:erf:pool"])
    shape = (4, 4, 1)
    assert str(one_network(old, shape).layer) == str(one_network(new, shape).layer)
    assert parsed(["compare", "--nets", "mlp", "cnn"]).nets == parsed(["compare", "--nets", "mlp,cnn"]).nets


def test_sweeps_make_one_network_each_and_one_limit_for_all_widths():
    options = CompareOptions(width=(8, 16), depth=(1,), activation=("relu", "erf"))
    found = networks(options, ("mlp", "mlp:4:tanh"), (2,))
    assert [network.name for network in found] == [
        "mlp, width 8, activation relu",
        "mlp, width 8, activation erf",
        "mlp, width 16, activation relu",
        "mlp, width 16, activation erf",
        "mlp:4:tanh",
    ]
    kernels = things(options, found, ("finite", "infinite"))
    assert [name for name in kernels if "infinite" in name] == [
        "mlp, activation relu, infinite",
        "mlp, activation erf, infinite",
        "mlp:4:tanh, infinite",
    ]
    standard = CompareOptions(width=(8, 16), parameterization="standard")  # in which the limit depends on the width
    assert len(things(standard, networks(standard, ("mlp",), (2,)), ("infinite",))) == 2
    several = things(options, found, ("finite",), num_runs=3)
    assert several["mlp:4:tanh, finite"] is found[-1].layer


@pytest.mark.parametrize("name", DOMAINS)
def test_domains_by_name(name):
    data = inputs(SpectrumOptions(data=name, num_examples=64))
    data.domain.check(data.x)
    assert len(data.x) == len(data.weights) <= 64
    equal = inputs(TrackOptions(data=name, num_examples=64), equal_weights=True)
    np.testing.assert_allclose(equal.weights, 1 / len(equal.x), rtol=1e-6)
    assert data.digest != inputs(SpectrumOptions(data=name, num_examples=16)).digest


def test_a_domain_has_the_dimension_after_the_colon():
    assert inputs(SpectrumOptions(data="sphere:5", num_examples=64)).domain == nb.domains.Sphere(5)
    assert inputs(SpectrumOptions(data="cube:6")).x.shape == (64, 6)


def test_an_npy_file_holds_inputs(here):
    np.save("own.npy", np.arange(26.0).reshape(13, 2))
    data = inputs(SpectrumOptions(data="own.npy", num_examples=12))
    assert (data.x.shape, data.y) == ((12, 2), None)


MODELS = """
import jax.numpy as jnp
import ntkbias as nb

def layer(num_outputs):
    return nb.nets.mlp(4, 1, num_outputs)

def f(params, x):
    return jnp.tanh(x @ params["w"])

def with_params(input_shape):
    return f, {"w": jnp.ones((input_shape[0], 1))}

def with_init():
    return f, lambda key: {"w": jnp.full((2, 1), 2.0)}

def wrong():
    return 3

def failing():
    raise ValueError("no weights")

number = 3
"""


@pytest.fixture
def models(here, monkeypatch):
    """A module of a user in the working folder, under a name of its own in each test."""
    name = f"models_{here.name}".replace("-", "_").replace("[", "").replace("]", "")
    (here / f"{name}.py").write_text(MODELS)
    return name


def test_a_model_of_one_s_own(models):
    found = {
        name: one_network(SpectrumOptions(model=f"{models}:{name}"), (2,), num_outputs=3)
        for name in ("layer", "with_params", "with_init")
    }
    assert found["layer"].layer.output_shape((2,)) == (3,)
    assert found["with_params"].params["w"].shape == (2, 1)
    assert found["with_init"].init(None)["w"].tolist() == [[2.0], [2.0]]
    limits = things(CompareOptions(), found.values(), ("finite", "infinite"))
    assert [name.partition(":")[2] for name in limits] == [
        "layer, finite",
        "layer, infinite",
        "with_params, finite",
        "with_init, finite",
    ]
    several = things(CompareOptions(), found.values(), ("finite",), num_runs=2)
    assert several[f"{models}:with_init, finite"] == (found["with_init"].f, found["with_init"].init)
    assert isinstance(several[f"{models}:with_params, finite"], nb.Kernel)


BAD_MODELS = {
    "wrong": "to return a Layer, (f, params) or (f, init) with params = init(key); got int.",
    "number": "Expected a function number in the module",
    "absent": "Expected a function absent in the module",
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_get_one_sentence(models, capsys, name):
    code, _, err = run(capsys, "spectrum", "--data", "circle", "--model", f"{models}:{name}")
    assert (code, len(err.splitlines())) == (2, 1)
    assert BAD_MODELS[name] in err


BAD_USES = {
    "several runs": (
        ["track", "--model", "{}:with_params", "--num-runs", "2"],
        "Expected --num-runs 1 for {}:with_params, which has parameters of its own; got 2.",
    ),
    "limit": (
        ["spectrum", "--model", "{}:with_params", "--limit", "infinite"],
        "Expected a Layer of ntkbias for the infinite limit; got a function from {}:with_params.",
    ),
    "exact": (["exact", "--model", "{}:with_params"], "Expected a Layer of ntkbias, which has an infinite limit; got"),
}


@pytest.mark.parametrize("name", BAD_USES)
def test_a_function_has_no_limit_and_no_seeds(models, capsys, name):
    words, message = BAD_USES[name]
    code, _, err = run(capsys, *(word.format(models) for word in words), "--data", "circle")
    assert (code, message.format(models) in err) == (2, True)


# What is refused, each by one sentence.

BAD = {
    "size twice": (
        ["spectrum", "--net", "mlp:8x2:16"],
        "Expected one size in --net mlp:8x2:16; got a second one, '16'",
    ),
    "depth of myrtle": (["spectrum", "--net", "myrtle5:8x2"], "Expected a width alone after myrtle5, as myrtle5:64;"),
    "readout": (
        ["compare", "--nets", "cnn:8x1:pol"],
        "Expected a size such as 64x2 or an activation or pool or flatten, each at most once, after cnn; got 'pol'. "
        "Perhaps you meant pool.",
    ),
    "readout of mlp": (
        ["spectrum", "--net", "mlp:pool"],
        "Expected a size such as 64x2 or an activation, each at most",
    ),
    "two activations": (["spectrum", "--net", "mlp:erf:relu"], "each at most once, after mlp; got 'relu'."),
    "comma": (["compare", "--width", "8,,16"], "expected a value before and after each comma"),
    "sweep of one": (
        ["spectrum", "--width", "8,16"],
        "Expected one value after --width of ntkbias spectrum; got 8, 16. Use ntkbias compare for several.",
    ),
    "limits": (["compare", "--limits", "both"], "Expected finite, infinite or both after --limits; got 'both'."),
    "no limits": (["compare", "--data", "circle", "--limits"], "Expected finite, infinite or both after --limits; got"),
    "model": (["track", "--model", "models.py"], "Expected --model to be module:function, as models:make; got"),
    "no module": (
        ["info", "--model", "nowhere_at_all:make"],
        "Expected --model nowhere_at_all:make to name a module that can be imported; got ModuleNotFoundError: No",
    ),
    "circle": (["spectrum", "--data", "circle:2"], "Expected circle without a number; got 'circle:2'."),
    "sphere": (
        ["spectrum", "--data", "sphere:x"],
        "Expected a whole number after sphere:, as sphere:3; got 'sphere:x'",
    ),
    "data": (["spectrum", "--data", "shere:3"], "got 'shere:3'. Perhaps you meant sphere."),
    "domain without option": (["learn", "sphere:3"], "got 'sphere:3'. Perhaps you meant --data sphere:3. See ntkbias"),
    "exact": (
        ["exact", "--data", "digits"],
        "Expected --data to be a domain for exact spectra, one of circle, torus:2",
    ),
    "degree": (["exact", "--max-degree", "-1"], "Expected --max-degree to be zero or more; got -1."),
    "sizes": (
        ["learn", "--data", "circle", "--sizes", "200,300"],
        "Expected --sizes with a number of at most half of the 256 inputs, which represent the whole distribution; got "
        "200, 300.",
    ),
    "no size": (["learn", "--data", "circle", "--sizes", "0"], "Expected --sizes to be at least 1; got 0."),
    "ridge": (["learn", "--data", "circle", "--ridge", "-1"], "Expected --ridge to be"),
    "noise": (["learn", "--data", "circle", "--noise", "-1"], "Expected --noise to be"),
    "targets": (
        ["compare", "--data", "circle", "--targets", "brightnes"],
        "Expected targets among labels, classes, values,",
    ),
    "runs": (["compare", "--data", "circle", "--num-runs", "0"], "Expected --num-runs to be at least 1; got 0."),
    "waves": (
        ["track", "--data", "sphere:5", "--num-examples", "12", "--width", "8"],
        "Expected enough inputs on sphere:5 for harmonics of degree 1; got 2. Choose a larger --num-examples.",
    ),
    "loss": (
        ["track", "--data", "sphere:3", "--loss", "logistic"],
        "Expected --loss mse on sphere:3, whose targets are waves; got logistic.",
    ),
    "report": (["report", "nowhere"], "Expected a run folder or a saved value at nowhere; there is none."),
    "report of none": (
        ["report", "."],
        "Expected the run folder of spectrum, compare or track at .; got one without a comparison or a history.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence(here, capsys, unchecked, name):
    arguments, message = BAD[name]
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("ntkbias: ")
    assert len(err.strip().splitlines()) == 1
    assert list(here.iterdir()) == []


def test_a_report_needs_a_comparison_or_a_history(here, capsys):
    nb.save("identity", nb.eigen.eigh(np.eye(3)))
    code, _, err = run(capsys, "report", "identity.npz")
    assert (code, "Expected a comparison or a history at identity; got Spectrum." in err) == (2, True)


# What a command leaves, and finds again.


def test_exact_prints_its_rows_and_the_predicted_decay(here, capsys):
    code, out, _ = run(capsys, "exact", "--data", "sphere:3", "--max-degree", "4")
    wanted = nb.exact_spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), nb.domains.Sphere(3), 4)
    assert (code, out.startswith(str(wanted))) == (0, True)
    assert "Predicted exponents of eigenvalue against frequency: even degrees -3.00, odd degrees -3.00." in out
    np.testing.assert_array_equal(nb.load("runs/latest/exact").eigenvalues, wanted.eigenvalues)


def test_a_finished_run_is_found_again(here, capsys):
    command = ["exact", "--data", "cube:4", "--depth", "1", "--max-degree", "4", "--out", "run"]
    code, first, _ = run(capsys, *command)
    before = {path.name: path.stat().st_mtime_ns for path in Path("run").iterdir()}
    code, again, _ = run(capsys, *command)
    assert code == 0
    assert again.splitlines()[:6] == first.splitlines()[:6]
    assert "Nothing was computed: run holds the finished results of the same settings." in again
    assert {path.name: path.stat().st_mtime_ns for path in Path("run").iterdir()} == before
    code, text, _ = run(capsys, "--config", "run/settings.json", "--json")
    found = json.loads(text)
    assert (code, found["command"], found["computed"], found["out"]) == (0, "exact", False, "run")
    np.testing.assert_array_equal(found["eigenvalues"], nb.load("run/exact").eigenvalues)
    page = (here / "run" / "report.html").read_text()
    assert "It learns first the functions of degree 0, with " in page
    assert page.count("<svg") == 1
    for changed in (["--overwrite"], ["--max-degree", "3"]):
        assert json.loads(run(capsys, *command, *changed, "--json")[1])["computed"]
    run(capsys, *command)
    (here / "run" / "table.txt").write_text("changed by hand")
    code, _, err = run(capsys, *command)
    assert (code, "got one that was changed since" in err) == (2, True)


def test_learn_ranks_functions_and_predicts_their_errors(here, capsys):
    np.savez("own.npz", x=np.random.default_rng(0).normal(size=(40, 3)), y=np.arange(40) % 2)
    command = ["learn", "--data", "own.npz", "--depth", "1", "--sizes", "5,20,100", "--out", "run"]
    code, out, _ = run(capsys, *command)
    assert code == 0
    assert out.startswith("Learnability: 7 targets, 1 kernel")
    assert "Predicted test error on n examples, as a share of the target's variance\ntarget" in out
    found = nb.load("run/learnability")
    assert set(found.targets) == {
        "labels",
        "class-0",
        "class-1",
        "random-labels",
        *(f"coordinate-{k}" for k in (1, 2, 3)),
    }
    assert out.index("coordinate-1") < out.index("random-labels")
    code, text, _ = run(capsys, *command, "--json")
    result = json.loads(text)
    assert (code, result["sizes"], result["computed"]) == (0, [5, 20], False)
    own = result["kernels"]["mlp, infinite"]
    assert own["coordinate-1"]["learning_time"]["value"] == pytest.approx(found["coordinate-1"].learning_time.value)
    assert own["labels"]["test_errors"] == pytest.approx(own["class-1"]["test_errors"])  # two classes are one function
    curve = nb.load("run/curves_mlp_infinite")
    assert curve.errors.shape == (2, 8)  # the labels have a column per class
    assert (here / "run" / "curves_mlp_infinite.svg").exists()
    page = (here / "run" / "report.html").read_text()
    first, second, *_ = found.ranking()
    time = found[first].learning_time
    assert f"In mlp, infinite, {first} has the shortest learning time, {time}, and half of it needs" in page
    assert f"; {second} follows with " in page


def test_learn_of_several_networks(here, capsys):
    command = ["learn", "--data", "cube:4", "--depth", "1,2", "--targets", "parity", "degree-1", "--sizes", "8"]
    code, out, _ = run(capsys, *command, "--json")
    assert code == 0
    assert list(json.loads(out)["kernels"]) == ["mlp, depth 1, infinite", "mlp, depth 2, infinite"]


def test_info_says_what_the_data_and_the_network_are(here, capsys):
    code, out, _ = run(capsys, "info", *SMALL, "--json")
    found = json.loads(out)
    assert (code, list(here.iterdir())) == (0, [])
    assert found["network"] == {
        "name": "mlp",
        "parameters": 64 * 16 + 16 + 16 + 1,
        "output shape": [1],
        "layer": nb.nets.mlp(16, 1, b_std=0.1).described(),
    }
    assert found["data"]["input shape"] == [8, 8, 1]
    assert "brightness" in found["data"]["named functions"]
    assert found["cost"]["kernel matrix"] == "40 by 40, 0.0 MB"
    assert found["cost"]["seconds of the kernel matrix, about"] > 0
    code, out, _ = run(capsys, "info", *SMALL)
    assert code == 0
    assert "  parameters: 1,057\n  output shape: 1\n" in out


def test_a_comparison_is_found_again_and_its_page_written_again(here, capsys, undrawn):
    command = ["compare", "--data", "circle", "--num-examples", "40", "--nets", "mlp:16x1,mlp:8x1", "--num-modes", "2"]
    command += ["--limits", "finite", "--num-runs", "2", "--out", "run"]
    code, out, _ = run(capsys, *command)
    comparison = nb.load("run/comparison")
    assert (code, [comparison[name].runs for name in comparison]) == (0, [2, 2])
    assert str(comparison.verdicts()) in out
    assert "\n40 inputs, 2 kernels, " in out
    code, out, _ = run(capsys, *command, "--json")
    result = json.loads(out)
    assert (code, list(result["kernels"]), result["computed"]) == (0, ["mlp:16x1, finite", "mlp:8x1, finite"], False)
    assert result["kernels"]["mlp:8x1, finite"]["frequencies"] == comparison.rankings[1].frequencies[:2].tolist()
    assert "trace" in result["kernels"]["mlp:8x1, finite"]["facts"]
    assert result["answer"] == comparison.answer()
    page = (here / "run" / "report.html").read_text()
    (here / "run" / "report.html").unlink()
    assert run(capsys, "report", "run")[0] == 0
    again = (here / "run" / "report.html").read_text()
    assert again.split("<h2", 1)[0] == page.split("<h2", 1)[0]  # below is the time at which it was written
    code, out, _ = run(capsys, "report", "run/comparison.json", "--out", "page", "--json")
    assert (code, json.loads(out)["out"]) == (0, "page")
    assert (here / "page" / "report.html").exists()


def test_a_run_with_a_model_of_one_s_own_is_computed_again(models, capsys, undrawn):
    command = ["spectrum", "--data", "circle", "--num-examples", "16", "--model", f"{models}:with_init", "--json"]
    for _ in range(2):
        assert json.loads(run(capsys, *command)[1])["computed"]


def test_the_default_learning_rate_lets_the_loss_fall():
    """At half of the critical rate, this loss rises at step 29, to 9 times its least value."""
    options = TrackOptions(data="circle", width=(64,), num_examples=64)
    task = tracking._task(options, inputs(options))
    network = one_network(options, (2,))
    params = initialized(options, network)
    rate = tracking._learning_rate(options, network, params, task.x)
    critical = nb.critical_learning_rate(nb.empirical_ntk(network.f, params, outputs="all"), task.x)
    assert rate == pytest.approx(critical / 8, rel=5e-3)

    def falls(rate):
        def step(params, _):
            loss = lambda p: jnp.mean((network.f(p, task.x)[:, 0] - task.y) ** 2) / 2  # noqa: E731
            value, gradient = jax.value_and_grad(loss)(params)
            return jax.tree.map(lambda p, g: p - rate * g, params, gradient), value

        return np.diff(jax.jit(lambda params: jax.lax.scan(step, params, length=100)[1])(params)) < 0

    assert falls(rate).all()
    assert not falls(critical / 2).all()


def test_a_finished_training_is_found_again_with_its_code(here, capsys, undrawn):
    command = ["track", "--data", "circle", *SMALL, "--num-steps", "12", "--num-snapshots", "4", "--probe", "20"]
    code, out, err = run(capsys, *command, "--learning-rate", "1e6", "--out", "run")
    assert (code, "stopped: " in out) == (3, True)
    again = run(capsys, *command, "--learning-rate", "1e6", "--out", "run")
    assert (again[0], again[2], "Nothing was computed" in again[1]) == (3, err, True)
    result = json.loads(run(capsys, *command, "--learning-rate", "1e6", "--out", "run", "--json")[1])
    assert (result["learning rate"], result["computed"]) == (1e6, False)
    assert result["stopped"] in err


# Options from files.


def test_settings_are_a_config_as_they_are(here):
    options = parsed(["compare", "--width", "8,16", "--nets", "mlp", "cnn:4", "--no-cache", "--measure", "graph"])
    from ntkbias.cli.inputs import settings

    (here / "settings.json").write_text(json.dumps(settings(options, "compare")))
    again = parsed(config.with_config(["compare", "--config", "settings.json"]))
    assert vars(again) == vars(options) | {"config": Path("settings.json")}
    assert parsed(config.with_config(["--config", "settings.json", "--seed", "3"])).seed == 3


BAD_SETTINGS = {
    "other command": (
        ["track", "--config", "a.json"],
        '{"command": "compare", "options": {}}',
        "Expected the settings of ntkbias track in a.json; got those of ntkbias compare.",
    ),
    "no settings": (["track", "--config", "a.json"], "[3]", "a.json has no command with its options."),
    "not JSON": (["track", "--config", "a.json"], "{", "Expected --config to be settings.json of a run; a.json cannot"),
    "flag": (["track", "--config", "a.toml"], "resume = 3", "Expected resume in a.toml to be true or false; got 3."),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_get_one_sentence(here, capsys, name):
    arguments, text, message = BAD_SETTINGS[name]
    Path(arguments[-1]).write_text(text)
    code, _, err = run(capsys, *arguments)
    assert (code, message in err, len(err.splitlines())) == (2, True, 1)


def test_lists_and_flags_of_a_config_file(here):
    Path("a.toml").write_text('width = [8, 16]\nnets = ["mlp"]\njson = true\ncache = false')
    options = parsed(config.with_config(["compare", "--config", "a.toml"]))
    assert (options.width, options.nets, options.json, options.cache) == ((8, 16), ("mlp",), True, False)


def test_named_functions_of_the_data():
    options = LearnOptions(num_examples=40)
    found = named(options, inputs(options), ())
    assert {"labels", "class-3", "brightness", "left-right", "random-labels"} <= found.keys()
    options = InfoOptions(data="cube:4")
    assert list(named(options, inputs(options), ("degrees", "parity"))) == [
        "degree-1",
        "degree-2",
        "degree-4",
        "parity",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        line
        for line in (DOCS / "command_line.md").read_text().splitlines()
        if line.startswith("ntkbias ") and "--folder" not in line and "PATH" not in line
    ],
)
def test_the_commands_of_the_page_run(here, capsys, command):
    """Each on few inputs and for few steps."""
    words = shlex.split(command)[1:]
    few = [] if words[0] in ("exact", "report") else ["--num-examples", "40"]
    few += ["--num-steps", "20", "--probe", "20"] if words[0] == "track" else []
    if words[0] == "report":
        assert run(capsys, "spectrum", "--data", "circle", *SMALL, "--out", words[1])[0] == 0
    (here / "models.py").write_text(MODELS.replace("def layer", "def make"))
    code, _, err = run(capsys, *words, *few)
    assert (code, err) == (0, "")
