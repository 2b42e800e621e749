"""How much memory a kernel may take when nobody says.

>>> from ntkbias.memory import default_memory_budget
>>> default_memory_budget() > 0
True
"""

import os
from pathlib import Path

import jax

__all__ = ["default_memory_budget"]

SHARE = 0.25  # of a device's memory, for one block: its temporaries and the result have to fit beside it


def default_memory_budget() -> int:
    """Bytes that the factors of one block may take: a quarter of the memory of the device, or of this machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own limit, on Linux
    if not stats and limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return int(SHARE * total)
