"""What an agent keeps to unless it is told otherwise. Imports nothing: the command line reads its defaults here."""

from __future__ import annotations

PORT = 8421
LIMIT_S = 120.0  # for one measurement
MAX_BODY = 256 << 20  # bytes of a model
MAX_ERROR = 300  # characters of an error
