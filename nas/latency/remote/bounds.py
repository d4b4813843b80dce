"""Defaults and bounds of an agent. Imports nothing, because the command line reads its defaults here."""

from __future__ import annotations

PORT = 8421
LIMIT_S = 120.0  # of one measurement
MAX_BODY = 256 << 20  # bytes of a model
TOKEN_VARIABLE = "NAS_AGENT_TOKEN"  # environment variable that holds the token
MAX_ERROR = 300  # characters of an error
