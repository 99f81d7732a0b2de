"""Class names: what the model calls its classes, and which of the project's classes they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import ClassesDoNotOverlap, ModelError

# The 80 classes of COCO 2017 in the order of every detector trained on it.
COCO_80 = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,
bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,
snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,
knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,
scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")
)


def named_classes(model_classes: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """What a user said of a file without metadata: `coco80`, names in a list or with commas, or nothing."""
    if model_classes is None or len(model_classes) == 0:
        return None
    if not isinstance(model_classes, str):
        return tuple(model_classes)
    if model_classes == "coco80":
        return COCO_80
    if "," in model_classes:
        return tuple(name.strip() for name in model_classes.split(","))
    raise ModelError(f"--classes {model_classes!r} is not known: pass coco80, or the class names separated by commas")


@dataclass(frozen=True, slots=True)
class ClassMap:
    """From the model's classes to the project's, by name.

    project_ids: (number of model classes,) int64, the project's class id, or -1 for a class that the project lacks.
    surplus: the model's classes that are ignored. missing: the project's classes that the model cannot see.
    """

    class_names: tuple[str, ...]
    project_ids: NDArray[np.int64]
    surplus: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def keeps_all(self) -> bool:
        return not self.surplus


def map_classes(model_names: Sequence[str], project_names: Sequence[str] | None, where: str) -> ClassMap:
    """Match by name; without a project the model's own names and ids are used.

    Raises ClassesDoNotOverlap, naming both lists, when no name is in both.
    """
    names = tuple(model_names) if project_names is None else tuple(project_names)
    ids = {name: i for i, name in enumerate(names)}
    if not ids.keys() & set(model_names):
        raise ClassesDoNotOverlap(
            f"{where}: the model has no class of the project: it knows {', '.join(model_names) or 'none'}; the project "
            f"looks for {', '.join(names) or 'none'}: rename the project's classes, or pass another model or --classes"
        )
    return ClassMap(
        class_names=names,
        project_ids=np.array([ids.get(name, -1) for name in model_names], np.int64),
        surplus=tuple(name for name in model_names if name not in ids),
        missing=tuple(name for name in names if name not in set(model_names)),
    )
