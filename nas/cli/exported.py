"""What `nas export` says of what it wrote."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nas.system.units import above

if TYPE_CHECKING:
    from nas.artifacts.export import Exported
    from nas.artifacts.quantize import Quantised
    from nas.latency.record import Latency

RUNTIMES = {"onnxruntime": "ONNX Runtime", "executorch": "ExecuTorch"}
FORMATS = {"onnxruntime": "onnx", "executorch": "executorch"}  # whose file the runtime runs
LITTLE = 0.03  # a difference in time below which neither file is called faster


def export_facts(done: Exported) -> dict[str, Any]:
    """For programs."""
    return {
        "key": done.arch.key,
        "files": [str(path) for path in done.files],
        "max_abs_diff": done.max_abs_diff,
        "num_classes": done.num_classes,
        "weights": done.weights,
        "latency": done.measured.to_dict() if done.measured else None,
        "target_ms": done.target_ms,
        "held_to_target": done.target_ms is not None and done.held is not None,
        "modelled": done.modelled.to_dict() if done.modelled else None,
        "target_of": done.elsewhere,
        "pte_max_abs_diff": done.pte_max_abs_diff,
        "pte_latency": done.pte_measured.to_dict() if done.pte_measured else None,
        "target_runtime": done.target_runtime,
        "data": done.data,
        "int8": [asdict(one) | {"file": str(one.file)} for one in done.int8],
    }


def export_text(done: Exported) -> str:
    """For people."""
    lines = [str(path) for path in done.files]
    for runtime, difference, latency in (
        ("onnxruntime", done.max_abs_diff, done.measured),
        ("executorch", done.pte_max_abs_diff, done.pte_measured),
    ):
        if difference is not None:
            lines.append(f"{RUNTIMES[runtime]} and PyTorch differ by at most {difference:.2g}")
        if latency is not None:
            suffix = (
                "" if done.pte_max_abs_diff is None else " model.onnx" if runtime == "onnxruntime" else " model.pte"
            )
            lines.append(f"the exported file{suffix} takes {latency}")
    if done.modelled is not None:
        where = f"{done.modelled.ms:.3g} ms on {done.modelled.device} (modelled)"
        lines.append(f"the network takes {where}. Nothing was measured there.")
    elif done.elsewhere is not None:
        lines.append(f"the run's target is of {done.elsewhere}: give --token to have the file measured there")
    elif done.target_ms is None:
        lines.append("no target of this machine to hold it to")
    elif done.held is None:
        lines.append(_not_held(done.target_ms, done.target_runtime))
    else:
        lines += _judged(done.held, done.target_ms)
    if done.weights is not None:
        lines.append(f"weights are {done.weights}, for {done.num_classes} classes")
    else:
        lines.append(
            f"weights are initial ones for {done.num_classes} classes: train the network at full size before use"
        )
    if done.int8:
        lines.append(f"int8 on {done.data}")
        lines += [line for one in done.int8 for line in int8_lines(one, done)]
    return "\n".join(lines)


def _judged(held: Latency, target_ms: float) -> list[str]:
    """Whether it meets its target, and whether it also did with what the machine took longer just then."""
    if held.ms > target_ms:
        return []  # the error says so
    lines = [f"within the target of {target_ms:g} ms"]
    now_ms = held.ms * (1 + (held.drift or 0.0))
    if now_ms > target_ms:
        lines[0] += f" when the machine is undisturbed; just now it took {above(now_ms, target_ms)} ms"
    return lines


def _not_held(target_ms: float, runtime: str) -> str:
    format_ = FORMATS.get(runtime)
    why = f"it is of {runtime}, which runs no exported file" if format_ is None else f"add --format {format_}"
    return f"not held to the target of {target_ms:g} ms: {why}"


def int8_lines(one: Quantised, done: Exported) -> list[str]:
    """What int8 costs and what it gains, float first."""
    name = f"{one.file.name} under {RUNTIMES[one.runtime]}"
    agreed = f"the same class as float for {one.agreement:.1%} of {one.images} held-out images"
    if one.accuracy_before is None or one.accuracy_after is None:
        judged = f"accuracy is unknown: the images have other classes than the network's {done.num_classes}"
    else:
        judged = f"accuracy {one.accuracy_before:.1%} -> {one.accuracy_after:.1%}"
        if done.weights is None:
            judged += " (the weights are untrained: it says nothing)"
    lines = [f"{name}: {judged}; {agreed}"]
    size = f"{one.bytes_before / 1e6:.2f} -> {one.bytes_after / 1e6:.2f} MB"
    if one.latency_before is None or one.latency_after is None:
        return [*lines, f"  {size}; not timed"]
    before, after = one.latency_before.ms, one.latency_after.ms
    return [*lines, f"  {size}; {before:.3g} -> {after:.3g} ms: {_pace(before, after)}"]


def _pace(before_ms: float, after_ms: float) -> str:
    if abs(after_ms / before_ms - 1) <= LITTLE:
        return "int8 is as fast as float on this device"
    if after_ms > before_ms:
        return f"int8 is {after_ms / before_ms:.2f} times SLOWER than float on this device"
    return f"int8 is {before_ms / after_ms:.2f} times faster than float on this device"
