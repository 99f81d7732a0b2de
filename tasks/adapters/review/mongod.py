"""FiftyOne's database: a mongod of ours on loopback, with its data in a folder of ours. Nothing in the home directory.

What it holds is a view of the bucket. Stop it, delete the folder, sync again, and everything is back.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.core.errors import ReviewUnavailable

LOOPBACK = "127.0.0.1"
URI_VARIABLE = "FIFTYONE_DATABASE_URI"
PLUGINS_VARIABLE = "FIFTYONE_PLUGINS_DIR"
FOLDER_VARIABLE = "EDGELOOP_REVIEW_FOLDER"  # set beside the URI when the URI is that of a server of ours
ANSWER_MILLISECONDS = 2000  # a server on loopback that takes longer is not there
SELECTION_MILLISECONDS = 3000
CACHE_GIGABYTES = "0.5"


def ensure_database(folder: Path) -> str:
    """The URI of a running database: of `FIFTYONE_DATABASE_URI` where that is set, else of a mongod with its data in
    `folder`, started when it is not running. Several processes may call this at once; they share one server.

    Sets FiftyOne's environment for this process and its children; call it before anything imports fiftyone.
    Raises ReviewUnavailable when there is no mongod that runs here, or it does not start.
    """
    folder = folder.resolve()
    uri = operators_own_uri()
    if uri is None:
        with held(folder):
            uri = uri_of(running_port(folder) or start(folder))
        os.environ[FOLDER_VARIABLE] = str(folder)
    os.environ.update(review_environment(folder, uri))
    return uri


def stop_database(folder: Path) -> bool:
    """Stop the mongod of `folder` cleanly; False when it was not running. A server that we did not start stays."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    folder = folder.resolve()
    if not folder.is_dir():
        return False
    with held(folder):
        port = running_port(folder)
        if port is None:
            return False
        client: MongoClient[dict[str, object]] = MongoClient(uri_of(port), serverSelectionTimeoutMS=ANSWER_MILLISECONDS)
        with suppress(PyMongoError):  # a server that goes away in the middle of its answer does what was asked
            client.admin.command("shutdown", timeoutSecs=10)
        client.close()
        wait_until_let_go(folder / "mongo" / "mongod.lock")
    return True


def wait_until_let_go(lock: Path, seconds: float = 30.0) -> None:
    """Until mongod has emptied its lock file, the last thing that it does: a new one could not start before."""
    deadline = time.monotonic() + seconds
    while is_held(lock):
        if time.monotonic() > deadline:
            raise ReviewUnavailable(f"the review database does not stop: {lock} is still held after {seconds:.0f} s")
        time.sleep(0.02)


def review_environment(folder: Path, uri: str) -> dict[str, str]:
    """FiftyOne's environment: our database, our folder, no tracking, no network, no progress bars in logs."""
    return {
        URI_VARIABLE: uri,
        "FIFTYONE_DATABASE_DIR": str(folder / "mongo"),
        "FIFTYONE_DATABASE_VALIDATION": "false",  # an older MongoDB than FiftyOne would like: it works, tried
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "datasets"),
        "FIFTYONE_DATASET_ZOO_DIR": str(folder / "datasets"),
        "FIFTYONE_MODEL_ZOO_DIR": str(folder / "models"),
        PLUGINS_VARIABLE: os.environ.get(PLUGINS_VARIABLE, str(folder / "plugins")),
        "FIFTYONE_CONFIG_PATH": str(folder / "config.json"),
        "FIFTYONE_APP_CONFIG_PATH": str(folder / "app_config.json"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(folder / "matplotlib")),  # FiftyOne imports it
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_LOGGING_LEVEL": os.environ.get("FIFTYONE_LOGGING_LEVEL", "WARNING"),
    }


def find_mongod() -> Path:
    """A mongod that runs here: `EDGELOOP_MONGOD`, the PATH, or the one of FiftyOne's database wheel, in this order."""
    fiftyone = importlib.util.find_spec("fiftyone")  # found, not executed: that would cost 8 s
    inside = [str(Path(p, "db", "bin", "mongod")) for p in (fiftyone and fiftyone.submodule_search_locations) or ()]
    for candidate in filter(None, [os.environ.get("EDGELOOP_MONGOD"), shutil.which("mongod"), *inside]):
        if os.access(candidate, os.X_OK) and runs(candidate):
            return Path(candidate)
    raise ReviewUnavailable(
        f"no mongod runs here: install edgeloop's 'mongod' extra, name one in EDGELOOP_MONGOD, or set {URI_VARIABLE} "
        "to a MongoDB server"
    )


def runs(mongod: str) -> bool:
    """Whether the binary starts at all: one built for another system fails on its libraries."""
    try:
        return subprocess.run([mongod, "--version"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def start(folder: Path) -> int:
    """Start a mongod with its data in `folder` and return its port once it accepts connections."""
    mongod = find_mongod()
    data = folder / "mongo"
    data.mkdir(parents=True, exist_ok=True)
    was_killed = is_held(data / "mongod.lock")
    port = free_port(last_port(folder))
    command = [
        str(mongod),
        "--fork",  # returns when connections are accepted, and the server outlives the process that wanted it
        *("--dbpath", str(data), "--logpath", str(folder / "mongod.log"), "--logappend"),
        *("--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket"),
        *("--wiredTigerCacheSizeGB", CACHE_GIGABYTES, "--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]
    try:
        started = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise ReviewUnavailable(f"{mongod} did not come up in 120 s: read {folder / 'mongod.log'}") from None
    if started.returncode != 0:
        raise ReviewUnavailable(f"{mongod} ended with {started.returncode}: read {folder / 'mongod.log'}")
    port_file(folder).write_text(json.dumps({"port": port}))
    if was_killed:
        count_again(port)
    return port


def is_held(lock: Path) -> bool:
    """Whether a mongod that has its name in there has not gone in order: the last thing that it does is to empty it."""
    return lock.exists() and lock.stat().st_size > 0


def count_again(port: int) -> None:
    """Let MongoDB count its documents. After a kill nothing is lost, but the number of documents that it remembers may
    be that of a minute before, and FiftyOne's App shows a dataset as empty whose number is 0."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    client: MongoClient[dict[str, object]]
    with MongoClient(uri_of(port)) as client, suppress(PyMongoError):  # the numbers alone are at stake
        for name in set(client.list_database_names()) - {"admin", "config", "local"}:
            for collection in client[name].list_collection_names(filter={"type": "collection"}):
                client[name].command("validate", collection)


def running_port(folder: Path) -> int | None:
    """The port of the server whose data lies in `folder`. A port that somebody else has taken since is not it."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    port = last_port(folder)
    if port == 0:
        return None
    client: MongoClient[dict[str, object]] = MongoClient(uri_of(port), serverSelectionTimeoutMS=ANSWER_MILLISECONDS)
    try:
        options = client.admin.command("getCmdLineOpts")
    except PyMongoError:
        return None
    finally:
        client.close()
    return port if options["parsed"].get("storage", {}).get("dbPath") == str(folder / "mongo") else None


def last_port(folder: Path) -> int:
    """The port that the server of `folder` had last, 0 for none: clients that outlive a restart find it again."""
    try:
        return int(json.loads(port_file(folder).read_text())["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def free_port(wanted: int) -> int:
    """`wanted` when it is free, any free port otherwise."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ReviewUnavailable(f"no free port on {LOOPBACK} for the review database")


def operators_own_uri() -> str | None:
    """A database that somebody configured, as opposed to one that `ensure_database` put into the environment."""
    return None if FOLDER_VARIABLE in os.environ else os.environ.get(URI_VARIABLE) or None


def check_that_it_answers(uri: str) -> None:
    """Raises ReviewUnavailable when a database does not. Its address may hold a password, so it is not named."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        client: MongoClient[dict[str, object]]
        with MongoClient(uri, serverSelectionTimeoutMS=SELECTION_MILLISECONDS) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise ReviewUnavailable(
            f"the database of {URI_VARIABLE} does not answer ({type(error).__name__}): start it, or unset that variable"
        ) from None


def uri_of(port: int) -> str:
    # FiftyOne looks for its database once more as the process ends; without the bound a stopped one holds it for 30 s
    # and with the journal, what the App has said is saved survives a kill of the server, too
    return f"mongodb://{LOOPBACK}:{port}/?serverSelectionTimeoutMS={SELECTION_MILLISECONDS}&journal=true"


def port_file(folder: Path) -> Path:
    return folder / "database.json"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the server of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
