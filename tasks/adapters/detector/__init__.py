"""onnxruntime: a frame becomes Detections. Ultralytics exports, YOLOX, and the stub of a device without a model.

    detector = open_detector("model.onnx", project_classes=["car", "truck"])
    detections = detector.detect(frame.pixels)

`model_file` reads and checks the file, `providers` chooses what computes, `loaded` runs it, `formats` knows how each
kind of model wants its input and writes its output, `preprocessing` fills the input, `classes` maps the model's class
names to the project's, `detector` puts them together.
"""

from tasks.adapters.detector.classes import COCO_80
from tasks.adapters.detector.detector import Detector, DetectorSettings, open_detector
from tasks.adapters.detector.loaded import Prepared
from tasks.adapters.detector.probe import probe_frame

__all__ = ["COCO_80", "Detector", "DetectorSettings", "Prepared", "open_detector", "probe_frame"]
