"""What answers an engine's predictions, and why."""

from dataclasses import dataclass
from enum import Enum


class Backend(Enum):
    """Where the arithmetic runs."""

    OPENCL = "opencl"
    NUMPY = "numpy"


@dataclass(frozen=True, slots=True)
class Description:
    """`device` names what computes: the OpenCL device, or "numpy". `reason` says why OpenCL does not, or which better
    device was passed over and why; empty when there is nothing to say."""

    backend: Backend
    device: str
    reason: str

    def __str__(self) -> str:
        return f"{self.device} ({self.reason})" if self.reason else self.device
