"""Writes samples into an outbox for as long as it lives and says which ones were acknowledged.

    python outbox_victim.py FOLDER ROUNDS CAP_BYTES

Each round forks a writer, kills it with SIGKILL after a random time, and prints the ids that it had acknowledged.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from tasks.adapters.outbox import Outbox
from tests.adapters.samples import a_sample


def write_for_ever(folder: Path, cap_bytes: int, seed: int, acknowledged: int, pause: float = 0) -> None:
    outbox = Outbox(folder, cap_bytes)
    number = 0
    while True:
        number += 1
        sample, jpeg = a_sample(seed * 1_000_000 + number)
        if outbox.put(sample, jpeg) == "stored":
            os.write(acknowledged, f"{sample.sample_id}\n".encode())
            time.sleep(pause)


def one_round(folder: Path, cap_bytes: int, seed: int) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        write_for_ever(folder, cap_bytes, seed, writer)
    os.close(writer)
    if seed % 4:  # the others are killed before they have acknowledged anything
        select.select([reader], [], [], 30)
    time.sleep(random.Random(seed).uniform(0.005, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader) as lines:
        return lines.read()


if __name__ == "__main__":
    for seed in range(int(sys.argv[2])):
        print(one_round(Path(sys.argv[1]), int(sys.argv[3]), seed), end="", flush=True)
