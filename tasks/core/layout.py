"""Every key of the bucket, one function a kind. Nothing else in the project spells a key.

    {root}/{project}/
      devices/{device}/status.json                           mutable, the last writer wins
      devices/{device}/samples/{yyyy-mm-dd}/{sample}.jpg     sample = 20 hex of the sha256 of the encoded image
      devices/{device}/segments/{n:012d}.jsonl.gz            the commit record: n consecutive, created conditionally
      devices/{device}/traffic/{n:012d}.jsonl.gz             a uniform sample of the confidences of all frames
      settings/{group}/{number:06d}.json
      releases/{group}/{number:06d}.json                     a TUF target, as are the models' files
      tuf/timestamp.json                                     signed TUF metadata: this one is mutable,
      tuf/{n}.root.json, {n}.targets.json, {n}.snapshot.json these are created conditionally
      batches/{batch}/batch.json, labels/{revision:06d}.json
      batches/{batch}/given/{n:06d}.json                     what people began with in the FiftyOne App
      batches/{batch}/opinions/{n:06d}.jsonl.gz              labels of images that several people have labelled
      batches/{batch}/offered.json, done.json, close.json, final.json, told/{what}.json   created once each
      batches/{batch}/decision.json                          of a trial batch: accepted or rejected, created once
      batches/{batch}/assigned.json                          who is asked to label it: this one is mutable
      batches/{batch}/accepted/{revision:06d}.json           predictions that were accepted in bulk
      gold/{number:06d}.json                                 labels that somebody vouched for
      requests/{number:06d}.json                             batches that somebody asked people to label
      datasets/{dataset_version}/dataset.json, manifest.parquet
      models/{model_version}/model.onnx, weights.pt, model.json
      evaluations/{evaluation}/evaluation.json, matches.parquet, report.html, *.png
      suggestions/{suggestion}.json, {suggestion}-approved.json
      verdicts/{number:06d}.json
      allocations/{number:06d}.json                          how the labels of a week were shared out
      drift/{number:06d}.json                                what a look for drift found
      turns/{number:06d}.json                                what one central turn did and what it waits for

Names come from outside (device configurations, batch prefixes), so each one is checked before it becomes a key.
"""

import re
from datetime import datetime

from tasks.core.errors import SettingsError

NAME = re.compile(r"[a-z0-9-]{1,63}\Z")
HEX_ID = re.compile(r"[0-9a-f]{16}\Z")
SAMPLE_ID = re.compile(r"[0-9a-f]{20}\Z")
FILE_NAME = re.compile(r"[a-z0-9_-]{1,80}\.(json|html|png|parquet|onnx|pt|csv|md)\Z")

SELF_TEST = "self-test"  # folder of the small objects that a bucket is tried with


def checked(pattern: re.Pattern[str], value: str, what: str) -> str:
    """`value`, when it matches `pattern`; a SettingsError that names `what` otherwise."""
    if not pattern.match(value):
        raise SettingsError(
            f"{what} {value!r} cannot be part of a bucket key: use {pattern.pattern.removesuffix(chr(92) + 'Z')}"
        )
    return value


def name(value: str, what: str = "name") -> str:
    """A name of a device, group, project or batch, checked."""
    return checked(NAME, value, what)


def device_prefix(device: str) -> str:
    return f"devices/{name(device, 'device name')}"


def device_status(device: str) -> str:
    return f"{device_prefix(device)}/status.json"


def sample_image(device: str, captured_at: datetime, sample_id: str) -> str:
    return f"{device_prefix(device)}/samples/{captured_at:%Y-%m-%d}/{checked(SAMPLE_ID, sample_id, 'sample id')}.jpg"


def segment(device: str, number: int) -> str:
    return f"{device_prefix(device)}/segments/{number:012d}.jsonl.gz"


def traffic(device: str, number: int) -> str:
    return f"{device_prefix(device)}/traffic/{number:012d}.jsonl.gz"


def settings(group: str, number: int) -> str:
    return f"settings/{name(group, 'group')}/{number:06d}.json"


def release(group: str, number: int) -> str:
    return f"releases/{name(group, 'group')}/{number:06d}.json"


TUF_PREFIX = "tuf/"


def tuf_timestamp() -> str:
    return f"{TUF_PREFIX}timestamp.json"


def tuf_metadata(role: str, version: int) -> str:
    """`role` is root, targets or snapshot."""
    return f"{TUF_PREFIX}{version}.{name(role, 'role')}.json"


def batch(batch_id: str) -> str:
    return f"batches/{name(batch_id, 'batch')}/batch.json"


def labels(batch_id: str, revision: int) -> str:
    return f"batches/{name(batch_id, 'batch')}/labels/{revision:06d}.json"


def opinions(batch_id: str, number: int) -> str:
    return f"batches/{name(batch_id, 'batch')}/opinions/{number:06d}.jsonl.gz"


def batch_done(batch_id: str) -> str:
    return f"batches/{name(batch_id, 'batch')}/done.json"


def batch_given(batch_id: str, number: int) -> str:
    """Images that people were given in the FiftyOne App, with the boxes that they began with."""
    return f"batches/{name(batch_id, 'batch')}/given/{number:06d}.json"


def batch_offered(batch_id: str) -> str:
    """When people got it first."""
    return f"batches/{name(batch_id, 'batch')}/offered.json"


def batch_closed(batch_id: str, final: bool = False) -> str:
    """Who ended it by hand. final: so that no later label is taken in."""
    return f"batches/{name(batch_id, 'batch')}/{'final' if final else 'close'}.json"


def batch_told(batch_id: str, what: str) -> str:
    """That an event of this batch has arrived. `what` is its name within the batch."""
    return f"batches/{name(batch_id, 'batch')}/told/{name(what, 'event')}.json"


def trial_decision(batch_id: str) -> str:
    return f"batches/{name(batch_id, 'batch')}/decision.json"


def assignment(batch_id: str) -> str:
    return f"batches/{name(batch_id, 'batch')}/assigned.json"


def accepted_predictions(batch_id: str, revision: int) -> str:
    """Which images of a label revision were accepted in bulk with it, and by whom."""
    return f"batches/{name(batch_id, 'batch')}/accepted/{revision:06d}.json"


def gold(number: int) -> str:
    return f"gold/{number:06d}.json"


def request(number: int) -> str:
    return f"requests/{number:06d}.json"


def dataset(dataset_version: str) -> str:
    return f"datasets/{checked(HEX_ID, dataset_version, 'dataset version')}/dataset.json"


def manifest(dataset_version: str) -> str:
    return f"datasets/{checked(HEX_ID, dataset_version, 'dataset version')}/manifest.parquet"


def model_file(model_version: str, file_name: str) -> str:
    """`file_name` is model.onnx, weights.pt or model.json."""
    checked(FILE_NAME, file_name, "file name")
    return f"models/{checked(HEX_ID, model_version, 'model version')}/{file_name}"


def evaluation_file(evaluation: str, file_name: str) -> str:
    """`file_name` is evaluation.json, matches.parquet, report.html or a plot."""
    checked(FILE_NAME, file_name, "file name")
    return f"evaluations/{checked(HEX_ID, evaluation, 'evaluation')}/{file_name}"


def approval(suggestion_id: str) -> str:
    return f"suggestions/{checked(HEX_ID, suggestion_id, 'suggestion')}-approved.json"


def suggestion(suggestion_id: str) -> str:
    return f"suggestions/{checked(HEX_ID, suggestion_id, 'suggestion')}.json"


def verdict(number: int) -> str:
    return f"verdicts/{number:06d}.json"


def allocation(number: int) -> str:
    return f"allocations/{number:06d}.json"


def drift(number: int) -> str:
    return f"drift/{number:06d}.json"


def turn(number: int) -> str:
    return f"turns/{number:06d}.json"


def conditional_writes() -> str:
    """That this bucket honours conditional writes, found out once."""
    return f"{SELF_TEST}/conditional-writes.json"


def ingest_cursor(device: str) -> str:
    """How many segments of a device central has taken in; mutable, written by central alone."""
    return f"ingest/{name(device, 'device name')}.json"
