"""The detector: one model, one frame at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector.classes import ClassMap, map_classes, named_classes
from tasks.adapters.detector.embedding import check_embedding
from tasks.adapters.detector.formats import Candidates, ModelFormat, recognise
from tasks.adapters.detector.loaded import LoadedModel, Prepared
from tasks.adapters.detector.model_file import ModelFile, read_model
from tasks.adapters.detector.preprocessing import frame_size
from tasks.adapters.detector.tasks import Beside, keypoints_in_image, masks_in_image
from tasks.core.boxes import Letterbox, confidence_order, nms
from tasks.core.entities import STUB, Detections
from tasks.core.errors import ModelError, SettingsError
from tasks.core.masks import Mask

_NOTHING_BESIDE = Beside()
_MODEL_VERSION_DIGITS = 16
_SCORE_TOLERANCE = 1e-3  # rounding may lift a score above 1 by less than this


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """What a detector keeps: the confidence floor, the IoU of NMS, the most detections a frame, and whether masks.

    `masks` is for models of segmentation, and is not exchanged between two frames.
    """

    confidence_floor: float = 0.05
    nms_iou: float = 0.6
    max_detections: int = 300
    masks: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.confidence_floor <= 1:
            raise SettingsError(f"confidence_floor is {self.confidence_floor}: set it between 0 and 1")
        if not 0 < self.nms_iou <= 1:
            raise SettingsError(f"nms_iou is {self.nms_iou}: set it above 0 and up to 1")
        if self.max_detections < 1:
            raise SettingsError(f"max_detections is {self.max_detections}: set it to 1 or more")


class Detector:
    """Frames to Detections with one model; the stub sees nothing.

    model_version: 16 hex of the file's sha256, or "stub". class_names: what the class ids of its Detections mean.
    surplus_classes: the model's classes that the project lacks, ignored. missing_classes: the project's classes that
    the model cannot see. image_size: (height, width) of the model's input. format: ultralytics, ultralytics-nms-free,
    ultralytics-classify, yolox or stub. task: what the model does, as `Detections.task` says it. settings: may be
    exchanged between two frames. batch: frames that `run_batch` runs at once at most. provider: what computes.
    passed_over: why it is none of the providers that were wanted more. Equal frames give equal Detections. Threads may
    share a detector, and the steps of a frame, `prepare`, `run` and `detect_prepared`, may each be done by another one.
    """

    def __init__(
        self,
        file: ModelFile | None,
        format_: ModelFormat | None,
        classes: ClassMap,
        settings: DetectorSettings,
        beside: Beside = _NOTHING_BESIDE,
        embeds: bool = False,
    ) -> None:
        """embeds: what is prepared and detected in then has the model's embedding, too."""
        self.settings = settings
        self.class_names = classes.class_names
        self.surplus_classes = classes.surplus
        self.missing_classes = classes.missing
        self.sha256 = file.sha256 if file else ""
        self.model_version = file.sha256[:_MODEL_VERSION_DIGITS] if file else STUB
        self.format = format_.name if format_ else STUB
        self.image_size = file.image_size if file else (0, 0)
        self.task = beside.task
        self.batch = file.batch if file and not (settings.masks and file.prototypes) else 1
        self.provider = file.provider if file else ""
        self.passed_over = file.passed_over if file else ()
        self._classes = classes
        self._beside = beside
        self._model = LoadedModel(file, format_, settings.masks, embeds) if file and format_ else None

    @property
    def is_stub(self) -> bool:
        return self._model is None

    def detect(self, pixels: NDArray[np.uint8]) -> Detections:
        """What the model sees in a BGR frame (height, width, 3), from the confidence floor up.

        At most `max_detections` rows in descending confidence, boxes in pixels of the frame and clipped to it; boxes
        that lie wholly in the padding are left out. Raises ImageUnreadable when `pixels` is no frame, ModelError when
        the model fails or its output is not finite or no confidence.
        """
        return self.detect_prepared(self.prepare(pixels))

    def prepare(self, pixels: NDArray[np.uint8]) -> Prepared:
        """Letterbox a frame into an input of its own. Another thread may do this while the model runs.

        Raises ImageUnreadable when `pixels` is no frame.
        """
        if self._model is None:
            size = frame_size(pixels)
            return Prepared(None, Letterbox.top_left(size, size))
        bound = self._model.free_input()
        return Prepared(bound, bound.buffer.write(pixels))

    def detect_prepared(self, prepared: Prepared) -> Detections:
        """What the model sees in a frame that this detector has prepared, and maybe run on already; once for each.

        Raises ModelError for a frame that another detector has prepared, as around an exchange of models.
        """
        if self._model is None:
            return Detections.empty(self.class_names)
        output = self.run(prepared)
        detections = self.decode(output, prepared.letterbox, self._model.prototypes(prepared))
        self._model.note_embedding(prepared)
        self._model.give_back(prepared)
        return detections

    def run(self, prepared: Prepared) -> NDArray[np.float32]:
        """The model's output for a prepared frame, run only once; the frame's own until it is detected in.

        Raises ModelError when the model fails, and for a frame that another detector has prepared.
        """
        return self._loaded.run(prepared)

    def run_batch(self, prepared: Sequence[Prepared]) -> None:
        """Run the model on several prepared frames, `batch` at a time; each then has its output as after `run`.

        Raises ModelError as `run` does, and then frames may be left without an output.
        """
        self._loaded.run_batch(prepared)

    def decode(
        self, output: NDArray[np.float32], letterbox: Letterbox, prototypes: NDArray[np.float32] | None = None
    ) -> Detections:
        """The model's output as Detections in the frame's pixels. Raises ModelError for what is none.

        prototypes: (m, height, width) of which masks are made.
        """
        format_, settings = self._loaded.format, self.settings
        _check_finite(output, self._loaded.file.where)
        candidates = self._of_the_project(format_.decode(output, settings.confidence_floor))
        if not len(candidates.confidence):  # most frames of most cameras
            return Detections.empty(self.class_names, self.task)
        _check(candidates, self._loaded.file.where)
        columns = (candidates.xyxy, candidates.confidence, candidates.class_id)
        if format_.needs_nms:
            kept = candidates[nms(*columns, settings.nms_iou, settings.max_detections)]
        else:
            kept = candidates[confidence_order(*columns)[: settings.max_detections]]
        xyxy = letterbox.to_image(kept.xyxy)
        confidence = np.minimum(kept.confidence, np.float32(1))
        shapes = self._shapes(kept, xyxy, letterbox, prototypes)
        detections = Detections(xyxy, confidence, kept.class_id, self.class_names, self.task, *shapes)
        has_area = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
        return detections if has_area.all() else detections[has_area]

    @property
    def interruptible(self) -> bool:
        """Can a run be ended from outside? It makes every run 0.03 ms longer, so it is for models on probation."""
        return self._model is not None and self._model.interruptible

    @interruptible.setter
    def interruptible(self, value: bool) -> None:
        if self._model is not None:
            self._model.interruptible = value

    def interrupt(self) -> None:
        """From any thread: end a run of the model, begun while it was `interruptible`, that does not end by itself.

        From then on an interruptible detector fails.
        """
        if self._model is not None:
            self._model.file.run_options.terminate = True

    def raw_output(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A copy of the model's output for a frame, to compare with one that was stored; empty for the stub."""
        if self._model is None:
            return np.zeros(0, np.float32)
        prepared = self.prepare(pixels)
        output = self.run(prepared).copy()
        self._model.give_back(prepared)
        _check_finite(output, self._model.file.where)
        return output

    @property
    def _loaded(self) -> LoadedModel:
        if self._model is None:
            raise ModelError("the stub has no model to run: call detect, which sees nothing")
        return self._model

    def _of_the_project(self, candidates: Candidates) -> Candidates:
        """Model class ids to the project's; candidates of surplus classes are left out."""
        class_id = self._classes.project_ids[candidates.class_id]
        mapped = Candidates(candidates.xyxy, candidates.confidence, class_id, candidates.beside)
        return mapped if self._classes.keeps_all else mapped[class_id >= 0]

    def _shapes(
        self,
        kept: Candidates,
        xyxy: NDArray[np.float32],
        letterbox: Letterbox,
        prototypes: NDArray[np.float32] | None,
    ) -> tuple[tuple[Mask, ...] | None, NDArray[np.float32] | None]:
        """Masks and keypoints, where the model has them."""
        if kept.beside is None:
            return None, None
        if self._beside.keypoints is not None:
            return None, keypoints_in_image(kept.beside, self._beside.keypoints, letterbox)
        return None if prototypes is None else masks_in_image(prototypes, kept.beside, xyxy, letterbox), None


def _check_finite(output: NDArray[np.float32], where: str) -> None:
    with np.errstate(invalid="ignore"):
        extremes = float(output.min()), float(output.max())  # NaN passes through both
    if not all(map(math.isfinite, extremes)):
        raise ModelError(f"{where}: the model's output holds NaN or infinity: go back to another model")


def _check(candidates: Candidates, where: str) -> None:
    """Refuse what is no confidence or no box; NMS and sampling would go on with it. At least one candidate."""
    highest = float(candidates.confidence.max())
    if highest > 1 + _SCORE_TOLERANCE:
        raise ModelError(
            f"{where}: the model gives a confidence of {highest:g}, above 1: its output is of another format"
        )
    if not np.isfinite(candidates.xyxy).all():
        raise ModelError(f"{where}: the model gives boxes that are not finite: go back to another model")


def open_detector(
    model: str | Path,
    *,
    project_classes: Sequence[str] | None,
    model_classes: Sequence[str] | str | None = None,
    confidence_floor: float = 0.05,
    nms_iou: float = 0.6,
    threads: int = 0,
    max_detections: int = 300,
    providers: Sequence[str] = ("cpu",),
    batch: int = 1,
    masks: bool = False,
    embedding: str = "",
) -> Detector:
    """Open a model, or "stub" for none.

    project_classes: the class list that ids of Detections index; None for the model's own. model_classes: the class
    names of a file that has no metadata, "coco80" or the names in order; ignored where the file names them itself.
    threads: of ONNX Runtime, 0 for its own choice. providers: execution providers in the order in which they are
    wanted; the first that is there computes. batch: frames that are to be run at once at most, where the model can.
    masks: Detections of a model for segmentation carry them; its frames are then run one by one.
    embedding: the name of an output with pooled features, which `Prepared.embedding` then has.

    Raises ModelError, ClassesDoNotOverlap when no class is in both, and SettingsError when no provider is there.
    """
    settings = DetectorSettings(confidence_floor, nms_iou, max_detections, masks)
    if model == STUB:
        return Detector(None, None, _stub_classes(project_classes), settings)
    file = read_model(model, threads, providers, batch, embedding)
    if embedding:
        check_embedding(file, embedding)
    format_, names, beside = recognise(file, named_classes(model_classes))
    return Detector(
        file, format_, map_classes(names, project_classes, file.where), settings, beside, embeds=bool(embedding)
    )


def _stub_classes(project_classes: Sequence[str] | None) -> ClassMap:
    names = tuple(project_classes or ())
    return ClassMap(names, np.zeros(0, np.int64), surplus=(), missing=names)
