"""A worker process of `ProcessExecutor`: gets an evaluator once, then networks, and answers each."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from multiprocessing.connection import Connection

from nas.training.evaluate import guarded


def serve(descriptor: int) -> None:
    """Answer on the inherited socket until it closes.

    Messages are pickles from and to the process that started this one: first the evaluator, then ``(arch, seed, stop)``
    each;
    back go ``("ready", None)`` or ``("broken", text)``, then ``("done", Evaluation)`` each.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    channel = Connection(descriptor)
    try:
        evaluator = pickle.loads(channel.recv_bytes())
    except Exception as error:
        channel.send_bytes(pickle.dumps(("broken", f"{type(error).__name__}: {error}")))
        return
    channel.send_bytes(pickle.dumps(("ready", None)))
    while True:
        try:
            task = pickle.loads(channel.recv_bytes())
        except EOFError:
            return
        channel.send_bytes(pickle.dumps(("done", guarded(evaluator, *task))))


def _die_with_parent() -> None:
    """The parent never writes to our stdin; it ends when the parent closes it or is killed."""
    sys.stdin.buffer.read()
    os._exit(1)
