"""What short and long fault tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.ceph import Ceph


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A Ceph of this session's own; it takes about 20 s to start."""
    server = Ceph(tmp_path_factory.mktemp("ceph"))
    yield server
    server.close()


@pytest.fixture
def edge_environment(ceph: Ceph, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process, and those that it starts, reach Ceph."""
    for name, value in ceph.environment().items():
        monkeypatch.setenv(name, value)
    return ceph.environment()


@pytest.fixture
def promise(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Say a promise's figures where they are seen, captured or not: `promise: NAME | cuts 5 | lost 0`."""

    def say(name: str, **figures: object) -> None:
        told = [f"{figure.replace('_', ' ')} {value}" for figure, value in figures.items()]
        with capsys.disabled():
            print(f"\npromise: {' | '.join([name, *told])}", flush=True)

    return say
