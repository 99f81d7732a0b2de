"""Pre-annotators: whose boxes people begin with (`labelling.pre_annotator`, tasks/core/people/QUALITY.md).

What a seed is signed with says what made it: a model version for the device's own detections, else `pre-annotator`
with the name and the digest of the file. Nothing is ever downloaded, and a checkpoint runs no code when it is read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import open_detector
from tasks.adapters.labelling.seeds import OTHER, may_be_seeded, pre_annotation, pre_annotations
from tasks.adapters.trainer.library import UNREADABLE, first_line, quiet, ultralytics
from tasks.core.entities import Batch, Detections, Label, Sample, detection_records
from tasks.core.errors import DataError, ModelError, ObjectMissing, SettingsError
from tasks.core.settings import ProjectSettings, Thresholds

PRODUCTION = "production"
LARGEST_SIDE = 640  # pixels that ultralytics scales an image to
CLIP_FILE, MOBILECLIP_FILE = "ViT-B-32.pt", "mobileclip_blt.ts"
TEXT_FILES = {"clip": CLIP_FILE, "mobileclip": MOBILECLIP_FILE, "mobileclip2": "mobileclip2_b.ts"}
OPEN_VOCABULARY = {"WorldModel": "YOLO-World", "YOLOEModel": "YOLOE", "YOLOESegModel": "YOLOE"}

Detect = Callable[[NDArray[np.uint8]], Detections]


def seeds_of(
    project: ProjectSettings,
    batch: Batch,
    thresholds: Thresholds,
    pixels_of: Callable[[Sample], NDArray[np.uint8]],
    known: Callable[[], Mapping[str, Label]] = dict,
) -> dict[str, Label]:
    """Sample id -> the boxes that people begin with, for the images that may be seeded.

    Never of test and calibration images. Twins always get those of the device's model: they measure what its boxes
    change. thresholds: of the device's model; others have `labelling.pre_annotator_confidence`. pixels_of: a decoded
    image, BGR (height, width, 3); an image that cannot be had comes blank. known: seeds that people were given before,
    which stay. Raises SettingsError and ModelError for a pre-annotator that cannot be used.
    """
    labelling = project.labelling
    if labelling.pre_annotator == PRODUCTION or batch.purpose == "seeded-twin":
        return pre_annotations(batch, thresholds)
    seeds = {sample_id: seed for sample_id, seed in known().items() if sample_id not in batch.unseeded}
    wanted = [sample for sample in batch.samples if may_be_seeded(batch, sample) and sample.sample_id not in seeds]
    if not wanted:
        return seeds
    name, detect = open_pre_annotator(labelling.pre_annotator, project, labelling.pre_annotator_confidence)
    for sample in wanted:
        try:
            seen = sample.model_copy(update={"detections": detection_records(detect(pixels_of(sample)))})
        except (DataError, ObjectMissing):
            continue
        least = dict.fromkeys(batch.class_names, labelling.pre_annotator_confidence)
        seeds[sample.sample_id] = pre_annotation(seen, batch.class_names, least).model_copy(update={"annotator": name})
    return seeds


def open_pre_annotator(path: str, project: ProjectSettings, confidence: float) -> tuple[str, Detect]:
    """What seeds are signed with, and the model; it sees from `confidence` up.

    Raises SettingsError for what is neither `production` nor an .onnx or .pt file that is there, ModelError for a file
    that cannot be used.
    """
    file = Path(path)
    if file.suffix not in (".onnx", ".pt"):
        raise SettingsError(
            f"labelling.pre_annotator {path!r}: write {PRODUCTION}, or the path of an .onnx detector or of a .pt of "
            f"YOLOE or YOLO-World"
        )
    if not file.is_file():
        raise SettingsError(
            f"labelling.pre_annotator {path!r}: there is no such file, and none is downloaded: put it there"
        )
    name = f"{OTHER}{file.name[:60]}@{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    if file.suffix == ".pt":
        return name, open_vocabulary(file, project.classes, confidence)
    detector = open_detector(
        file,
        project_classes=project.classes,
        model_classes=project.model_classes or None,
        confidence_floor=confidence,
    )
    return name, detector.detect


# --- open vocabulary -------------------------------------------------------------------------------------------------


def open_vocabulary(path: Path, class_names: Sequence[str], confidence: float) -> Detect:
    """An ultralytics model that looks for `class_names`.

    A checkpoint that was saved with these classes needs nothing else; any other its text encoder, a file beside it.
    """
    model = load(path)
    kind = OPEN_VOCABULARY.get(type(model.model).__name__)
    if kind is None:
        raise ModelError(f"pre-annotator {path.name}: is no YOLOE or YOLO-World: export it to ONNX and name that file")
    if not knows(model.model, kind, class_names):
        ask_for(model.model, kind, class_names, path)
    names = list(of_names(model.model))
    known = [names.index(name) for name in class_names if name in names]
    ours = {theirs: list(class_names).index(names[theirs]) for theirs in known}

    def detect(pixels: NDArray[np.uint8]) -> Detections:
        options = {"conf": max(confidence, 0.001), "imgsz": LARGEST_SIDE, "verbose": False, "device": "cpu"}
        try:
            with quiet():
                boxes = model.predict(pixels, classes=known, **options)[0].boxes.data.cpu().numpy()
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"pre-annotator {path.name}: fails on an image: {first_line(error)}") from None
        class_id = np.array([ours[int(row[5])] for row in boxes], np.int64)
        xyxy, score = boxes[:, :4].astype(np.float32), np.clip(boxes[:, 4], 0, 1).astype(np.float32)
        return Detections(xyxy, score, class_id, tuple(class_names))

    return detect


def load(path: Path) -> Any:
    """The checkpoint as ultralytics' model; only the parts that models are made of are rebuilt."""
    library = ultralytics()
    try:
        with quiet(), tempfile.TemporaryDirectory(prefix="edgeloop-checkpoint-") as folder:
            # The library changes names that it knows, and downloads those that it does not find.
            return library.YOLO(str(shutil.copyfile(path, Path(folder) / "checkpoint.pt")))
    except UNREADABLE as error:
        raise ModelError(f"pre-annotator {path.name}: cannot be loaded: {first_line(error)}") from None


def of_names(network: Any) -> Iterable[str]:
    names = getattr(network, "names", {})
    return names.values() if isinstance(names, dict) else names


def knows(network: Any, kind: str, class_names: Sequence[str]) -> bool:
    """Whether the checkpoint was saved with the classes set: YOLOE then has their embeddings, too."""
    has_text = kind == "YOLO-World" or getattr(network, "pe", None) is not None
    return has_text and set(class_names) <= set(of_names(network))


def ask_for(network: Any, kind: str, class_names: Sequence[str], path: Path) -> None:
    """Set the classes by their names, which needs a text encoder. Raises ModelError where it is not at hand."""
    variant = "clip:ViT-B/32" if kind == "YOLO-World" else str(getattr(network, "text_model", "mobileclip:blt"))
    encoder = path.parent / TEXT_FILES.get(variant.partition(":")[0], MOBILECLIP_FILE)
    missing = "" if encoder.is_file() else f"put the text encoder's weights at {encoder}"
    if importlib.util.find_spec("clip") is None:
        missing = " and ".join(filter(None, [missing, "install the package clip of ultralytics"]))
    if missing:
        raise ModelError(
            f"pre-annotator {path.name}: {kind} was not saved with the classes {', '.join(class_names)}: {missing}; "
            f"nothing is downloaded. Or save it once with set_classes and name that file"
        )
    text = importlib.import_module("ultralytics.nn.text_model")
    made = text.CLIP if variant.startswith("clip:") else text.MobileCLIPTS
    before = text.build_text_model
    try:
        # By its path, so that the library has nothing to look for.
        vars(text)["build_text_model"] = lambda variant, device=None: (
            made(str(encoder), device) if made is text.CLIP else made(device, weight=str(encoder))
        )
        with quiet():
            if kind == "YOLO-World":
                network.set_classes(list(class_names))
            else:
                network.set_classes(list(class_names), network.get_text_pe(list(class_names)))
    except UNREADABLE as error:
        raise ModelError(f"pre-annotator {path.name}: {encoder.name} cannot be used: {first_line(error)}") from None
    finally:
        vars(text)["build_text_model"] = before
    network.names = dict(enumerate(class_names))
