"""ultralytics: train, resume, export to ONNX. Central only; the library is loaded by the first call.

Always offline, always with safe loading of checkpoints, writing nothing outside of the folder that it is given.
"""

from tasks.adapters.trainer.export import check_parity, export_onnx
from tasks.adapters.trainer.train import OnEpoch, TrainingResult, train

__all__ = ["OnEpoch", "TrainingResult", "check_parity", "export_onnx", "train"]
