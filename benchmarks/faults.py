"""Faults: kills at random moments, two processes in one folder, and damaged files.

    python benchmarks/faults.py                  # 10 of each, a few minutes
    python benchmarks/faults.py --count 200      # an hour or more on two cores

After each fault in a store, a training run, a search or a command, the same call is repeated. Each row counts the cases
in which that call gave the right result bit for bit ("survived"), was refused in one sentence ("refused"), or did
anything else ("wrong"). The last column must be zero; every wrong case is printed. The bench itself is in
`tests/faults`.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "faults")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.gettempdir() + "/ntkbias-faults-cache")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import bench  # noqa: E402
from subjects import SUBJECTS  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10, help="cases of each kind and subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=bench.KINDS, default=bench.KINDS)
    parser.add_argument("--subjects", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    options = parser.parse_args()
    began, wrong = time.perf_counter(), []
    print(f"{'kind':10}{'of':10}{'cases':>8}{'survived':>10}{'refused':>10}{'wrong':>8}", flush=True)
    for kind in options.kinds:
        for name in options.subjects:
            found = list(bench.cases(kind, name, options.count, options.seed))
            counts = Counter(verdict for _, verdict, _ in found)
            numbers = f"{len(found):8}{counts['survived']:10}{counts['refused']:10}{counts['wrong']:8}"
            print(f"{kind:10}{name:10}{numbers}", flush=True)
            wrong += [(kind, name, *case) for case in found if case[1] == "wrong"]
    for case in wrong:
        print("WRONG:", *case)
    print(f"{time.perf_counter() - began:.0f} s, seed {options.seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
