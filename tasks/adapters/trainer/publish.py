"""A checkpoint that is given away: the weights and nothing about the machine or the day that made them."""

from __future__ import annotations

import io
from hashlib import sha256
from pathlib import Path

from tasks.adapters.trainer.library import load_checkpoint, quiet

KEPT_ARGUMENTS = ("task", "imgsz")


def publish_checkpoint(checkpoint: Path, out: Path) -> str:
    """Write the model of `checkpoint` to `out` at half precision, without optimizer, paths and dates; the digest.

    The digest is the sha256 of names and values of all weights. Equal weights give equal files. Raises ModelError for a
    checkpoint that cannot be used.
    """
    import torch

    loaded = load_checkpoint(checkpoint)
    model = loaded.model.half()
    arguments = loaded.ckpt.get("train_args") or {}
    model.args = {name: arguments[name] for name in KEPT_ARGUMENTS if name in arguments}
    model.pt_path = out.name
    model.yaml = {**model.yaml, "yaml_file": ""}
    model.criterion = None
    digest = sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    for parameter in model.parameters():
        parameter.requires_grad = False
    content = io.BytesIO()
    with quiet():
        torch.save(
            {
                "epoch": -1,
                "model": model,
                "ema": None,
                "optimizer": None,
                "train_args": model.args,
                "license": "AGPL-3.0",
            },
            content,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(content.getvalue())
    return digest.hexdigest()
