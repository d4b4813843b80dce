"""A JSON file of a run folder, bounded and of a known schema; loads no heavy library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.system.errors import InputError

MAX_JSON_BYTES = 64 << 20


def load_json(path: Path, remedy: str, *schemas: int, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object of a JSON file with one of these schemas.

    Args:
        path: of the file.
        remedy: what to do if it cannot be read.
        schemas: that are read.
        most: size of the file, in bytes.

    Raises:
        InputError: the file is too large, no such object, or of another schema.
    """
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path}: at most {most} bytes; {remedy}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: broken JSON ({error.msg}); {remedy}") from None
    except (UnicodeDecodeError, RecursionError):
        raise InputError(f"{path}: not JSON text; {remedy}") from None
    found = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(data, dict) or found not in schemas:
        raise InputError(f"{path}: this program reads schema {max(schemas)}, got {found!r:.40}; {remedy}")
    return data
