"""The agent as one file to copy to a device: its modules, one after the other."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

MODULES = (  # of nas, each after those it uses
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
)
HEADER = '''#!/usr/bin/env python3
"""Agent of nas: times networks on this device for a search that runs on another machine.

Written by `nas agent --write`. It needs Python 3.9 or later, numpy and onnxruntime, and nothing else:

    pip install numpy onnxruntime
    python agent.py --host 0.0.0.0

It prints a token, unless you set one with --token or $NAS_AGENT_TOKEN. On the machine that runs the search:

    nas search --device http://THIS-DEVICE:8421 --token TOKEN --latency-target 25ms

Without --host it accepts connections from this device only. It runs nothing but ONNX models of standard operators, one
at a time, in a separate process that is ended when it takes too long.
"""

from __future__ import annotations

'''
FOOTER = """

if __name__ == "__main__":
    sys.exit(main())
"""


def agent_source() -> str:
    """The agent as readable Python that imports nothing but the standard library, numpy and onnxruntime."""
    imports: dict[str, set[str]] = {}
    parts = []
    for name in MODULES:
        spec = importlib.util.find_spec(f"nas.{name}")
        assert spec is not None and spec.origin is not None  # noqa: PT018  # they are installed with this file
        source = Path(spec.origin).read_text(encoding="utf-8")
        tree = ast.parse(source)
        _add_imports(tree, imports)
        parts.append(f"# --- nas/{name.replace('.', '/')}.py ---\n# {_first_line(tree)}\n\n{_body(source, tree)}")
    return HEADER + "\n".join(_statements(imports)) + "\n\n\n" + "\n\n\n".join(parts) + "\n" + FOOTER


def _first_line(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").splitlines()[0]


def _add_imports(tree: ast.Module, imports: dict[str, set[str]]) -> None:
    """Add the imports at the top of a module to `imports`: by module, the names taken from it, or none if the module
    itself is imported."""
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
    """The text of a module after its docstring and imports."""
    head = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return "\n".join(source.splitlines()[head[-1].end_lineno or 0 :]).strip("\n")
