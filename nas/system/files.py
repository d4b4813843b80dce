"""Files that are either complete or absent, and the cache folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nas.system.errors import InputError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file in one step: a reader, or a power cut, finds the old content or the new, never a part of it."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content  # names of files
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def cache_root() -> Path:
    """The cache folder, which may not exist: ``$NAS_CACHE``, else ``$XDG_CACHE_HOME/nas``, else ``~/.cache/nas``."""
    own = os.environ.get("NAS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas"


def cache_folder(kind: str) -> Path:
    """The folder of one kind of cache entry (`nas.system.cache.KINDS`), created if absent.

    Raises:
        InputError: it cannot be created.
    """
    folder = cache_root() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"cannot use the cache folder {folder}: {error.strerror}; set NAS_CACHE to a folder you can write to"
        raise InputError(text) from None
    return folder
