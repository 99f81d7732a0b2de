"""A package index on loopback, with wheels of a few lines, that writes down what it was asked for."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NO_NAME = ".simple"  # the pages' own folder, beside the wheels


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], requires: Sequence[str] = ()) -> Path:
    """A wheel with `files`; one below `{name}-{version}.data/scripts/` becomes a program."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content = {
        **files,
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {one}\n" for one in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in content.items():
            entry = zipfile.ZipInfo(place)
            entry.external_attr = (0o100755 if ".data/scripts/" in place else 0o100644) << 16
            archive.writestr(entry, text)
    return path


def pinned(path: Path) -> str:
    """The wheel as a line of a requirements file, with its hash."""
    name, version = path.name.split("-")[:2]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n"


class Index:
    """Where an index is, and what it was asked for: names of packages, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []


@contextmanager
def served(folder: Path) -> Iterator[Index]:
    """The wheels of `folder` as a simple index (PEP 503)."""
    by_name: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.whl")):
        by_name.setdefault(path.name.split("-")[0].replace("_", "-"), []).append(path.name)
    for name, wheels in by_name.items():
        page = folder / NO_NAME / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("".join(f'<a href="../../{wheel}">{wheel}</a>\n' for wheel in wheels))

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            parts = self.path.strip("/").split("/")
            if parts[0] == NO_NAME:
                index.asked.append(parts[1])

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    index = Index(f"http://127.0.0.1:{server.server_port}/{NO_NAME}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
