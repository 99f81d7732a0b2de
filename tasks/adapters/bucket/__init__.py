"""The bucket: one fsspec-style URL, a folder or S3, behind the same few verbs.

    bucket = Bucket("s3://fleet/edgeloop", "yard")
    bucket.create(layout.segment("cam-1", 7), encode_lines(samples))

Keys are immutable but for the few that layout.py calls mutable. Whoever wants the newest asks for n + 1.
"""

from tasks.adapters.bucket.access import Bucket
from tasks.adapters.bucket.lines import decode_lines, encode_lines
from tasks.adapters.bucket.store import TransientBucketError, checked_key

__all__ = ["Bucket", "TransientBucketError", "checked_key", "decode_lines", "encode_lines"]
