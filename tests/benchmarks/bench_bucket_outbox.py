"""The outbox and the bucket's folder, each in pairs with the least that the disk would have to do.

    python -m tests.benchmarks.bench_bucket_outbox

Disks differ and are shared, so that only ratios are worth comparing; rates are medians of what this one did.
"""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.adapters.outbox import Outbox, sync_folder
from tasks.adapters.outbox.records import record_name
from tasks.core import layout
from tasks.core.entities import Detection, Sample
from tests.adapters.samples import a_sample
from tests.benchmarks.pairs import Pairs, Timed, measure_pairs, timed
from tests.benchmarks.tables import Table

IMAGE_BYTES = 60_000  # a JPEG of 640 x 480
SAMPLES = 50  # a segment
DETECTIONS = 10  # a sample
ROUNDS = 9
LENGTHS = (0, 1000, 10_000, 100_000)  # of an outbox, samples
CALLS, STARTS = 30, 3
NUMBERS = count(10**6)  # of samples that no other has


def tables() -> Iterator[Table]:
    folder = Path(".benchmarks")  # on the disk of the project, so that a sync is one
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name).absolute()
        grown = growth(here / "grown")
        bucket = Bucket((here / "bucket").as_uri(), "bench")
        rows = [
            row("outbox.put, image and record, synced", measure_outbox(here), "the same two files written and synced"),
            row("bucket.put of an image, synced", measure_put(here, bucket), "one file written and synced"),
            row("a segment and its images, read as ingest does", measure_ingest(bucket, here), "the same bytes read"),
        ]
        bucket.close()
    yield Table(
        f"Outbox and bucket: {SAMPLES} samples of {IMAGE_BYTES // 1000} kB with {DETECTIONS} detections",
        ("", "samples/s", "of the bare speed", "quartiles", "bare is"),
        rows,
        ["Of the bare speed: 1 is as fast as the system calls alone; medians of pairs."],
    )
    yield grown


def row(what: str, pairs: Pairs, bare: str) -> tuple[str, ...]:
    rate = SAMPLES / pairs.seconds()
    return what, f"{rate:.0f}", f"{pairs.speed_ratio:.2f}", "{:.2f} to {:.2f}".format(*pairs.spread), bare


# --- what is measured ------------------------------------------------------------------------------------------------


def measure_outbox(folder: Path) -> Pairs:
    """`put` against writing and syncing an image, a record and their folder."""

    def bare() -> Timed:
        target, given = Path(tempfile.mkdtemp(dir=folder)), samples()

        def write() -> None:
            for sample, jpeg in given:
                synced(target / f"{sample.sample_id}.jpg", jpeg)
                synced(target / f"{sample.sample_id}.json", sample.to_json())
                sync_folder(target)

        return timed(write)

    def ours() -> Timed:
        outbox, given = Outbox(Path(tempfile.mkdtemp(dir=folder)), 10**9), samples()
        return timed(lambda: [outbox.put(sample, jpeg) for sample, jpeg in given])

    return measure_pairs(bare, ours, ROUNDS)


def measure_put(folder: Path, bucket: Bucket) -> Pairs:
    """`put` into a bucket that is a folder, against writing and syncing a file and its folder."""
    turn = count()

    def bare() -> Timed:
        target, given = Path(tempfile.mkdtemp(dir=folder)), samples()

        def write() -> None:
            for sample, jpeg in given:
                synced(target / f"{sample.sample_id}.jpg", jpeg)
                sync_folder(target)

        return timed(write)

    def ours() -> Timed:
        device, given = f"put-{next(turn)}", samples()
        return timed(lambda: [bucket.put(image_key(device, sample), jpeg) for sample, jpeg in given])

    return measure_pairs(bare, ours, ROUNDS)


def measure_ingest(bucket: Bucket, folder: Path) -> Pairs:
    """A segment's lines into samples and the bytes of their images, against reading and parsing the same files."""
    written = samples()
    for sample, jpeg in written:
        bucket.put(image_key("read", sample), jpeg)
    segment = layout.segment("read", 1)
    bucket.create_lines(segment, [sample for sample, _ in written])
    root = folder / "bucket" / "bench"
    images = [root / image_key("read", sample) for sample, _ in written]

    def bare() -> None:
        lines = gzip.decompress((root / segment).read_bytes()).splitlines()
        found = [json.loads(line) for line in lines], [path.read_bytes() for path in images]
        if len(found[0]) != SAMPLES:
            raise RuntimeError(f"{len(found[0])} lines in a segment of {SAMPLES}")

    def ours() -> None:
        known, problems = bucket.read_lines(segment, Sample)
        if problems or len([bucket.get(image_key("read", sample)) for sample in known]) != SAMPLES:
            raise RuntimeError(f"{len(known)} samples in a segment of {SAMPLES}")

    return measure_pairs(lambda: timed(bare), lambda: timed(ours), ROUNDS)


def growth(folder: Path) -> Table:
    """What an outbox costs that holds so many samples already."""
    rows = []
    (folder / "samples").mkdir(parents=True)
    for length, before in zip(LENGTHS, (0, *LENGTHS)):
        fill(folder, before, length)
        rows.append((f"{length:,} samples wait", *(f"{seconds * 1000:,.1f}" for seconds in measure_length(folder))))
    return Table(
        "Outbox: milliseconds against its length",
        ("", "put", "put, at its cap", f"pending({SAMPLES})", "start"),
        rows,
        [
            f"Medians of {CALLS} calls; of a start, of {STARTS}. put: synced, with an image of 1 kB. At its cap: one "
            "goes for each that comes. A start looks at every name and reads no record; the others should be flat."
        ],
    )


def measure_length(folder: Path) -> tuple[float, float, float, float]:
    """Median seconds of a put, of a put that evicts, of `pending`, and of a start. The length stays what it is."""
    started = [timed(lambda: Outbox(folder, 10**12)).wall for _ in range(STARTS)]
    outbox = Outbox(folder, 10**12)

    def put(**fields: object) -> float:
        sample, jpeg = a_sample(next(NUMBERS), 1000, **fields)
        came.append(sample)
        return timed(lambda: outbox.put(sample, jpeg)).wall

    came: list[Sample] = []
    stored = [put(random_slice=True) for _ in range(CALLS)]
    looked = []
    for _ in range(CALLS):
        looked.append(timed(lambda: outbox.pending(SAMPLES)).wall)
        outbox.pending(0)  # lets go of what was handed out, so that the next call reads it again
    outbox.delivered(came)
    for _ in range(CALLS):
        put()
    outbox.cap_bytes, came = outbox.used_bytes, []
    evicting = [put(random_slice=True) for _ in range(CALLS)]
    outbox.delivered(came)
    put_s, evicting_s, looked_s, started_s = (float(np.median(s)) for s in (stored, evicting, looked, started))
    return put_s, evicting_s, looked_s, started_s


def fill(folder: Path, first: int, last: int) -> None:
    """Samples of numbers `first` to `last`, as the outbox lays them down, without its syncs: it is 200,000 files."""
    for number in range(first, last):
        sample, jpeg = a_sample(number, 1000)
        record = sample.to_json()
        name = record_name(sample, record, number + 1)
        (folder / "samples" / f"{sample.sample_id}.jpg").write_bytes(jpeg)
        (folder / "samples" / str(name)).write_bytes(record)


# --- samples and files -----------------------------------------------------------------------------------------------


def samples() -> list[tuple[Sample, bytes]]:
    """Samples whose bytes follow from their number, with detections all over the picture."""
    random = np.random.default_rng(0)
    return [a_sample(number, IMAGE_BYTES, detections=detections(random)) for number in range(SAMPLES)]


def detections(random: np.random.Generator) -> tuple[Detection, ...]:
    corners = random.uniform(0, 400, (DETECTIONS, 2)).round(2)
    return tuple(
        Detection(class_name="car", confidence=round(float(random.random()), 6), xyxy=(x, y, x + 50, y + 50))
        for x, y in corners.tolist()
    )


def image_key(device: str, sample: Sample) -> str:
    return layout.sample_image(device, sample.captured_at, sample.sample_id)


def synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    for table in tables():
        print(table)
