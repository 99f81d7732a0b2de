"""A wall clock that jumps while a process runs; the monotonic one goes on."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("rtshift.c")


class WallClock:
    """`environment` is that of a process whose wall clock `shift` moves."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("no compiler: install the Debian package gcc with libc6-dev")
        library, offset = folder / "rtshift.so", folder / "rtshift"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        offset.write_bytes(bytes(mmap.PAGESIZE))
        self._offset = offset
        self.environment = {"LD_PRELOAD": str(library), "RTSHIFT": str(offset)}

    def shift(self, seconds: int) -> None:
        """How far the wall clock is off from now on."""
        with open(self._offset, "r+b") as file, mmap.mmap(file.fileno(), 8) as memory:
            memory[:8] = struct.pack("q", seconds)
