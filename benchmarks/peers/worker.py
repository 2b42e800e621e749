"""The loop of a process that measures: one JSON command per line on stdin, one JSON answer per line on stdout.

    {"do": "methods", "case": {...}}            -> {"methods": ["...", ...]}
    {"do": "prepare", "case": {...}, "data": "x.npz", "method": "...", "result": "k.npy"}
                                                -> {"seconds": ..., "parts": {...}, "first": ..., "peak_bytes": ...}
    {"do": "measure", "method": "..."}          -> {"seconds": ..., "parts": {...}}
    {"do": "forget"}                            drop everything that is prepared

"prepare" compiles, runs once, writes the result, and runs again to measure the memory. A call can reuse memory that the
previous call freed within the process, and would then seem to need none. So the largest of several calls counts.
"measure" repeats short work. Between commands, the process waits on stdin. An error is an answer, {"error": "..."}.
"""

import ctypes
import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Case

PEAKS, BRIEF = 5, 1.0  # the number of calls whose peak memory is measured, if each takes at most so many seconds
SHORTEST = 0.05  # the least seconds of a measurement: shorter work is repeated


class Part(NamedTuple):
    """A function to time, which returns when its result is ready. Its time is multiplied by `count`."""

    run: Callable[[], Any]
    count: float = 1.0


class Work(NamedTuple):
    """A method on a case. If it has a result, it has one part, and `array` turns its result into an array."""

    parts: dict[str, Part]
    array: Callable[[Any], np.ndarray] | None = None


def serve(versions: dict[str, str], methods: Callable[[Any], list[str]], make: Callable, case: type = Case) -> None:
    """Answer commands until stdin ends. `make(case, path of the data, method)` returns the work; `case` is a type."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that the output of libraries is not taken for an answer
    prepared: dict[str, tuple[Work, dict[str, int]]] = {}
    print(json.dumps({"versions": versions}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = _answer(command, methods, make, case, prepared)
        except Exception as error:  # any error of a peer is a result of the benchmark
            reason = (str(error).strip() or "no message").splitlines()[0]
            answer = {"error": f"{type(error).__name__}: {reason[:160]}"}
        print(json.dumps(answer), file=answers)


def _answer(command: dict, methods: Callable, make: Callable, case: type, prepared: dict) -> dict:
    if command["do"] == "methods":
        return {"methods": methods(case(**command["case"]))}
    if command["do"] == "forget":
        prepared.clear()
        gc.collect()
        return {}
    name = command["method"]
    if command["do"] == "measure":
        return _measure(*prepared[name])
    work = make(case(**command["case"]), command["data"], name)
    start = time.perf_counter()
    results = [part.run() for part in work.parts.values()]
    first = time.perf_counter() - start
    if work.array:
        np.save(command["result"], work.array(results[0]))
    del results
    answer, peaks = {}, []
    while len(peaks) < PEAKS and not answer.get("seconds", 0) > BRIEF:
        before = _start_of_peak()
        answer = _measure(work, dict.fromkeys(work.parts, 1))
        peaks.append(None if before is None else _memory("VmHWM") - before)
    answer["first"] = first  # with compilation
    answer["peak_bytes"] = None if peaks[0] is None else max(peaks)
    repeats = {label: max(1, min(100, int(SHORTEST / seconds))) for label, seconds in answer.pop("once").items()}
    prepared[name] = (work, repeats)
    return answer


def _measure(work: Work, repeats: dict[str, int]) -> dict:
    once = {label: _seconds(part.run, repeats[label]) for label, part in work.parts.items()}
    parts = {label: work.parts[label].count * seconds for label, seconds in once.items()}
    return {"seconds": sum(parts.values()), "parts": parts, "once": once}


def _seconds(run: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def _start_of_peak() -> int | None:
    """Return freed memory to the system, reset the recorded peak, and return the memory in use. Only on Linux."""
    gc.collect()
    if shutil.which("nvidia-smi"):  # the arrays are in device memory
        return None
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _memory("VmRSS")
    except (OSError, AttributeError):
        return None


def _memory(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{key}:"))
