"""What the package keeps on CUDA devices. Knows nothing of kernels."""

from __future__ import annotations

from . import _core


def release(device: int | None = None) -> None:
    """Give back what is kept on a device between calls: workspace, and the code of modules that were closed.

    It waits for all work on the device. No stream of the device may be captured in a graph at the time, and graphs with
    calls of modules that are closed must not run any more. Open modules and bound calls go on as before.

    Args:
        device: its number, as in "cuda:0"; None is every device that was used.

    Raises:
        RuntimeError: when there is no driver or no such device, or the driver reports a failure.
    """
    if device is not None and device < 0:
        raise ValueError(f"tiaot.cuda.release: expected a device from 0 on, or None, got {device}")
    _core.cuda_release(-1 if device is None else device)
