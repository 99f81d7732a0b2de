"""What a collector takes of the machine: resident memory, and CPU seconds to import.

    python -m tests.benchmarks.edge_footprint model.onnx classes clip.mp4 threads frames    a collector, in this process

Each is measured in a process of its own, which knows nothing but the collector.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.tables import Table

FRAMES = 200
MEMORY_MB, IMPORT_S = 250.0, 1.5
IMPORTS = 5
ROOT = Path(__file__).resolve().parents[2]
IMPORT = """
import sys, time
{before}
began = time.process_time()
import tasks.collector
print(time.process_time() - began, "boto3" in sys.modules)
"""
WITHOUT_BOTO3 = "sys.modules['boto3'] = None  # as if it were not installed"


def footprint_table(model: Path, classes: str, video: Path, threads: int) -> Table:
    """Memory is left out where the model is not there."""
    rows, notes = [], []
    if model.exists():
        rows.append(
            _row(f"resident memory at most, MB: {model.stem}", _memory(model, classes, video, threads), MEMORY_MB)
        )
        notes.append(
            f"Memory: the most that a process held resident while its collector took {FRAMES} frames of a video."
        )
    here, has_boto3 = _import("")
    rows.append(_row("import of tasks.collector, CPU s", here, IMPORT_S))
    if has_boto3:
        rows.append(_row("the same without boto3", _import(WITHOUT_BOTO3)[0], IMPORT_S))
        notes.append("boto3 is no part of a device's installation; tuf's parts import it wherever they find it.")
    notes.append(f"Import: the median of {IMPORTS} processes, with the files in the disk's cache.")
    return Table("Edge: memory and import of a collector", ("", "measured", "target", ""), rows, notes)


def _row(what: str, measured: float, target: float) -> tuple[str, ...]:
    return what, f"{measured:.2f}" if target < 10 else f"{measured:.0f}", f"{target:g}", _verdict(measured, target)


def _verdict(measured: float, target: float) -> str:
    return "reached" if measured < target else "missed"


def _import(before: str) -> tuple[float, bool]:
    """CPU seconds of `import tasks.collector`, and whether that brought boto3 along."""
    code = IMPORT.format(before=before)
    told = [_output([sys.executable, "-c", code]).split() for _ in range(IMPORTS + 1)][1:]
    return median(float(seconds) for seconds, _ in told), told[-1][1] == "True"


def _memory(model: Path, classes: str, video: Path, threads: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.edge_footprint", str(model), classes, str(video)]
    return float(json.loads(_output([*command, str(threads), str(FRAMES)]))["peak_mb"])


def _output(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    if ended.returncode:
        raise RuntimeError(f"{command[-1]}: exit status {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return ended.stdout.strip().splitlines()[-1]


def collect(model: str, classes: str, video: str, threads: str, frames: str) -> None:
    """Run a collector in this process and print what it held at most."""
    from tasks.collector import run_collector
    from tasks.core.settings import CameraSettings, DeviceSettings

    with tempfile.TemporaryDirectory() as folder:
        device = DeviceSettings(
            name="bench",
            project="bench",
            bucket=(Path(folder) / "bucket").as_uri(),
            cameras=(CameraSettings(name="road", source=video),),
            outbox=str(Path(folder) / "outbox"),
            threads=int(threads),
        )
        status = run_collector(
            device, model=model, model_classes=classes, max_frames=int(frames), follow_releases=False
        )
    if status.frames != int(frames):
        raise RuntimeError(f"the collector decided {status.frames} of {frames} frames: {status.last_error}")
    print(json.dumps({"peak_mb": peak_bytes() / 1e6}))


def peak_bytes() -> int:
    """The most memory that this process has held resident."""
    if Path("/proc/self/status").exists():
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    collect(*sys.argv[1:])
