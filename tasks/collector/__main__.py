"""`python -m tasks.collector --config collector.json`: the collector as its own process."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from tasks.collector.config import CollectorConfig
from tasks.collector.logs import Redactor, start_logging
from tasks.collector.run import run_collector
from tasks.core.errors import EdgeloopError, SettingsError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON of a CollectorConfig")
    arguments = parser.parse_args()
    try:
        config = _read(arguments.config)
        start_logging(config.device)
        status = run_collector(**{name: getattr(config, name) for name in CollectorConfig.model_fields})
    except EdgeloopError as error:
        print(Redactor()(str(error)), file=sys.stderr)
        return 2
    print(status.model_dump_json(), file=sys.stderr)
    return 0


def _read(path: Path) -> CollectorConfig:
    try:
        return CollectorConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}: name an existing file") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {field}: {first['msg']}") from None


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written; a call to a bucket that does not answer must not keep the process for its timeout.
    os._exit(code)
