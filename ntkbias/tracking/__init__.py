"""Follow a network's kernel through training: measures at chosen steps, stacked to a `History`."""

from ntkbias.tracking import measures
from ntkbias.tracking.checkpoint import open_history
from ntkbias.tracking.history import History
from ntkbias.tracking.path_measures import path_spectrum
from ntkbias.tracking.snapshot import Setting, Snapshot
from ntkbias.tracking.track import track, track_many

__all__ = ["History", "Setting", "Snapshot", "measures", "open_history", "path_spectrum", "track", "track_many"]
