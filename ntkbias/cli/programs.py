"""Compiled programs that one command leaves to the next: JAX's persistent cache in the user's cache folder.

>>> from ntkbias.cli.programs import folder
>>> folder().name
'programs'
"""

import os
from pathlib import Path

import jax
import platformdirs

__all__ = ["folder", "keep"]

MOST_BYTES = 2**28  # of all programs; beyond, JAX removes those that were not used for longest


def folder() -> Path:
    """Where the programs are; an absolute XDG_CACHE_HOME changes it on Linux, a relative one is ignored.

    That is what the XDG Base Directory Specification says of relative paths.
    """
    path = platformdirs.user_cache_path("ntkbias")
    return (path if path.is_absolute() else Path.home() / ".cache" / "ntkbias") / "programs"


def keep() -> None:
    """Take programs from the folder, and leave new ones there; without one that can be written do nothing.

    A cache that the user has set for JAX stays as it is. In Python the same is
    `jax.config.update("jax_compilation_cache_dir", path)`, and the two options below for programs of any size.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    path = folder()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
