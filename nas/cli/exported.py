"""What `nas export` prints about the files it wrote."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nas.system.units import above

if TYPE_CHECKING:
    from nas.artifacts.export import Exported
    from nas.artifacts.quantize import Quantised
    from nas.latency.record import Latency

RUNTIMES = {"onnxruntime": "ONNX Runtime", "executorch": "ExecuTorch"}
FORMATS = {"onnxruntime": "onnx", "executorch": "executorch"}  # the file format each runtime takes
EQUAL = 0.03  # relative difference in latency below which neither file is called faster


def export_facts(done: Exported) -> dict[str, Any]:
    """The export as JSON values, for ``--json``."""
    return {
        "key": done.arch.key,
        "files": [str(path) for path in done.files],
        "max_abs_diff": done.max_abs_diff,
        "num_classes": done.num_classes,
        "classes": list(done.classes) or None,
        "weights": done.weights,
        "weights_sha256": done.weights_sha256,
        "latency": done.measured.to_dict() if done.measured else None,
        "target_ms": done.target_ms,
        "held_to_target": done.target_ms is not None and done.checked is not None,  # the key programs read
        "modelled": done.modelled.to_dict() if done.modelled else None,
        "target_of": done.elsewhere,
        "pte_max_abs_diff": done.pte_max_abs_diff,
        "pte_latency": done.pte_measured.to_dict() if done.pte_measured else None,
        "target_runtime": done.target_runtime,
        "data": done.data,
        "int8": [asdict(file) | {"file": str(file.file)} for file in done.int8],
    }


def export_text(done: Exported) -> str:
    """The export as text."""
    lines = [str(path) for path in done.files]
    for runtime, difference, latency in (
        ("onnxruntime", done.max_abs_diff, done.measured),
        ("executorch", done.pte_max_abs_diff, done.pte_measured),
    ):
        if difference is not None:
            lines.append(f"largest difference between {RUNTIMES[runtime]} and PyTorch: {difference:.2g}")
        if latency is not None:
            file = "model.onnx" if runtime == "onnxruntime" else "model.pte"
            lines.append(f"{file} takes {latency}")
    if done.modelled is not None:
        where = f"{done.modelled.ms:.3g} ms on {done.modelled.device} (modelled)"
        lines.append(f"the network takes {where}; it was not measured there")
    elif done.elsewhere is not None:
        lines.append(f"the run's target is for {done.elsewhere}; give --token to measure the file there")
    elif done.target_ms is None:
        lines.append("there is no latency target for this machine")
    elif done.checked is None:
        lines.append(_not_checked(done.target_ms, done.target_runtime))
    else:
        lines += _within(done.checked, done.target_ms)
    if done.weights is not None:
        digest = f" (SHA-256 {done.weights_sha256})" if done.weights_sha256 else ""
        lines.append(f"weights: {done.weights}{digest}, {done.num_classes} classes")
    else:
        lines.append(f"weights: untrained, {done.num_classes} classes; train the network before use")
    if done.int8:
        lines.append(f"int8 with {done.data}")
        lines += [line for file in done.int8 for line in int8_lines(file, done)]
    return "\n".join(lines)


def _within(latency: Latency, target_ms: float) -> list[str]:
    """Whether the latency meets the target, and whether it did so under the load at the time."""
    if not latency.meets(target_ms):
        return []  # the command ends with an error that says so
    line = f"within the target of {target_ms:g} ms"
    loaded_ms = latency.ms * (1 + (latency.drift or 0.0))
    if loaded_ms > target_ms:
        line += f" on an idle machine; under the present load it takes {above(loaded_ms, target_ms)} ms"
    return [line]


def _not_checked(target_ms: float, runtime: str) -> str:
    format_ = FORMATS.get(runtime)
    why = f"it is for {runtime}, which runs no exported file" if format_ is None else f"add --format {format_}"
    return f"not compared with the target of {target_ms:g} ms: {why}"


def int8_lines(file: Quantised, done: Exported) -> list[str]:
    """The accuracy that int8 costs, and what it gains in size and latency; float first."""
    name = f"{file.file.name} under {RUNTIMES[file.runtime]}"
    agreement = f"same class as float for {file.agreement:.1%} of {file.images} held-out images"
    if file.accuracy_before is None or file.accuracy_after is None:
        accuracy = f"accuracy unknown, since the images do not have the network's {done.num_classes} classes"
    else:
        accuracy = f"accuracy {file.accuracy_before:.1%} -> {file.accuracy_after:.1%}"
        if done.weights is None:
            accuracy += " (meaningless: the weights are untrained)"
    lines = [f"{name}: {accuracy}; {agreement}"]
    size = f"{file.bytes_before / 1e6:.2f} -> {file.bytes_after / 1e6:.2f} MB"
    if file.latency_before is None or file.latency_after is None:
        return [*lines, f"  {size}; not timed"]
    before, after = file.latency_before.ms, file.latency_after.ms
    return [*lines, f"  {size}; {before:.3g} -> {after:.3g} ms: {_speed(before, after)}"]


def _speed(before_ms: float, after_ms: float) -> str:
    if abs(after_ms / before_ms - 1) <= EQUAL:
        return "int8 is as fast as float on this device"
    if after_ms > before_ms:
        return f"int8 is {after_ms / before_ms:.2f} times SLOWER than float on this device"
    return f"int8 is {before_ms / after_ms:.2f} times faster than float on this device"
