"""Labels out and back: 5,000 images x 20 boxes in every format, and through a zip, a bucket and a revision.

    python -m tests.benchmarks.bench_labels [--images 5000] [--boxes 20]

Each step runs on a tenth of the images and on all of them: a ratio of 10 is linear. Memory is the peak of what Python
allocated in a run of its own, for counting it costs time.
"""

import argparse
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from tasks.adapters.labelling import write_zip
from tasks.adapters.labels import (
    FORMATS,
    Classes,
    LabelFormat,
    LabelledImage,
    LabelSet,
    parts_of,
    read_returned,
    unpack,
)
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, Label, LabelBox, Sample
from tasks.core.settings import ProjectSettings
from tasks.export_labels import export_batch
from tasks.import_labels import Return, take_in
from tests.benchmarks.tables import Table
from tests.tasks.stages import NOON, a_picture, a_project, a_sample

CLASS_NAMES = ("car", "truck")
WIDTH, HEIGHT = 1920, 1080  # of the labels; the pictures of the whole way are small, for it is not they that are timed
WRITE, READ = "write {}", "read {}"


@dataclass(frozen=True)
class Options:
    """images: of the large run; the small one has a tenth of them."""

    images: int = 5000
    boxes: int = 20

    @property
    def sizes(self) -> tuple[int, int]:
        return self.images // 10, self.images


@dataclass(frozen=True)
class Taken:
    """Seconds, and peak bytes, of one step."""

    seconds: float
    peak: int


def tables(options: Options = Options()) -> Iterator[Table]:
    """The formats by themselves, the whole way, and a look at a batch of twice as many images."""
    for title, steps in (("Labels: files", of_formats), ("Labels: out to a team and back", of_the_whole_way)):
        small, large = (dict(steps(size, options.boxes)) for size in options.sizes)
        yield Table(
            f"{title}, {options.images:,} images x {options.boxes} boxes",
            ("", "s", f"of {options.sizes[0]:,}", "MB at most", f"of {options.sizes[0]:,}"),
            [row(name, small[name], large[name]) for name in large],
            ["A tenth of the images in a tenth of the time and memory is a ratio of 10."],
        )
    from tests.benchmarks import bench_labels_look  # its material is made here

    yield bench_labels_look.table(2 * options.images)


def row(name: str, small: Taken, large: Taken) -> tuple[str, ...]:
    return (
        name,
        f"{large.seconds:.2f}",
        f"x {large.seconds / small.seconds:.1f}",
        f"{large.peak / 1e6:.1f}",
        f"x {large.peak / small.peak:.1f}",
    )


def of_formats(images: int, boxes: int) -> Iterator[tuple[str, Taken]]:
    """Each format into a zip, and from the zip to labels, which must be those that were written."""
    labelled = [LabelledImage(sample, a_label(sample, n, boxes)) for n, sample in enumerate(some_samples(images))]
    labels = LabelSet("bench", labelled, CLASS_NAMES)
    samples = {one.sample.sample_id: one.sample for one in labelled}
    wanted = {one.sample.sample_id: one.label.boxes for one in labelled}
    with tempfile.TemporaryDirectory() as name:
        for form in FORMATS:
            archive = Path(name) / f"{form}.zip"
            yield WRITE.format(form), measured(partial(write, archive, form, labels))
            yield READ.format(form), measured(partial(check, archive, samples, wanted))


def of_the_whole_way(images: int, boxes: int) -> Iterator[tuple[str, Taken]]:
    """`edgeloop labels export`, and `import` of a zip with its images and one label file an image."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project, batch = a_large_batch(folder, images)
        first = export_batch(project, "bench", folder / "out.zip", ("coco", "yolo"), {})  # fetches the images, once
        if first.images != images or first.left_out:
            raise RuntimeError(f"{first.images} of {images} images went out")
        yield "export", measured(lambda: export_batch(project, "bench", folder / "out.zip", ("coco", "yolo"), {}))
        back = a_return(folder, batch, boxes)
        revision = iter(range(1, 9))
        yield "import", measured(lambda: take_in_anew(project, batch, back, next(revision)))


def take_in_anew(project: ProjectSettings, batch: Batch, back: Path, revision: int) -> None:
    """The same labels of somebody else each time, so that every one of them is new."""
    taken = take_in(Return(project, batch.batch_id, back, f"team {revision}"))
    if (taken.new, taken.revision) != (len(batch.samples), revision):
        raise RuntimeError(f"{taken.new} of {len(batch.samples)} labels became revision {taken.revision}")


def measured(step: Callable[[], object]) -> Taken:
    """The fastest of three runs, and the memory of a fourth."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Taken(min(seconds), peak)


def write(archive: Path, form: LabelFormat, labels: LabelSet) -> None:
    write_zip(archive, parts_of(form, labels))


def read(archive: Path, samples: dict[str, Sample]) -> list[Label]:
    into = archive.with_suffix("")
    shutil.rmtree(into, ignore_errors=True)
    found = read_returned(
        unpack(archive, into), samples, Classes(CLASS_NAMES), annotator="team", labelled_at=datetime.now(timezone.utc)
    )
    return found.labels


def check(archive: Path, samples: dict[str, Sample], wanted: dict[str, tuple[LabelBox, ...]]) -> None:
    """Every box is where it was."""
    if {label.sample_id: label.boxes for label in read(archive, samples)} != wanted:
        raise RuntimeError("the labels that were read are not those that were written")


# --- material --------------------------------------------------------------------------------------------------------


def some_samples(images: int) -> list[Sample]:
    return [a_sample(n, f"image {n}".encode(), width=WIDTH, height=HEIGHT) for n in range(images)]


def a_label(sample: Sample, seed: int, boxes: int) -> Label:
    """Boxes on whole hundredths of a pixel, which every format keeps."""
    random = np.random.default_rng(seed)
    left = np.round(random.uniform(0, 0.8, (boxes, 2)) * (sample.width, sample.height), 2)
    size = np.round(random.uniform(0.05, 0.2, (boxes, 2)) * (sample.width, sample.height), 2)
    corners = np.round(np.hstack([left, left + size]), 2).tolist()
    names = random.integers(0, len(CLASS_NAMES), boxes)
    found = tuple(LabelBox(class_name=CLASS_NAMES[n], xyxy=tuple(c)) for n, c in zip(names, corners))
    return Label(sample_id=sample.sample_id, boxes=found, annotator="team", labelled_at=NOON)


def a_large_batch(folder: Path, images: int, interface: str = "files") -> tuple[ProjectSettings, Batch]:
    """A batch in a bucket, with a small picture of its own for every sample: what follows its end makes it one."""
    labelling = {"interface": interface, "folder": str(folder / "labelling"), "near_duplicates": False}
    project = a_project(folder, project=f"yard-{images}", labelling=labelling)  # one review database serves all
    bucket, picture, samples = Central(project).bucket, a_picture(0), []
    for n in range(images):
        content = picture + n.to_bytes(4, "big")
        samples.append(a_sample(n, content))
        bucket.put(layout.sample_image(samples[-1].device, samples[-1].captured_at, samples[-1].sample_id), content)
    batch = Batch(batch_id="bench", created_at=NOON, class_names=CLASS_NAMES, samples=tuple(samples))
    return project, Central(project).store_batch(batch)


def a_return(folder: Path, batch: Batch, boxes: int) -> Path:
    """What a team sends: YOLO files and, as most do, the images."""
    form: LabelFormat = "yolo"
    labels = LabelSet(
        "bench",
        [LabelledImage(sample, a_label(sample, n, boxes)) for n, sample in enumerate(batch.samples)],
        CLASS_NAMES,
    )
    cache = folder / "work" / "images"
    files = [(f"images/{path.name}", path) for path in sorted(cache.rglob("*.jpg"))]
    write_zip(folder / "back.zip", parts_of(form, labels), files)
    return folder / "back.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=Options.images)
    parser.add_argument("--boxes", type=int, default=Options.boxes, help="of each image")
    for one in tables(Options(**vars(parser.parse_args()))):
        print(one, flush=True)


if __name__ == "__main__":
    main()
