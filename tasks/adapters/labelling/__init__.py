"""Where people label: one interface, and a file for each place.

files.py      folders: batches go out as images and COCO, labels come back as COCO, YOLO or VOC
seeds.py      the pre-annotations that people begin with
"""

from tasks.adapters.labelling.files import FilesLabelling
from tasks.adapters.labelling.interface import Labelling, LabellingStatus, Offer
from tasks.adapters.labelling.seeds import is_seeded, pre_annotation, pre_annotations

__all__ = [
    "FilesLabelling",
    "Labelling",
    "LabellingStatus",
    "Offer",
    "is_seeded",
    "pre_annotation",
    "pre_annotations",
]
