"""One zip for people elsewhere: it appears whole or not at all, and equal content gives equal bytes.

    {batch}.zip
      images/{sample}.jpg       what to label
      pre_annotations/{format}/ what the model saw, for the images that may be seeded, in each format that was asked for
      classes.txt               the class list, in YOLO's order
      instructions.md           what to do, and how to send it back

Images are stored as they are and everything is written as it is read, so that memory does not grow with the images.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.adapters.labels import LabelFormat, LabelSet, Part, parts_of
from tasks.core.entities import Batch
from tasks.core.errors import SettingsError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can say: files have none of their own here
INSTRUCTIONS = """# {batch}{asked}

{images} images in `images/`. Draw a box around every object of these classes, as tightly as you can: {classes}.

`pre_annotations/` holds what a model saw in {seeded} of them ({formats}): correct it, and add what it overlooked. The
other images come without pre-annotations on purpose: they measure the model.

Send one zip back:

- Put what you have finished into a folder `labels/`, as COCO (.json), YOLO (.txt), VOC (.xml) or an export of Label
  Studio (JSON), with the file names of `images/`. The images themselves need not come back.
- An image with an empty label counts as reviewed and empty. Leave out what you have not looked at.
- A part is welcome at any time. A later label of an image replaces its earlier one; images that are not in a zip keep
  what they have.
- Files in `pre_annotations/` count where you changed them. Boxes that are right as they are belong into `labels/`, too:
  what still lies as it was sent may never have been looked at.
- Do not change the list of classes (`classes.txt`): write to us about what is missing in it.
"""


def write_zip(target: Path, parts: Iterable[Part], files: Iterable[tuple[str, Path]] = ()) -> None:
    """A zip of `parts`, which are deflated, and of local `files`, which are stored as they are.

    Raises SettingsError where it cannot be written; what was there before stays.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as zipped:
            for name, path in files:
                with path.open("rb") as source, zipped.open(member(name, path.stat().st_size), "w") as file:
                    shutil.copyfileobj(source, file)
            for name, pieces in parts:
                info = member(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                with zipped.open(info, "w") as file:
                    for piece in pieces:
                        file.write(piece)
        with temporary.open("rb") as done:
            os.fsync(done.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise SettingsError(
            f"{target}: cannot be written ({error.strerror or error}): make room, or name another file"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def member(name: str, size: int = 0) -> zipfile.ZipInfo:
    """A file of a zip, readable by all, without a time."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system, info.external_attr, info.file_size = 3, (stat.S_IFREG | 0o644) << 16, size
    return info


def parts_to_label(batch: Batch, seeds: LabelSet, formats: Sequence[LabelFormat], images: int) -> Iterable[Part]:
    """What goes out beside the images."""
    text = INSTRUCTIONS.format(
        batch=batch.batch_id,
        asked=f", for {batch.assignee}" if batch.assignee else "",
        images=images,
        classes=", ".join(batch.class_names),
        seeded=len(seeds.images),
        formats=", ".join(formats),
    )
    yield "instructions.md", [text.encode()]
    yield "classes.txt", ["".join(f"{name}\n" for name in batch.class_names).encode()]
    for form in formats:
        for name, pieces in parts_of(form, seeds):
            yield f"pre_annotations/{form}/{name}", pieces
