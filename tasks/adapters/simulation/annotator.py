"""People, simulated: they know the truth, overlook some of it, believe some false pre-annotations, draw imprecisely."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.layout import HEIGHT, WIDTH
from tasks.adapters.simulation.world import CAMERAS, YardWorld
from tasks.adapters.simulation.yard import ground_truth
from tasks.core.boxes import iou_matrix
from tasks.core.entities import Detection, Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid, SettingsError

Truth = Callable[[Sample], list[LabelBox]]

SAME_OBJECT_IOU = 0.5  # from here on a pre-annotation is taken for the object
GOOD_ENOUGH_IOU = 0.75  # from here on it is left as it is
LABELLED_AFTER = timedelta(hours=24)
_YARD_SOURCE = re.compile(r"yard-(\d+)#(\d+)\Z")


class LabelledImage(Protocol):
    """What `FolderTruth` needs of an imported image: its size in pixels and its boxes."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def boxes(self) -> Sequence[LabelBox]: ...


def scaled(box: LabelBox, across: float, down: float) -> LabelBox:
    """A box of an image that was made smaller."""
    x1, y1, x2, y2 = box.xyxy
    return LabelBox(class_name=box.class_name, crowd=box.crowd, xyxy=(x1 * across, y1 * down, x2 * across, y2 * down))


class YardTruth:
    """The truth of a yard's sample, recomputed from the seed and the sample's source, in the sample's pixels."""

    def __init__(self, seed: int, *, day_frames: int = 500, drift_from: float | None = 1.5) -> None:
        self.world = YardWorld(seed=seed, day_frames=day_frames, drift_from=drift_from)

    def __call__(self, sample: Sample) -> list[LabelBox]:
        """Raises SettingsError for a sample of another source: the annotator was set up for another world."""
        found = _YARD_SOURCE.match(sample.source)
        if found is None or int(found[1]) >= CAMERAS:
            raise SettingsError(
                f"sample {sample.sample_id}: its source {sample.source!r} is no frame of the yard: "
                "give the annotator the truth of the world that the camera shows"
            )
        boxes = ground_truth(self.world, int(found[1]), int(found[2]))
        return [scaled(box, sample.width / WIDTH, sample.height / HEIGHT) for box in boxes]


class FolderTruth:
    """Held-back labels of a folder of photographs, by file name, in the sample's pixels."""

    def __init__(self, images: Mapping[str, LabelledImage]) -> None:
        self._images = images

    def __call__(self, sample: Sample) -> list[LabelBox]:
        """Raises LabelsInvalid for a picture without held-back labels."""
        image = self._images.get(sample.source)
        if image is None:
            raise LabelsInvalid(f"sample {sample.sample_id}: nothing is known of a picture {sample.source!r}")
        return [scaled(box, sample.width / image.width, sample.height / image.height) for box in image.boxes]


class SimulatedAnnotator:
    """Labels samples as a person might; the same sample and pre-annotations give the same label.

    truth: what is really there. overlook_rate: share of the objects without a pre-annotation that stay unlabelled,
    which without pre-annotations are all. accept_false_rate: share of false pre-annotations that are kept. jitter:
    deviation of each side of a drawn box, as a share of the box's width or height. A pre-annotation that fits well
    (IoU >= 0.75) is left as it is; one that fits less (IoU >= 0.5) is drawn again. A sample whose truth is unknown
    (LabelsInvalid) is skipped.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        seed: int,
        overlook_rate: float = 0.05,
        accept_false_rate: float = 0.1,
        jitter: float = 0.02,
        name: str = "simulated annotator",
    ) -> None:
        for field, value in (("overlook_rate", overlook_rate), ("accept_false_rate", accept_false_rate)):
            if not 0 <= value <= 1:
                raise SettingsError(f"simulated annotator: {field} is {value}: set it from 0 to 1")
        if not 0 <= jitter <= 0.2:
            raise SettingsError(f"simulated annotator: jitter is {jitter}: set it from 0 to 0.2")
        self.name = name
        self._truth = truth
        self._seed = seed
        self._overlook_rate = overlook_rate
        self._accept_false_rate = accept_false_rate
        self._jitter = jitter

    def label(self, sample: Sample, pre_annotations: Sequence[Detection] | None) -> Label:
        """The label of one sample. pre_annotations: what the person is shown to begin with; None: a blank image."""
        random = np.random.default_rng(list(blake2b(f"{self._seed}/{sample.sample_id}".encode()).digest()[:16]))
        try:
            truths = self._truth(sample)
        except LabelsInvalid:  # nobody knows what is in it, so this person passes it over
            return Label(
                sample_id=sample.sample_id,
                status="skipped",
                annotator=self.name,
                labelled_at=sample.captured_at + LABELLED_AFTER,
                seeded=pre_annotations is not None,
            )
        overlooked = random.random(len(truths)) < self._overlook_rate
        drawn = [self._draw(truth, sample, random) for truth in truths]
        shown = list(pre_annotations or ())
        believed = random.random(len(shown)) < self._accept_false_rate
        prompt_of, iou = _prompts(truths, shown)
        boxes, corrections = [], 0
        for number, truth in enumerate(truths):
            prompt = prompt_of.get(number)
            if prompt is None:
                if not overlooked[number]:
                    boxes.append(drawn[number])
                    corrections += 1
                continue
            fits = iou[number, prompt] >= GOOD_ENOUGH_IOU
            box = LabelBox(class_name=truth.class_name, xyxy=shown[prompt].xyxy) if fits else drawn[number]
            boxes.append(box)
            corrections += not (fits and shown[prompt].class_name == truth.class_name)
        for number, detection in enumerate(shown):
            if number in prompt_of.values():
                continue
            if believed[number]:
                boxes.append(LabelBox(class_name=detection.class_name, xyxy=detection.xyxy))
            else:
                corrections += 1
        seeded = pre_annotations is not None
        return Label(
            sample_id=sample.sample_id,
            boxes=tuple(boxes),
            annotator=self.name,
            labelled_at=sample.captured_at + LABELLED_AFTER,
            seeded=seeded,
            corrections=corrections if seeded else 0,
        )

    def _draw(self, truth: LabelBox, sample: Sample, random: np.random.Generator) -> LabelBox:
        """The object's box as a hand draws it: every side a little off, inside the image, never empty."""
        x1, y1, x2, y2 = truth.xyxy
        limits = np.array((sample.width, sample.height, sample.width, sample.height), float)
        sides = np.array((x2 - x1, y2 - y1, x2 - x1, y2 - y1))
        offset = np.clip(random.standard_normal(4) * self._jitter, -0.45, 0.45)
        left, top, right, bottom = (float(v) for v in np.clip(np.array(truth.xyxy) + offset * sides, 0, limits))
        return LabelBox(class_name=truth.class_name, crowd=truth.crowd, xyxy=(left, top, right, bottom))


def _prompts(truths: Sequence[LabelBox], shown: Sequence[Detection]) -> tuple[dict[int, int], NDArray[np.float64]]:
    """Which pre-annotation stands for which object, one to one by descending IoU; a wrong class is no obstacle."""
    objects = np.array([t.xyxy for t in truths], float).reshape(-1, 4)
    iou = iou_matrix(objects, np.array([d.xyxy for d in shown], float).reshape(-1, 4))
    pairs = sorted(zip(*np.nonzero(iou >= SAME_OBJECT_IOU)), key=lambda pair: (-iou[pair], *pair))
    prompt_of: dict[int, int] = {}
    taken = set()
    for number, prompt in pairs:
        if int(number) not in prompt_of and int(prompt) not in taken:
            prompt_of[int(number)] = int(prompt)
            taken.add(int(prompt))
    return prompt_of, iou
