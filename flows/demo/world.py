"""The worlds of the demo: the simulated yard, or photographs replayed as a stream. People are simulated in both.

A world says what the project and the device are told, and who labels. Its truth stays with the annotator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from tasks.adapters.labels import ImportedImage, read_dataset
from tasks.adapters.simulation import FolderTruth, SimulatedAnnotator, YardTruth
from tasks.core.errors import SettingsError
from tasks.core.settings import (
    BatchingStrategy,
    CameraSettings,
    DeviceSettings,
    GateSettings,
    LabellingSettings,
    ProjectSettings,
    RandomSampling,
    SamplingSettings,
    TrainingSettings,
)

ASSETS = Path(__file__).parent.parent / "assets"
ROUNDS = 2
YARD_CLASSES = ("container", "truck")
YARD_CAMERAS = 4
YARD_DAY = 2_000  # frames a day, over all cameras
QUICK_YARD_DAY = 400
# A hundred images are seven batches an epoch: step after each batch, and warm up for one epoch instead of three.
FEW_IMAGES = {"nbs": 16, "warmup_epochs": 1}
PHOTOGRAPH_CAMERAS = 8  # photographs are dealt out, so that an hour of a camera holds few of them


@dataclass(frozen=True)
class World:
    """What a demo is played in. frames_a_day is over all cameras; a day of each camera has a share of them."""

    title: str
    facts: tuple[str, ...]
    project: ProjectSettings
    device: DeviceSettings
    annotator: SimulatedAnnotator
    frames_a_day: int
    base_checkpoint: str
    round_notes: tuple[str, ...] = ("",) * ROUNDS

    @property
    def cameras(self) -> int:
        return len(self.device.cameras)

    @property
    def camera_day(self) -> int:
        """Frames a day of one camera."""
        return self.frames_a_day // self.cameras

    def device_from(self, first: int) -> DeviceSettings:
        """The device with cameras that start at their frame `first`: where an interrupted demo goes on."""
        cameras = [c.model_copy(update={"source": f"{c.source}&first={first}"}) for c in self.device.cameras]
        return self.device.model_copy(update={"cameras": tuple(cameras)})


def yard(folder: Path, seed: int, weights: Path | None, model: str, day: int = YARD_DAY) -> World:
    """A simulated container yard: four cameras, day, dusk and fog, a drift half way through the second day."""
    checkpoint = weights or ASSETS / "yard_base.pt"
    project = project_in(
        folder,
        name="yard",
        seed=seed,
        classes=YARD_CLASSES,
        first_model=model,
        frames_a_day=day,
        budget=round((0.12 if day == YARD_DAY else 0.3) * day),
        cold_start=0.12 if day == YARD_DAY else 0.3,
        minimum_labels=40,
        training=TrainingSettings(
            weights=str(checkpoint),
            epochs=12,
            imgsz=256,
            batch=16,
            lr0=0.002,
            workers=0,
            seed=seed,
            device="cpu",
            extra=FEW_IMAGES,
        ),
    )
    sources = [
        "yard://?" + urlencode({"seed": seed, "camera": n, "day_frames": day // YARD_CAMERAS, "clock": clock(folder)})
        for n in range(YARD_CAMERAS)
    ]
    return World(
        title="A simulated container yard",
        facts=(
            f"{YARD_CAMERAS} cameras render scenes of freight containers and trucks: day, dusk and fog, world {seed}",
            "half way through the second day the world drifts: more fog, new liveries, other trucks",
        ),
        project=project,
        device=device_in(folder, project, sources),
        annotator=SimulatedAnnotator(
            YardTruth(seed=seed, day_frames=day // YARD_CAMERAS),
            seed=seed,
            overlook_rate=0.05,
            accept_false_rate=0.1,
        ),
        frames_a_day=day,
        base_checkpoint=checkpoint.name,
        round_notes=(
            "",
            "Half way through this day the world drifted: more fog, new liveries, other trucks. "
            "The forecast, made before, could not know.",
        ),
    )


def quickened(world: World) -> World:
    """Two epochs and a gate that lets any first model pass: the path of the demo, without its gain."""
    training = world.project.training.model_copy(update={"epochs": 2})
    update = {"training": training, "gate": GateSettings(minimum_ap50=0.0), "minimum_labels": 10, "new_labels": 5}
    return replace(world, project=world.project.model_copy(update=update))


def photographs(folder: Path, data: Path, seed: int, weights: Path | None, model: str) -> World:
    """Labelled photographs, replayed in seeded order as a stream; their labels are held back for the annotator."""
    dataset = read_dataset(data)
    images = dataset.images
    if len(images) < 200:
        raise SettingsError(
            f"{data}: {len(images)} labelled images are too few for two days of a demo: give 200 or more"
        )
    per_camera = len(images) // PHOTOGRAPH_CAMERAS
    day = per_camera // ROUNDS * PHOTOGRAPH_CAMERAS
    project = project_in(
        folder,
        name="photographs",
        seed=seed,
        classes=tuple(dataset.class_names),
        first_model=model,
        frames_a_day=day,
        budget=round(0.4 * day),
        cold_start=0.5,
        minimum_labels=30,
        training=TrainingSettings(
            weights=str(weights) if weights else "",
            epochs=8,
            imgsz=256,
            batch=16,
            lr0=0.001,
            freeze=10 if weights else 0,
            workers=0,
            seed=seed,
            device="cpu",
            extra=FEW_IMAGES,
        ),
    )
    if model != "stub":
        project = project.model_copy(update={"model_classes": "coco80"})
    sources = [
        f"replay://{data.absolute()}?"
        + urlencode(
            {
                "seed": seed,
                "camera": n,
                "cameras": PHOTOGRAPH_CAMERAS,
                "day_frames": day // PHOTOGRAPH_CAMERAS,
                "laps": 2,  # the last release is taken while the stream goes on
                "clock": clock(folder),
            }
        )
        for n in range(PHOTOGRAPH_CAMERAS)
    ]
    return World(
        title=f"{len(images)} real photographs of {data.name}",
        facts=(
            f"photographs replayed in seeded order over {PHOTOGRAPH_CAMERAS} cameras, {day} a day; no drift",
            "their own labels are held back and only the annotator knows them",
            *(f"left out: {n} {reason}" for reason, n in dataset.skipped.items()),
        ),
        project=project,
        device=device_in(folder, project, sources),
        annotator=SimulatedAnnotator(truth_of(images), seed=seed, overlook_rate=0.05, accept_false_rate=0.1),
        frames_a_day=day,
        base_checkpoint=weights.name if weights else "",
    )


def truth_of(images: Sequence[ImportedImage]) -> FolderTruth:
    """The held-back labels, by file name."""
    return FolderTruth({image.path.name: image for image in images})


def clock(folder: Path) -> str:
    return str((folder / "clock.json").absolute())


def project_in(
    folder: Path,
    *,
    name: str,
    seed: int,
    classes: tuple[str, ...],
    first_model: str,
    frames_a_day: int,
    budget: int,
    cold_start: float,
    minimum_labels: int,
    training: TrainingSettings,
) -> ProjectSettings:
    """A project that lives wholly below `folder`."""
    return ProjectSettings(
        project=name,
        bucket=(folder / "bucket").absolute().as_uri(),
        work=str((folder / "work").absolute()),
        signing_keys=str((folder / "keys").absolute()),
        classes=classes,
        first_model=first_model,
        budget_images_a_day=budget,
        frames_a_day=frames_a_day,
        exploration=0.2,
        minimum_labels=minimum_labels,
        new_labels=30,
        approval="automatic",
        sampling=SamplingSettings(
            sampling_strategies=(RandomSampling(name="cold-start", type="random", traffic_percentage=cold_start),),
            batching_strategy=BatchingStrategy(batches_name_prefix="day", recreation_interval="daily"),
            traffic_log_rate=1.0,
            seed=seed,
        ),
        labelling=LabellingSettings(
            interface="files",
            folder=str((folder / "labelling").absolute()),
            late_days=0,
            near_duplicates=False,  # a yard of still cameras, in which every image is one of the day's
            twice_share=0.0,  # the annotator is simulated: it would only show what it was set to
        ),
        training=training,
        gate=GateSettings(minimum_ap50=0.2),
        seed=seed,
    )


def device_in(folder: Path, project: ProjectSettings, sources: list[str]) -> DeviceSettings:
    """One device with a camera for each source, that asks for releases and reports often."""
    return DeviceSettings(
        name="edge-1",
        project=project.project,
        bucket=project.bucket,
        cameras=tuple(CameraSettings(name=f"camera-{n}", source=source) for n, source in enumerate(sources)),
        trusted_root=str(Path(project.signing_keys) / "root.json"),
        outbox=str((folder / "outbox").absolute()),
        segment_seconds=1.0,
        poll_seconds=0.5,
        status_seconds=2.0,
        threads=1,
    )
