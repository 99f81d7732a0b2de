"""What the tests with a real Label Studio share."""

from tests.adapters.labelstudio.server import batch_of, image_of, labelling, server  # noqa: F401
