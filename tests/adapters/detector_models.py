"""The detector's tests know these by this name; they live in `models`."""

from tests.adapters.models import ULTRALYTICS, constant_model, finished, saved, ultralytics_output, with_metadata

__all__ = ["ULTRALYTICS", "constant_model", "finished", "saved", "ultralytics_output", "with_metadata"]
