"""Compiled programs that later commands reuse: JAX's persistent cache in the user's cache folder.

>>> from ntkbias.cli.programs import folder
>>> folder().name
'programs'
"""

import os
from pathlib import Path

import jax
import platformdirs

__all__ = ["enable_cache", "folder"]

MOST_BYTES = 2**28  # for all programs; above it, JAX removes the least recently used ones


def folder() -> Path:
    """The folder of the compiled programs. On Linux, an absolute XDG_CACHE_HOME changes it.

    A relative one is ignored, as the XDG Base Directory Specification says.
    """
    path = platformdirs.user_cache_path("ntkbias")
    return (path if path.is_absolute() else Path.home() / ".cache" / "ntkbias") / "programs"


def enable_cache() -> None:
    """Make JAX load compiled programs from `folder()` and store new ones there.

    Does nothing if the folder cannot be written, or if the user has already set a cache for JAX. To do the same in
    Python, call `jax.config.update("jax_compilation_cache_dir", path)`; the last two options below also store small
    programs and those that compile fast.
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
