"""The outbox: the crash-safe spool of a device, in plain files.

outbox = Outbox(Path("outbox"), cap_bytes=2**30)
outbox.put(sample, jpeg)            # acknowledged: it survives kill -9 and a power cut from here on
for item in outbox.pending(50):
    bucket.put(key, outbox.read_image(item.sample))
outbox.delivered(samples)           # once the segment that names them is in the bucket

{folder}/samples/{sample}.jpg, {sample}.*.json          one sample each; it exists when its JSON does
{folder}/quarantine/                                    what turned out corrupt, for people to look at
{folder}/delivered.txt                                  ids that are in the bucket, so that nothing goes twice
{folder}/thinned.txt                                    what the cap has cost, as long as somebody waits who saw it
{folder}/traffic/                                       traffic logs on their way
{folder}/state.json, status.json, lock, starting        of the collector
"""

from tasks.adapters.durable import sync_folder
from tasks.adapters.outbox.encoding import encode_jpeg
from tasks.adapters.outbox.files import read_checked, write_checked, write_durably
from tasks.adapters.outbox.lock import DeviceLock, holder_of, starting
from tasks.adapters.outbox.spool import Outbox, Pending, Receipt

__all__ = [
    "DeviceLock",
    "Outbox",
    "Pending",
    "Receipt",
    "encode_jpeg",
    "holder_of",
    "read_checked",
    "starting",
    "sync_folder",
    "write_checked",
    "write_durably",
]
