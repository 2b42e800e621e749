"""What each test costs: a pytest plugin that counts processor time and compiled programs.

`make test` loads it. It prints the ten slowest tests and the totals of the run, and with `--costs FILE` writes all of
them as JSON. With `--most-processor-time SECONDS` the run fails when all processes together took more.
"""

import json
import os
import time
from pathlib import Path

import pytest

# Events of jax.monitoring: the time that a program takes to trace, to lower and to compile.
_TRACE = "/jax/core/compile/jaxpr_trace_duration"
_LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"

_KEPT = pytest.StashKey["Costs"]()


def pytest_addoption(parser):
    group = parser.getgroup("costs")
    group.addoption("--costs", type=Path, help="write the costs of each test to this JSON file")
    group.addoption("--most-processor-time", type=float, help="fail when the run takes more seconds of processor time")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(_Worker(config), "costs-worker")
    else:
        if not config.getoption("numprocesses", None):
            config.pluginmanager.register(_Worker(config), "costs-worker")
        config.pluginmanager.register(_Summary(config), "costs-summary")


class _Worker:
    """Measures the tests of one process, and sends what it finds with each report."""

    def __init__(self, config):
        import jax

        self.config = config
        self.events = dict.fromkeys((_TRACE, _LOWER, _COMPILE), 0.0)
        self.programs = 0
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event, seconds, **_):
        if event in self.events:
            self.events[event] += seconds
            self.programs += event == _COMPILE

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.before = time.process_time(), self.programs, dict(self.events), _children()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if call.when == "teardown":
            processor, programs, events, children = self.before
            cost = {
                "processor": time.process_time() - processor + _children() - children,
                "programs": self.programs - programs,
                **{name.split("/")[-1]: self.events[name] - events[name] for name in events},
            }
            report.user_properties.append(("cost", cost))
        return report

    def pytest_sessionfinish(self):
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["processor"] = time.process_time() + _children()


class _Summary:
    """Gathers the costs of all processes, and prints them at the end."""

    def __init__(self, config):
        self.config = config
        self.costs = {}
        self.workers = 0.0
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            self.costs[report.nodeid] = dict(report.user_properties).get("cost", {})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.workers += getattr(node, "workeroutput", {}).get("processor", 0.0)

    def processor(self):
        """Seconds of processor time of this process and of all workers."""
        return time.process_time() + (self.workers or _children())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        most = self.config.getoption("most_processor_time")
        if most and self.processor() > most and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if path := self.config.getoption("costs"):
            path.write_text(json.dumps({"processor": self.processor(), "tests": self.costs}, indent=1))

    def pytest_terminal_summary(self, terminalreporter):
        write = terminalreporter.write_line
        terminalreporter.section("ten slowest tests, by processor time")
        slowest = sorted(self.costs.items(), key=lambda item: -item[1].get("processor", 0.0))[:10]
        for name, cost in slowest:
            write(f"{cost['processor']:6.1f} s {cost['programs']:5d} programs  {name}")
        programs = sum(cost.get("programs", 0) for cost in self.costs.values())
        total = self.processor()
        write(
            f"{len(self.costs)} tests: {total:.0f} s of processor time, {time.monotonic() - self.began:.0f} s on the "
            f"clock, {programs} programs compiled"
        )
        most = self.config.getoption("most_processor_time")
        if most and total > most:
            write(f"Expected at most {most:.0f} s of processor time; got {total:.0f}. Make the slowest tests cheaper.")


def _children():
    """Seconds of processor time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system
