"""The stages of the loop, and below them the collector, the adapters and the core."""

import os

# ONNX Runtime's wheels would write a device id and a database of events below the home folder and report to their
# vendor. They look at this before anything else, so it is set before any adapter can import them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
