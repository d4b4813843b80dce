"""Search with your own score and your own cost: nothing is trained or timed.

The cost here is memory traffic in MB; the score is the number of weights per input pixel, on a log scale.
"""

import math

import nas


def memory_mb(arch: nas.Arch) -> float:
    """The cost of a network, bounded by `latency_target`: megabytes moved in one inference."""
    return nas.count(arch).memory_bytes / 1e6


def score(arch: nas.Arch) -> float:
    """Higher is better. Put your own training here: `nas.build(arch)` gives the PyTorch module."""
    return math.log10(nas.count(arch).params / arch.resolution**2)


result = nas.search("mbconv", latency_target=30.0, device=memory_mb, evaluate=score, trials=40, seed=0)
front = result.pareto.rename(columns={"proxy_accuracy": "score", "latency_ms": "memory_mb"})
print(front[["key", "score", "memory_mb", "params"]].to_string(index=False))
print(f"\nthe best network within 30 MB:\n{result.best}")
