"""What can go wrong, as a tree. Every message says what, where and what to do; the CLI prints it and exits with 2.

EdgeloopError
├── SettingsError              a file of settings that cannot be obeyed
│   ├── BandBelowFloor         a strategy asks for confidences that the detector never keeps
│   └── ClassesDoNotOverlap    the model and the project have no class in common
├── DataError                  one item of many is bad: it is skipped, counted and named
│   ├── ImageUnreadable
│   ├── LabelsInvalid
│   └── RecordInvalid          a JSON record that is not what its schema says
├── SourceUnavailable          a camera, video or folder that cannot be opened
├── ModelError                 an ONNX file or a checkpoint that cannot be used
├── BucketError                the bucket cannot be reached, read or written
│   ├── ObjectMissing
│   ├── ObjectConflict         somebody else has written this number with other content
│   └── ObjectTooLong          an object with more bytes than it should have
├── OutboxFull                 nothing of lesser value is left that could make room
├── ReleaseRefused             a release that a device does not install, with the reason
│   └── ReleaseUntrusted       what the bucket holds is not what was signed, or no longer; asked for again
├── NotEnoughData              a decision that needs more images, with how many
├── ReviewUnavailable          FiftyOne or its database cannot be started
├── LabellingUnavailable       the place where people label does not answer, or refuses us
├── TrainingFailed             training or export did not end with a usable model
└── AlreadyRunning             the folder or the device is held by another process
"""


class EdgeloopError(Exception):
    """Base of every error that is meant for the user's eyes."""


class SettingsError(EdgeloopError):
    """A settings file that cannot be obeyed."""


class BandBelowFloor(SettingsError):
    """A strategy's whole band lies below the confidence floor, so that it could never fire."""


class ClassesDoNotOverlap(SettingsError):
    """The model shares no class name with the project."""


class DataError(EdgeloopError):
    """One item of many is bad; callers skip it, count it and go on."""


class ImageUnreadable(DataError):
    """A file or object that is not a readable image."""


class LabelsInvalid(DataError):
    """A label file with an unknown class, a box outside its image, or a broken syntax."""


class RecordInvalid(DataError):
    """A JSON record that does not follow its schema."""


class SourceUnavailable(EdgeloopError):
    """A camera, video or folder that cannot be opened."""


class ModelError(EdgeloopError):
    """An ONNX file or a checkpoint that cannot be used."""


class BucketError(EdgeloopError):
    """The bucket cannot be reached, read or written."""


class ObjectMissing(BucketError):
    """There is no object of that key."""


class ObjectConflict(BucketError):
    """The key is taken by other content, written by somebody else."""


class ObjectTooLong(BucketError):
    """An object with more bytes than it should have."""


class OutboxFull(EdgeloopError):
    """The outbox is at its cap and holds nothing of lesser value."""


class ReleaseRefused(EdgeloopError):
    """A release that a device does not install; the message is the reason in its status."""


class ReleaseUntrusted(ReleaseRefused):
    """What the bucket holds is not what the project's keys signed, or no longer; it may be right again later."""


class NotEnoughData(EdgeloopError):
    """A decision that needs more images than there are."""


class ReviewUnavailable(EdgeloopError):
    """FiftyOne or its database cannot be started."""


class LabellingUnavailable(EdgeloopError):
    """The place where people label does not answer, or refuses us."""


class TrainingFailed(EdgeloopError):
    """Training or export did not end with a usable model."""


class AlreadyRunning(EdgeloopError):
    """Another process holds the folder or the device."""
