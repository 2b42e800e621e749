"""Measure a network's kernel during training. A `History` holds the values at chosen steps."""

from ntkbias.tracking import measures
from ntkbias.tracking.checkpoint import open_history
from ntkbias.tracking.history import History
from ntkbias.tracking.measures import Measure
from ntkbias.tracking.path import path_spectrum
from ntkbias.tracking.probe import Probe
from ntkbias.tracking.running import track
from ntkbias.tracking.setting import Setting
from ntkbias.tracking.several import track_many
from ntkbias.tracking.snapshot import Snapshot
from ntkbias.tracking.snapshots import track_snapshots

__all__ = [
    "History",
    "Measure",
    "Probe",
    "Setting",
    "Snapshot",
    "measures",
    "open_history",
    "path_spectrum",
    "track",
    "track_many",
    "track_snapshots",
]


def __dir__() -> list[str]:
    return sorted(__all__)
