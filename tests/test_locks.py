"""Claims to files: errors name the holder, and the part of a dead process is free."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from ntkbias import claims
from ntkbias.claims import alone, claim, claimed, holder
from ntkbias.errors import InputError

HOLD = """
import os, pathlib, sys, time
from ntkbias.claims import claim
held = claim(pathlib.Path({path!r}))
if {forks}:
    held.file.flush()
    if os.fork():
        os.write(1, b"%d\\n" % os.getpid())
        os._exit(0)
os.write(1, b"%d\\n" % os.getpid())  # the number with its line end in one write: two processes share the pipe
time.sleep(60)
"""


@pytest.fixture
def holding(tmp_path):
    """A process that has claimed "run", and its number. With `forks`, it has ended, and its child lives on."""
    started = []

    def start(forks=False):
        script = HOLD.format(path=str(tmp_path / "run"), forks=forks)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        numbers = {int(process.stdout.readline()) for _ in range(2 if forks else 1)}
        if forks:
            process.wait()
        started.extend(numbers - {process.pid} if forks else numbers)
        return process

    yield start
    for number in started:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_the_error_names_the_holder(tmp_path, holding):
    process = holding()
    with pytest.raises(InputError) as caught, alone(tmp_path / "run", tmp_path):
        pass
    name = f"process {process.pid} on {socket.gethostname()}"
    assert str(caught.value) == f"Expected {tmp_path} to be free; {name} is using it. Choose another path."
    assert claim(tmp_path / "run") is None


def test_the_lock_of_a_killed_process_does_not_count(tmp_path, holding):
    process = holding()
    process.kill()
    process.wait()
    assert str(process.pid) in (tmp_path / "run.part").read_text()
    with alone(tmp_path / "run", tmp_path):
        assert str(os.getpid()) in (tmp_path / "run.part").read_text()
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_a_child_that_holds_the_lock(tmp_path, holding):
    process = holding(forks=True)
    expected = f"a process that process {process.pid} on {re.escape(socket.gethostname())} had started before it ended"
    with pytest.raises(InputError, match=expected), alone(tmp_path / "run", tmp_path):
        pass


def test_threads_exclude_one_another(tmp_path):
    with alone(tmp_path / "run", tmp_path):
        assert holder(tmp_path / "run") == "another thread of this process"
        with claimed(tmp_path / "run") as second:
            assert second is None


def test_an_unsigned_claim_counts(tmp_path, monkeypatch):
    """On a full disk the name cannot be written, but the lock holds."""
    monkeypatch.setattr(claims.Claim, "sign", lambda claim: None)
    with alone(tmp_path / "run", tmp_path), pytest.raises(InputError, match="to be free; another process is using it"):
        alone(tmp_path / "run", tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []
