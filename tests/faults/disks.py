"""Disks that lose what was not synced, and disks that are soon full."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


class Disk:
    """An ext4 file system on a loop device, mounted at `folder`, whose power can be cut."""

    def __init__(self, image: Path, folder: Path, size: str = "512M") -> None:
        need_root()
        self._image, self.folder = image, folder
        folder.mkdir(parents=True)
        subprocess.run(["truncate", "-s", size, str(image)], check=True)
        try:
            subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
            self._mount()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no loop device: {error}: it takes the Debian packages e2fsprogs and mount")

    def cut_power(self) -> None:
        """Nothing reaches the disk from here on, and what it had not yet written is gone."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def restore_power(self) -> None:
        """Mount what survived."""
        self.unmount()
        self._mount()

    def unmount(self) -> None:
        unmount(self.folder)

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.folder)], capture_output=True, check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of so many megabytes."""
    need_root()
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    for _ in range(100):
        if subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("no disk of its own: mounting takes root")
