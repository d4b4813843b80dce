"""Files that are whole or absent, and the folder for what can be made again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a power cut, sees the old content or the new, never a part."""
    data = content.encode() if isinstance(content, str) else content
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


def cache_folder(kind: str) -> Path:
    """``$NAS_CACHE/kind`` (default ``~/.cache/nas/kind``), made if absent: latency tables, decoded images."""
    root = os.environ.get("NAS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas"
    folder = Path(root) / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
