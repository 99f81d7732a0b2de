"""The collector: the one long-running process of a device. It knows the bucket and no Prefect.

    capture -> detector -> sampler -> outbox -> uploader -> bucket         orders (releases) come back the same way

`collector` holds the device's lock and hosts its projects. Each `project` has a detector, a sampler, an outbox, orders
and counters of its own, and a thread that begins it anew when it fails (`hosting`); `cameras` decodes each camera once
and hands its frames to every project that looks at it. The own project's state, status and spool lie in the device's
outbox folder, those of the others below it in `projects/<name>`.

Capture never waits for the network and the detector never for the disk: `capture`, `inference` (the model), `project`
with its `pipeline` (detections and sampler), `spooler` (outbox), `uploader` and `orders` are threads of their own, with
bounded queues between them. What is done of a frame before it is decided (`ahead`) counts for nothing once the model
was exchanged. `consumers` are told what is seen, `server` takes frames from outside, `metrics` and `logs` watch.

    status = run_collector(device)                                 # in the foreground, until the sources end
    pid = start_detached(CollectorConfig(device=device))           # or as a process of its own
"""

from tasks.collector.config import CollectorConfig
from tasks.collector.drain import drain_outbox
from tasks.collector.process import collector_pid, read_status, start_detached, stop_collector
from tasks.collector.run import run_collector

__all__ = [
    "CollectorConfig",
    "collector_pid",
    "drain_outbox",
    "read_status",
    "run_collector",
    "start_detached",
    "stop_collector",
]
