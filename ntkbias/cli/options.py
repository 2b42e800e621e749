"""The options of each command: a class of several groups.

Importing this module loads neither JAX nor NumPy, so that a wrong option fails at once.

>>> from ntkbias.cli.options import COMMANDS
>>> COMMANDS["compare"]().limits
('finite', 'infinite')
"""

import dataclasses

from ntkbias.cli.groups import (
    CommonOptions,
    CurvesGroup,
    DataOptions,
    ExactGroup,
    LimitGroup,
    LimitsGroup,
    ModesGroup,
    NetworkGroup,
    NetworksGroup,
    ReportGroup,
    RunOptions,
    StudyGroup,
    TargetsGroup,
    TrainingGroup,
)

__all__ = [
    "COMMANDS",
    "GROUPS",
    "CompareOptions",
    "ExactOptions",
    "InfoOptions",
    "LearnOptions",
    "Options",
    "ReportOptions",
    "SpectrumOptions",
    "StudyOptions",
    "TrackOptions",
]


@dataclasses.dataclass(frozen=True)
class SpectrumOptions(RunOptions, ModesGroup, LimitGroup, NetworkGroup, DataOptions):
    """Compute the spectrum of one network's kernel and rank its modes by frequency."""


@dataclasses.dataclass(frozen=True)
class CompareOptions(RunOptions, ModesGroup, TargetsGroup, LimitsGroup, NetworksGroup, DataOptions):
    """Compare the spectra of several networks, at finite and infinite width."""


@dataclasses.dataclass(frozen=True)
class TrackOptions(RunOptions, TrainingGroup, NetworkGroup, DataOptions):
    """Train a network and follow its kernel: measures at snapshots, figures and a report."""


@dataclasses.dataclass(frozen=True)
class LearnOptions(RunOptions, CurvesGroup, TargetsGroup, NetworksGroup, DataOptions):
    """Predict which functions of the inputs networks learn first, and from how many examples."""


@dataclasses.dataclass(frozen=True)
class ExactOptions(RunOptions, NetworkGroup, ExactGroup):
    """Compute the exact spectrum of an infinitely wide network on a domain, without sampling."""


@dataclasses.dataclass(frozen=True)
class InfoOptions(CommonOptions, LimitGroup, NetworkGroup, DataOptions):
    """Show versions, device and memory, what the data and the network are, and what a spectrum would cost."""


@dataclasses.dataclass(frozen=True)
class ReportOptions(ReportGroup):
    """Write the page of saved results again."""


@dataclasses.dataclass(frozen=True)
class StudyOptions(RunOptions, StudyGroup):
    """Run a paper's experiment, and print each of its claims beside what was measured."""


Options = (
    SpectrumOptions
    | CompareOptions
    | TrackOptions
    | LearnOptions
    | ExactOptions
    | InfoOptions
    | ReportOptions
    | StudyOptions
)
COMMANDS: dict[str, type] = {
    "spectrum": SpectrumOptions,
    "compare": CompareOptions,
    "track": TrackOptions,
    "learn": LearnOptions,
    "exact": ExactOptions,
    "info": InfoOptions,
    "report": ReportOptions,
    "study": StudyOptions,
}
# The help shows one group after the other, by these names.
GROUPS: dict[type, dict[str, type]] = {
    SpectrumOptions: {
        "data": DataOptions,
        "network": NetworkGroup,
        "limit": LimitGroup,
        "mode": ModesGroup,
        "run": RunOptions,
    },
    CompareOptions: {
        "data": DataOptions,
        "network": NetworksGroup,
        "kernel": LimitsGroup,
        "target": TargetsGroup,
        "mode": ModesGroup,
        "run": RunOptions,
    },
    TrackOptions: {"data": DataOptions, "network": NetworkGroup, "training": TrainingGroup, "run": RunOptions},
    LearnOptions: {
        "data": DataOptions,
        "network": NetworksGroup,
        "target": TargetsGroup,
        "prediction": CurvesGroup,
        "run": RunOptions,
    },
    ExactOptions: {"domain": ExactGroup, "network": NetworkGroup, "run": RunOptions},
    InfoOptions: {"data": DataOptions, "network": NetworkGroup, "limit": LimitGroup, "run": CommonOptions},
    ReportOptions: {"page": ReportGroup},
    StudyOptions: {"study": StudyGroup, "run": RunOptions},
}
