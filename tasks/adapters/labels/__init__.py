"""Label files: COCO, YOLO, VOC and Label Studio's JSON <-> labels.

    read_dataset      a dataset of others, to import
    read_labels       what labellers put back for a batch; read_returned says all that was found
    read_labelstudio  an export of Label Studio
    parts_of          labels of many images as the files of a format, piece by piece
    revision_bytes    a label revision as the bucket holds it (COCO), and labels_from_coco its inverse
    write_yolo        a dataset version for a trainer
    read_coco_pair    ground truth and predictions of anybody's model; open_pair, then coco_pair or class_pair, where
                      the task is not known
    unpack            a zip of any of these

yolo_text and voc_bytes write the file of one image.
"""

from tasks.adapters.labels.archive import unpack
from tasks.adapters.labels.coco import labels_from_coco, revision_bytes
from tasks.adapters.labels.dataset import ImportedDataset, ImportedImage, Problems
from tasks.adapters.labels.detect import read_dataset
from tasks.adapters.labels.labelstudio_json import percent_box, pixels_box, read_labelstudio
from tasks.adapters.labels.pair import CocoPair, PairedImage, coco_pair, read_coco_pair, write_coco_pair
from tasks.adapters.labels.pair_classes import ClassPair, class_pair
from tasks.adapters.labels.pair_files import PairFiles, open_pair
from tasks.adapters.labels.returned import Classes, Returned, read_labels, read_returned
from tasks.adapters.labels.voc import voc_bytes
from tasks.adapters.labels.written import FORMATS, LabelFormat, LabelledImage, LabelSet, Part, parts_of
from tasks.adapters.labels.yolo import TrainingFolder, write_yolo, yolo_text

__all__ = [
    "FORMATS",
    "ClassPair",
    "Classes",
    "CocoPair",
    "ImportedDataset",
    "ImportedImage",
    "LabelFormat",
    "LabelSet",
    "LabelledImage",
    "PairFiles",
    "PairedImage",
    "Part",
    "Problems",
    "Returned",
    "TrainingFolder",
    "class_pair",
    "coco_pair",
    "labels_from_coco",
    "open_pair",
    "parts_of",
    "percent_box",
    "pixels_box",
    "read_coco_pair",
    "read_dataset",
    "read_labels",
    "read_labelstudio",
    "read_returned",
    "revision_bytes",
    "unpack",
    "voc_bytes",
    "write_coco_pair",
    "write_yolo",
    "yolo_text",
]
