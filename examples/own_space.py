"""Describe a search space in YAML, and search it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import nas

SPACE = """\
name: tiny
resolution: [96, 128]                 # a list is a choice
stem: {op: conv, kernel: 3, channels: 16, stride: 2, act: h_swish}
stages:
  - {op: mbconv, repeat: [1, 2, 3], channels: 24, stride: 2, kernel: [3, 5], expand: [3, 6], act: [relu, h_swish]}
  - {op: mbconv, repeat: [1, 2, 3], channels: 48, stride: 2, kernel: [3, 5], expand: [3, 6], se: [0, 0.25], act: relu}
head:
  - {op: conv, kernel: 1, channels: 192, act: h_swish}
  - {op: pool}
"""


def million_macs(arch: nas.Arch) -> float:
    return nas.count(arch).macs / 1e6


def depth(arch: nas.Arch) -> float:
    return float(len(arch.rows))


with TemporaryDirectory() as folder:
    path = Path(folder) / "tiny.yaml"
    path.write_text(SPACE)
    space = nas.load_space(path)  # on the command line: nas search --space tiny.yaml
print(f"{space.name}: {space.size:,} networks, {len(space.genes)} genes")
# Without these two functions, a search trains each candidate and times it on this machine.
result = nas.search(space, latency_target=20.0, device=million_macs, evaluate=depth, trials=30)
print(result.pareto[["key", "proxy_accuracy", "latency_ms"]].to_string(index=False))
