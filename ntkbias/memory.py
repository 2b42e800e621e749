"""Memory budgets: the bytes that a user allows, or a share of the device's memory.

>>> from ntkbias.memory import checked_memory_budget, default_memory_budget
>>> checked_memory_budget(2**20), checked_memory_budget(None) == default_memory_budget() > 0
(1048576, True)
"""

import os
from pathlib import Path

import jax

from ntkbias.checks import require_positive

__all__ = ["checked_memory_budget", "default_memory_budget"]

SHARE = 0.25  # of a device's memory for one block, whose temporaries and result have to fit beside it


def checked_memory_budget(memory_budget: int | None) -> int:
    """Return the user's number of bytes, or the default for None. Raises `InputError` unless it is one or more."""
    if memory_budget is None:
        return default_memory_budget()
    require_positive("memory_budget (bytes)", memory_budget)
    return memory_budget


def default_memory_budget() -> int:
    """The bytes that the factors of one block may take: a quarter of the memory of the device, or of this machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")  # the limit of a container, on Linux
    if not stats and limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return int(SHARE * total)
