"""Where figures were measured, and how much of the machine others took meanwhile."""

import os
import platform
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

LOADED = 0.1  # share of the CPU taken by others from which on figures are not to be quoted


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def describe() -> str:
    """One sentence: the processor, its cores, the versions that matter, and the date."""
    packages = (("ONNX Runtime", "onnxruntime"), ("OpenCV", "opencv-python-headless"), ("NumPy", "numpy"))
    versions = ", ".join(f"{name} {_version(package)}" for name, package in packages)
    today = datetime.now(timezone.utc).date()
    return f"{_processor()}, {cores()} cores, Python {platform.python_version()}, {versions}, {today}"


class Watch:
    """Measures, from `with` to its end, which share of the machine's CPU other processes took."""

    def __enter__(self) -> "Watch":
        self._began = _busy_seconds(), _own_seconds(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        busy, own, now = (
            now - then for now, then in zip((_busy_seconds(), _own_seconds(), time.monotonic()), self._began)
        )
        self.others = min(1.0, max(0.0, busy - own) / (now * (os.cpu_count() or 1)))

    def __str__(self) -> str:
        if not Path("/proc/stat").exists():
            return "How much others used the machine meanwhile is not known."
        said = f"Other processes took {self.others:.0%} of the CPU meanwhile"
        return f"{said}: a loaded machine, not to be quoted." if self.others > LOADED else f"{said}."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _busy_seconds() -> float:
    """CPU seconds of all processes since the machine started; what a hypervisor gave to others is among them."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
