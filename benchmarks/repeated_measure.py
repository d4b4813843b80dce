"""Repeat a measurement ten times, on a quiet machine and with a second process that loads a core half of the time.

For comparison, it also prints the plain medians of the same samples, without the anchors.

    python benchmarks/repeated_measure.py [mobilenet_v3_large]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

from nas.latency.measure import measure
from nas.references.table import reference
from nas.system.machine import host

REPEATS, PAUSE_S = 10, 2.0
LOAD = """
import time, numpy as np
a = np.random.rand(700, 700)
while True:
    end = time.time() + 1.0
    while time.time() < end:
        a @ a
    time.sleep(1.0)
"""


def spread(values: list[float]) -> float:
    return max(values) / min(values) - 1 if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="mobilenet_v3_large")
    arch = reference(parser.parse_args().network)
    print(f"{host()}; {REPEATS} measurements, {PAUSE_S:g} s apart; spread: largest over smallest median, less 1")
    for name in ("quiet", "loaded"):
        command = [sys.executable, "-c", LOAD]
        load = subprocess.Popen(command, env={"OMP_NUM_THREADS": "1"}) if name == "loaded" else None
        try:
            corrected, plain, calm, noisy, seconds = [], [], [], 0, 0.0
            for _ in range(REPEATS):
                begin = time.perf_counter()
                found = measure(arch, keep_samples=True)
                seconds += time.perf_counter() - begin
                corrected.append(found.ms)
                plain.append(float(np.median(found.samples_ms or ())))
                noisy += found.warning is not None
                calm += [] if found.warning else [found.ms]
                time.sleep(PAUSE_S)
        finally:
            if load:
                load.kill()
        print(
            f"{name:8} corrected {np.median(corrected):.3f} ms, spread {spread(corrected):.1%}; plain"
            f" {np.median(plain):.3f} ms, spread {spread(plain):.1%}; {noisy} of {REPEATS} with a"
            f" warning, the others spread {spread(calm):.1%}; {seconds / REPEATS:.1f} s each",
            flush=True,
        )


if __name__ == "__main__":
    main()
