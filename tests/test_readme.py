"""What the README shows runs as it is written."""

import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt

from ntkbias.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    plt.close("all")
    out = capsys.readouterr().out
    assert out.startswith("[0. 1. 1. 2. 2. 3. 3.]")
    assert "(64, 10, 64, 10)" in out
    assert (tmp_path / "circle.npz").exists()


def test_the_first_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = next(line for line in README.splitlines() if line.startswith("ntkbias spectrum"))
    assert main(shlex.split(command)[1:]) == 0
    assert "runs/latest/report.html" in capsys.readouterr().out
