"""The agent as one file, to be copied to a device: the modules it is made of, one after the other."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    "system.cpu",
    "system.machine",
    "system.measuring_lock",
    "system.text",
    "latency.sampling",
    "latency.remote.bounds",
    "latency.remote.check",
    "latency.remote.worker",
    "latency.remote.process",
    "latency.remote.http",
    "latency.remote.server",
    "latency.remote.main",
)  # of nas
HEADER = '''#!/usr/bin/env python3
"""Agent of nas: times networks on this device for a search that runs elsewhere. Written by `nas agent --write`.

It needs Python 3.9 or later, numpy and onnxruntime, and nothing else:

    pip install numpy onnxruntime
    python agent.py --host 0.0.0.0

It prints a token (or takes --token, or $NAS_AGENT_TOKEN). At home, then:

    nas search --device http://THIS-DEVICE:8421 --token TOKEN --latency-target 25ms

It listens at 127.0.0.1 alone unless told otherwise. It runs nothing but ONNX models of standard operators, one at a
time, each in a process that is ended when it takes too long.
"""

from __future__ import annotations

'''
FOOTER = """

if __name__ == "__main__":
    sys.exit(main())
"""


def agent_source() -> str:
    """The whole agent as readable Python that imports the standard library, numpy and onnxruntime."""
    imports: dict[str, set[str]] = {}
    parts = []
    for name in MODULES:
        spec = importlib.util.find_spec(f"nas.{name}")
        assert spec is not None and spec.origin is not None  # noqa: PT018  # they are installed with this one
        source = Path(spec.origin).read_text(encoding="utf-8")
        tree = ast.parse(source)
        _gather(tree, imports)
        parts.append(f"# --- nas/{name.replace('.', '/')}.py ---\n# {_first_line(tree)}\n\n{_body(source, tree)}")
    return HEADER + "\n".join(_statements(imports)) + "\n\n\n" + "\n\n\n".join(parts) + "\n" + FOOTER


def _first_line(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").splitlines()[0]


def _gather(tree: ast.Module, imports: dict[str, set[str]]) -> None:
    """Add the imports at the top of a module: by module, the names taken from it; none is the module itself."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                imports.setdefault(alias.name if alias.asname is None else f"{alias.name} as {alias.asname}", set())
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith(("nas.", "__future__")):
            imports.setdefault(f"from {node.module}", set()).update(alias.name for alias in node.names)


def _statements(imports: dict[str, set[str]]) -> Iterator[str]:
    plain = sorted(name for name in imports if not name.startswith("from "))
    yield from (f"import {name}" for name in plain if not name.startswith("numpy"))
    yield from (f"{name} import {', '.join(sorted(names))}" for name, names in sorted(imports.items()) if names)
    yield ""
    yield from (f"import {name}" for name in plain if name.startswith("numpy"))


def _body(source: str, tree: ast.Module) -> str:
    """A module's text after its docstring and imports."""
    head = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return "\n".join(source.splitlines()[head[-1].end_lineno or 0 :]).strip("\n")
