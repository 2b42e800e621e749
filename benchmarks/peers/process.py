"""A process that measures in its own environment, and a description of this machine."""

import json
import os
import platform
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path

PEERS = Path(__file__).resolve().parents[2] / ".peers"
# On a GPU, several processes share the device, and all compute in full float32.
ENV = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "float32"}
MEMORY = 0.5  # of this machine's memory: a process that takes more is ended


class Worker:
    """A process that measures. It starts when it is first asked, and again after it has died."""

    def __init__(self, name: str, python: Path, script: str, log: Path) -> None:
        self.name, self.command, self.log = name, [str(python), str(Path(__file__).parent / script)], log
        self.versions: dict[str, str] = {}
        self.process: subprocess.Popen | None = None
        self.answers: queue.Queue = queue.Queue()
        self.starts = 0

    def start(self) -> dict:
        """Start the process, and return its first answer: its versions, or an error."""
        self.starts += 1
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, env=ENV
            )
        self.answers = queue.Queue()
        threading.Thread(target=_read, args=(self.process.stdout, self.answers), daemon=True).start()
        answer = self._answer(120.0)
        self.versions = answer.get("versions", {})
        return answer

    def ask(self, limit: float, **command: object) -> dict:
        """The answer to a command, or an error if it takes too long or too much memory, or if the process dies."""
        if self.process is None and "error" in (answer := self.start()):
            return answer
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
        except OSError:
            return self._ended("the process died")
        return self._answer(limit)

    def stop(self) -> None:
        """End the process; the next command starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answer(self, limit: float) -> dict:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                line = self.answers.get(timeout=0.1)
            except queue.Empty:
                if _resident(self.process.pid) > MEMORY * memory():
                    return self._ended("out of memory: took more than half of the machine's")
                continue
            return json.loads(line) if line else self._ended("the process died")
        return self._ended(f"out of time: more than {limit:.0f} s")

    def _ended(self, reason: str) -> dict:
        died = reason == "the process died"
        self.stop()
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:] if died else []
        return {"error": f"{reason}: {last[0][:160]}" if last else reason}


def _read(stream: object, answers: queue.Queue) -> None:
    for line in stream:
        answers.put(line)
    answers.put("")


def memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _resident(pid: int) -> int:
    """The memory of a process in bytes; zero if the system does not report it."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def machine() -> str:
    """The processor, its number of cores, and the GPU if there is one."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    found = f"{model}, {os.cpu_count()} cores, {memory() / 2**30:.0f} GiB"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()
        found = ", ".join([*names, found])
    return found
