"""A few cases of each kind from the bench of faults: nothing is lost or mixed, and a refusal is one sentence.

`python benchmarks/faults.py --count 200` runs all cases.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def found(kind, name, count, seed):
    """The event, verdict and reason of each case. Cases run in copies of a process in which JAX has not started."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "bench.py", kind, name, str(count), str(seed)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", f"{ROOT}/.jax_cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


FEW = [("kills", "track", 1), ("company", "track", 1), ("damages", "search", 2), ("kills", "store", 1)]
KINDS, SUBJECTS = ("kills", "company", "damages"), ("store", "track", "search", "command")
MANY = [(kind, name, 15) for kind in KINDS for name in SUBJECTS]


@pytest.mark.parametrize(
    ("kind", "name", "count"), [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in MANY)]
)
def test_nothing_is_lost_or_mixed(kind, name, count):
    cases = found(kind, name, count, seed=1)
    assert len(cases) >= count
    assert [case for case in cases if case[1] == "wrong"] == []
    if kind == "kills":
        assert {case[1] for case in cases} == {"survived"}
