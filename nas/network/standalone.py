"""One network as a single Python file that needs only torch."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.network import blocks, ops
from nas.network.build import recipe

_IMPORTS = ("math",)  # modules that `ops` and `blocks` import, besides torch


def model_source(arch: Arch, num_classes: int, labels: Sequence[str] = ()) -> str:
    """The network as readable Python that needs only torch: the classes it uses, then its rows.

    Args:
        arch: network to write.
        num_classes: outputs of the classifier.
        labels: names of the outputs, which become the constant ``CLASSES``; empty if unknown.
    """
    cost, side = cost_of(arch, num_classes), arch.resolution
    places = list(arch.places())
    recipes = [recipe(placed) for placed in places]
    classes = [kind.__name__ for kind, _ in recipes if not _is_from_torch(kind)]
    used = _used_sources([*classes, ops.Network.__name__])
    sources = "\n\n".join(used.values())
    imports = "".join(f"import {name}\n" for name in _IMPORTS if f"{name}." in sources)
    rows = "\n".join(f"        {_call(kind, arguments)}," for kind, arguments in recipes)
    options = ["dropout", "bn_eps", "bn_momentum", *(["stochastic_depth"] if arch.stochastic_depth else [])]
    settings = "\n".join(f"        {name}={getattr(arch, name)}," for name in options)
    return f'''"""Network {arch.key}, written by nas. Needs only torch.

{cost.params:,} parameters, {cost.macs / 1e6:.1f} million multiply-accumulates, input {side} x {side} pixels.

    from model import build, load_weights
    network = load_weights(build(), "weights.safetensors").eval()
"""

from __future__ import annotations

import json
{imports}from pathlib import Path

import torch
from torch import Tensor, nn

RESOLUTION = {arch.resolution}
NUM_CLASSES = {num_classes}
{_constant("CLASSES", labels)}

{sources}

def build(num_classes: int = NUM_CLASSES) -> Network:
    """The network, one row per line, with PyTorch's initial weights."""
    rows: list[nn.Module] = [
{rows}
    ]
    return Network(
        rows,
        width={places[-1].out_channels},
        num_classes=num_classes,
{settings}
    )


{inspect.getsource(load_weights)}

if __name__ == "__main__":
    network = build().eval()
    weights = Path(__file__).with_name("weights.safetensors")
    if weights.exists():
        load_weights(network, weights)
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, RESOLUTION, RESOLUTION))
    print(f"{{sum(p.numel() for p in network.parameters()):,}} parameters, logits of shape {{tuple(logits.shape)}}")
'''


def _constant(name: str, texts: Sequence[str]) -> str:
    """A tuple of texts as source, in ASCII: names of folders may hold anything."""
    if not texts:
        return ""
    lines = "".join(f"    {text!a},\n" for text in texts)
    return f"{name} = (  # what the outputs mean\n{lines})\n"


def _is_from_torch(kind: type[nn.Module]) -> bool:
    return kind.__module__.partition(".")[0] == "torch"


def _used_sources(names: Iterable[str]) -> dict[str, str]:
    """The source of these functions and classes of `ops` and `blocks`, and of all that they use, in the order of their
    definition."""
    defined = _definitions(ops) | _definitions(blocks)
    used: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            tree = ast.parse(defined[name])
            waiting += {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(defined)
    return {name: source for name, source in defined.items() if name in used}


def _definitions(module: ModuleType) -> dict[str, str]:
    return {
        name: inspect.getsource(value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) or inspect.isclass(value)
        if value.__module__ == module.__name__
    }


def _call(kind: type[nn.Module], arguments: dict[str, Any]) -> str:
    """The constructor call as a person would write it: channels by position, without defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    words = []
    for name, value in arguments.items():
        text = json.dumps(value) if isinstance(value, str) else repr(value)
        if name in ("in_channels", "out_channels"):
            words.append(text)
        elif value != defaults[name]:
            words.append(f"{name}={text}")
    return f"{'nn.' if _is_from_torch(kind) else ''}{kind.__name__}({', '.join(words)})"


# Copied into model.py. The safetensors format is a length, a JSON header and raw little-endian data.
def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Read a safetensors file into `network`; no tensor may be missing or have another shape."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    kinds = {"F32": torch.float32, "I64": torch.int64}
    state = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[start + begin : start + end])
        state[name] = torch.frombuffer(raw, dtype=kinds[entry["dtype"]]).reshape(entry["shape"])
    network.load_state_dict(state)
    return network
