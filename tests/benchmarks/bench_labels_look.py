"""A look of `edgeloop wait` at a large batch: offered, the first look, one at labels of all images, one at nothing new.

What people do is written in bulk, for it is not they that are timed: in the App's dataset by FiftyOne's own means, as
files by a COCO zip.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.adapters import review
from tasks.adapters.labelling import write_zip
from tasks.adapters.labelling.fiftyone_boxes import DONE
from tasks.adapters.labels import LabelledImage, LabelSet, parts_of
from tasks.adapters.review import mongod
from tasks.core.entities import Batch
from tasks.core.settings import ProjectSettings, Thresholds
from tasks.label import labelling_of, offer_batch, pull_batch
from tests.benchmarks.bench_labels import a_label, a_large_batch
from tests.benchmarks.tables import Table

BOXES = 5
STEPS = ("offer", "look: nobody has begun", "look: all are labelled", "look: nothing new")
Seconds = dict[str, float]


def table(images: int = 10_000) -> Table:
    """Seconds of each step where people label in files and in the App; Label Studio's pull is that of its server."""
    sizes = (images // 10, images)
    taken = {interface: of_looks(sizes, interface) for interface in LABELLED}
    return Table(
        f"Labels: a look at a batch of {images:,} images x {BOXES} boxes",
        ("", *(f"{name} {head}" for name in LABELLED for head in ("s", f"of {sizes[0]:,}"))),
        [(step, *(cell for pair in taken.values() for cell in row(step, *pair))) for step in STEPS],
        ["Offering writes every image once; a batch has 500 images unless `max_images` says otherwise."],
    )


def row(step: str, small: Seconds, large: Seconds) -> tuple[str, str]:
    return f"{large[step]:.2f}", f"x {large[step] / small[step]:.1f}"


def of_looks(sizes: tuple[int, int], interface: str) -> tuple[Seconds, Seconds]:
    """The steps of a small batch and of a large one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if interface == "fiftyone":
            review.ensure_database(folder / "database")
            del os.environ[mongod.FOLDER_VARIABLE]  # counts as configured, for the projects of both sizes
        try:
            small, large = (dict(looks(folder / str(size), size, interface)) for size in sizes)
            return small, large
        finally:
            if interface == "fiftyone":
                del os.environ[mongod.URI_VARIABLE]
                review.stop_database(folder / "database")


def looks(folder: Path, images: int, interface: str) -> Iterator[tuple[str, float]]:
    folder.mkdir()
    project, batch = a_large_batch(folder, images, interface)
    yield STEPS[0], seconds(lambda: offer_batch.fn(project, batch.batch_id, Thresholds()))
    yield STEPS[1], seconds(lambda: look(project, 0, 0))
    LABELLED[interface](project, batch)
    yield STEPS[2], seconds(lambda: look(project, 0, images))
    yield STEPS[3], seconds(lambda: look(project, 1, images))


def look(project: ProjectSettings, revision: int, images: int) -> None:
    pulled = pull_batch.fn(project, "bench", revision)
    if pulled.status.done != images or pulled.revision != (1 if images else 0):
        raise RuntimeError(f"{pulled.status.done} of {images} images in revision {pulled.revision}: {pulled.problems}")


def label_files(project: ProjectSettings, batch: Batch) -> None:
    images = [LabelledImage(sample, a_label(sample, n, BOXES)) for n, sample in enumerate(batch.samples)]
    into = Path(project.labelling.folder) / batch.batch_id / "labels" / "back.zip"
    write_zip(into, parts_of("coco", LabelSet("bench", images, batch.class_names)))


def label_app(project: ProjectSettings, batch: Batch) -> None:
    import fiftyone as fo

    dataset = fo.load_dataset(labelling_of(project).dataset_name(batch.batch_id))
    numbers = {sample.sample_id: n for n, sample in enumerate(batch.samples)}
    drawn = [
        fo.Detections(
            detections=[
                fo.Detection(label=box.class_name, bounding_box=relative(box.xyxy, sample.width, sample.height))
                for box in a_label(sample, numbers[sample.sample_id], BOXES).boxes
            ]
        )
        for sample in (batch.samples[numbers[name]] for name in dataset.values("sample_id"))
    ]
    dataset.set_values("human", drawn)
    dataset.set_values("review_status", [DONE] * len(drawn))


def relative(xyxy: tuple[float, float, float, float], width: int, height: int) -> list[float]:
    x0, y0, x1, y1 = xyxy
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


LABELLED = {"files": label_files, "fiftyone": label_app}
