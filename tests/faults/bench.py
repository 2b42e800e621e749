"""The bench of faults. Each case disturbs some work, and then repeats the same call.

    kills               the process is killed
    company             a second process works in the same folder
    damages             a file is damaged

The verdict on the repeated call is one of

    survived            the right result, bit for bit
    refused             one sentence from this package's own errors
    wrong               anything else: other values, another exception, or no end

All work runs in copies of this process in which JAX has not started. As a script, this file prints one JSON line per
case: `python bench.py kills track 5`.
"""

import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from damages import DAMAGES
from subjects import SUBJECTS, Result

from ntkbias.errors import InputError, InputTypeError

CALLS = "fsync", "replace", "unlink", "mkdir", "open"  # functions of `os`; a process may end before or after a call
PATIENCE = 120.0  # seconds, after which work that has not ended counts as wrong
COMPANY = 4.0  # seconds that a second process may wait for a stopped one
STOPPED = "stopped"


class Outcome(NamedTuple):
    """The end of one process: "done" with its result, "refused" with the sentence, "failed" or "killed"."""

    kind: str
    text: str = ""
    result: Result | None = None


class Worker:
    """A copy of this process that works in a folder. At moment number `at`, it sends itself the signal `what`."""

    def __init__(self, work: Callable[[], Result], path: Path, at: int | None = None, what: int = signal.SIGKILL):
        self.path = path
        self.path.unlink(missing_ok=True)
        self.number = os.fork()
        if self.number == 0:
            self._work(work, at, what)

    def _work(self, work: Callable[[], Result], at: int | None, what: int) -> None:
        moments: list[int] = []
        for name in CALLS:
            _with_moments(name, moments, at, what)
        warnings.simplefilter("ignore")
        try:
            outcome = Outcome("done", str(len(moments)), work())
            outcome = outcome._replace(text=str(len(moments)))
        except (InputError, InputTypeError) as error:
            outcome = Outcome("refused", str(error))
        except BaseException:
            outcome = Outcome("failed", traceback.format_exc())
        moments.extend([0] * 10**6)  # past `at`: no signal from here on
        self.path.write_bytes(pickle.dumps(outcome))
        os._exit(0)

    def wait(self, seconds: float = PATIENCE) -> str:
        """The state of the process after at most so many seconds: "ended", "stopped" or "running"."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            number, status = os.waitpid(self.number, os.WNOHANG | os.WUNTRACED)
            if number:
                return STOPPED if os.WIFSTOPPED(status) else "ended"
            time.sleep(0.01)
        return "running"

    def end(self) -> Outcome:
        """Wait for the outcome. A process that does not end is killed, and counts as failed."""
        if self.wait() != "ended":
            os.kill(self.number, signal.SIGKILL)
            os.waitpid(self.number, 0)
            return Outcome("failed", f"it had not ended after {PATIENCE} s")
        return pickle.loads(self.path.read_bytes()) if self.path.exists() else Outcome("killed")


def _with_moments(name: str, moments: list[int], at: int | None, what: int) -> None:
    """Count two moments per call of a function of `os`, before and after. At moment `at`, signal this process."""
    function = getattr(os, name)

    def moment() -> None:
        moments.append(0)
        if len(moments) == at:
            os.kill(os.getpid(), what)

    def call(*arguments: Any, **options: Any) -> Any:
        moment()
        result = function(*arguments, **options)
        moment()
        return result

    setattr(os, name, call)


@contextlib.contextmanager
def folders() -> Iterator[tuple[Path, Path]]:
    """A new folder to work in, and the path of a file beside it for the outcome."""
    parent = Path(tempfile.mkdtemp(prefix="faults-"))
    (parent / "work").mkdir()
    try:
        yield parent / "work", parent / "outcome"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def verdict(outcome: Outcome, expected: Result, *, part: bool = False) -> tuple[str, str]:
    """The verdict ("survived", "refused" or "wrong") and the reason. With `part`, a result may be the first rows."""
    if outcome.kind == "refused":
        return ("refused", outcome.text) if outcome.text.startswith("Expected ") else ("wrong", outcome.text)
    if outcome.kind != "done" or outcome.result is None:
        return "wrong", f"{outcome.kind}: {outcome.text}"
    for name in expected:
        found, wanted = outcome.result.get(name), expected[name]
        if found is not None and part:
            wanted = wanted[: len(found)]
        if found is None or not np.array_equal(found, wanted, equal_nan=True):
            return "wrong", f"other values of {name}"
    return "survived", ""


class Bench:
    """The cases of one subject, compared with the result of undisturbed work."""

    def __init__(self, name: str, seed: int = 0):
        self.name, self.subject, self.draws = name, SUBJECTS[name], random.Random(seed)
        self.undisturbed = Path(tempfile.mkdtemp(prefix="faults-undisturbed-"))
        outcomes = {}
        for other in (False, True):
            folder = self.undisturbed / str(other)
            folder.mkdir()
            began = time.monotonic()
            outcomes[other] = Worker(self._work(folder, other), self.undisturbed / "outcome").end()
            self.seconds = time.monotonic() - began
            if outcomes[other].result is None:
                raise RuntimeError(outcomes[other].text)
        self.expected = {other: outcome.result for other, outcome in outcomes.items()}
        self.moments = int(outcomes[False].text)

    def close(self) -> None:
        """Remove the folders of the undisturbed work."""
        shutil.rmtree(self.undisturbed, ignore_errors=True)

    def _work(self, folder: Path, other: bool = False) -> Callable[[], Result]:
        return lambda: self.subject.run(folder, other)

    def kill(self) -> tuple[str, str, str]:
        """Kill the work once or twice, at a disk operation or after some seconds. Then repeat the call."""
        with folders() as (folder, result):
            events = []
            for _ in range(self.draws.choice((1, 1, 2))):
                if self.draws.random() < 0.7:
                    at = self.draws.randint(1, self.moments)
                    Worker(self._work(folder), result, at).end()
                    events.append(f"moment {at}")
                else:
                    seconds = self.draws.uniform(0.4, 1.0) * self.seconds  # earlier, nothing is on disk
                    worker = Worker(self._work(folder), result)
                    if worker.wait(seconds) != "ended":
                        os.kill(worker.number, signal.SIGKILL)
                        os.waitpid(worker.number, 0)
                    events.append(f"{seconds:.2f} s")
            found = verdict(Worker(self._work(folder), result).end(), self.expected[False])
            return f"killed at {' and '.join(events)}", *found

    def company(self) -> tuple[str, str, str]:
        """Stop the work at a disk operation and start a second process. Let both finish, and repeat the call."""
        with folders() as (folder, result):
            at, other = self.draws.randint(1, self.moments), self.draws.random() < 0.5
            first = Worker(self._work(folder), result.with_name("first"), at, signal.SIGSTOP)
            first_stopped = first.wait() == STOPPED
            second = Worker(self._work(folder, other), result.with_name("second"))
            second_waited = second.wait(COMPANY) == "running"
            if first_stopped:
                os.kill(first.number, signal.SIGCONT)
            event = f"at moment {at}, {'another problem' if other else 'the same problem'} started"
            outcomes = []
            if not second_waited:
                outcomes.append((_outcome_of(second), other))
            outcomes.append((first.end() if first_stopped else _outcome_of(first), False))
            if second_waited:
                outcomes.append((second.end(), other))
            outcomes.append((Worker(self._work(folder), result).end(), False))
            found = [verdict(outcome, self.expected[of]) for outcome, of in outcomes]
            if other and [kind for kind, _ in found].count("survived") > 2 and self.name != "search":
                return event, "wrong", "two problems were both finished in one folder"
            return event, *min(found, key=lambda pair: ("wrong", "refused", "survived").index(pair[0]))

    def damage(self, path: Path, name: str, finished: bool = True) -> list[tuple[str, str, str]]:
        """Damage one file of a finished folder. Then read the folder, and repeat the call."""
        found = []
        for read in (True, False) if self.subject.read is not None else (False,):
            with folders() as (folder, result):
                shutil.copytree(self.undisturbed / "False", folder, dirs_exist_ok=True)
                DAMAGES[name](folder / path, self.undisturbed / "True" / path)
                work = (lambda folder=folder: self.subject.read(folder)) if read else self._work(folder)
                kind = verdict(Worker(work, result).end(), self.expected[False], part=read)
                found.append((f"{path}: {name}, then {'read' if read else 'called again'}", *kind))
        return found

    def files(self) -> list[Path]:
        """The files of the finished folder."""
        folder = self.undisturbed / "False"
        return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())

    def damages(self, count: int | None = None) -> Iterator[tuple[str, str, str]]:
        """Every damage to every file, or `count` of them, chosen at random."""
        cases = [(path, name) for path in self.files() for name in DAMAGES]
        for path, name in cases if count is None else self.draws.sample(cases, min(count, len(cases))):
            yield from self.damage(path, name)


def _outcome_of(worker: Worker) -> Outcome:
    """The outcome of a worker that has ended."""
    return pickle.loads(worker.path.read_bytes()) if worker.path.exists() else Outcome("killed")


def cases(kind: str, name: str, count: int, seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """The event, the verdict and the reason of `count` cases of one kind: "kills", "company" or "damages"."""
    bench = Bench(name, seed)
    try:
        if kind == "damages":
            yield from bench.damages(count)
        else:
            for _ in range(count):
                yield bench.kill() if kind == "kills" else bench.company()
    finally:
        bench.close()


KINDS = "kills", "company", "damages"

if __name__ == "__main__":
    for case in cases(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 0):
        print(json.dumps(case), flush=True)
