"""Atomic writing of files (`writing.py`), and safe reading of files that may be damaged (`reading.py`)."""

from ntkbias.files.reading import (
    MOST_TEXT,
    Unreadable,
    opened,
    read_array,
    read_arrays,
    read_bytes,
    read_json,
    unreadable,
)
from ntkbias.files.writing import (
    PART,
    StorageError,
    checked_path,
    in_turn,
    put,
    reason_of,
    storage_errors,
    sync,
    sync_folder,
    write,
    write_arrays,
)

__all__ = [
    "MOST_TEXT",
    "PART",
    "StorageError",
    "Unreadable",
    "checked_path",
    "in_turn",
    "opened",
    "put",
    "read_array",
    "read_arrays",
    "read_bytes",
    "read_json",
    "reason_of",
    "storage_errors",
    "sync",
    "sync_folder",
    "unreadable",
    "write",
    "write_arrays",
]
