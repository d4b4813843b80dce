"""Non-negative least squares, independent of the units of the columns."""

from __future__ import annotations

import numpy as np

from nas.system.errors import NasError

STEPS = 50  # solver steps per coefficient


def non_negative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The coefficients `c` >= 0 that minimise ``|matrix @ c - target|`` (Lawson and Hanson), shape ``(n,)``.

    Raises:
        NasError: the solver does not converge.
    """
    from scipy.optimize import nnls

    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    try:
        return np.asarray(nnls(matrix / size, target, maxiter=STEPS * len(size))[0] / size)
    except RuntimeError:
        raise NasError(
            f"the latency model could not be fitted to these timings within {STEPS} steps a coefficient; measure other "
            "networks, or measure again"
        ) from None
