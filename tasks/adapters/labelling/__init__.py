"""Where people label: one interface, and a file for each place.

files.py      folders: batches go out as images and COCO, labels come back in any format (FILES.md)
package.py    one zip of a batch, for people elsewhere
labelstudio.py  a Label Studio server: a project a batch (LABELSTUDIO.md). Its API is in labelstudio_client.py, the page
              that people see in labelstudio_interface.py, a server of one's own in labelstudio_server.py
seeds.py      the pre-annotations that people begin with
"""

from tasks.adapters.labelling.files import FilesLabelling
from tasks.adapters.labelling.interface import Labelling, LabellingStatus, Offer
from tasks.adapters.labelling.package import parts_to_label, write_zip
from tasks.adapters.labelling.seeds import is_seeded, pre_annotation, pre_annotations, with_corrections

__all__ = [
    "FilesLabelling",
    "Labelling",
    "LabellingStatus",
    "Offer",
    "is_seeded",
    "parts_to_label",
    "pre_annotation",
    "pre_annotations",
    "with_corrections",
    "write_zip",
]
