"""onnxruntime: a frame becomes Detections. Ultralytics exports (detect, segment, pose, classify), YOLOX, and the stub.

    detector = open_detector("model.onnx", project_classes=["car", "truck"])
    detections = detector.detect(frame.pixels)

`model_file` reads and checks the file, `providers` chooses what computes, `loaded` runs it, `formats` knows how each
kind of model wants its input and writes its output, `preprocessing` fills the input, `classes` maps the model's class
names to the project's, `tasks` what models do beside finding boxes, `detector` puts them together.

A classifier's Detections have a row for each class of the project from the floor up, with the whole frame as its box.
Masks are there when they are asked for, keypoints always. What devices write down of a frame are boxes and classes.
"""

from tasks.adapters.detector.classes import COCO_80
from tasks.adapters.detector.detector import Detector, DetectorSettings, open_detector
from tasks.adapters.detector.embedding import OnnxEmbedder
from tasks.adapters.detector.loaded import Prepared
from tasks.adapters.detector.probe import probe_frame

__all__ = ["COCO_80", "Detector", "DetectorSettings", "OnnxEmbedder", "Prepared", "open_detector", "probe_frame"]
