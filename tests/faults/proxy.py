"""A proxy between a client and an S3 server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
MODES = ("ok", "latency", "rate", "hang", "reset", "503", "lostack", "cut")


class FaultProxy:
    """Passes bytes on, or

    latency: each piece `amount` seconds late. rate: at `amount` bytes/s, both ways. hang: takes what comes and never
    answers. reset: closes with RST. 503: answers SlowDown itself. lostack: the request arrives, the answer does not.
    cut: RST after `amount` bytes of the answer.

    `mode` and `amount` are in force for the next piece of every connection, open ones included.
    """

    def __init__(self, backend: int, host: str = "127.0.0.1") -> None:
        """backend: port of the server on loopback. host: where to listen."""
        self.mode, self.amount = "ok", 0.0
        self.requests = 0
        self._backend, self._host = backend, host
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        serving = asyncio.start_server(self._connected, self._host, 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://{self._host}:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def set(self, mode: str, amount: float = 0.0) -> None:
        self.mode, self.amount = mode, amount

    async def _end(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        while self._pumps:
            for pump in self._pumps:
                pump.cancel()
            await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._backend)
        except OSError:
            writer.close()
            return
        pumps = {
            asyncio.ensure_future(self._pump(reader, back_writer, writer, answers=False)),
            asyncio.ensure_future(self._pump(back_reader, writer, writer, answers=True)),
        }
        ends = {writer, back_writer}
        self._pumps |= pumps
        self._writers |= ends
        await asyncio.wait(pumps)
        self._pumps -= pumps
        self._writers -= ends

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        passed = 0
        try:
            while piece := await source.read(65_536):
                self.requests += not answers and piece[:4] in (b"PUT ", b"GET ", b"HEAD", b"POST", b"DELE")
                if not await self._may_pass(piece, client, answers=answers):
                    return
                if self.mode == "cut" and answers and passed + len(piece) > self.amount:
                    sink.write(piece[: max(0, int(self.amount) - passed)])
                    await sink.drain()
                    await asyncio.sleep(0.05)
                    reset(client)
                    return
                passed += len(piece)
                sink.write(piece)
                await sink.drain()
        except OSError:
            return
        finally:
            with suppress(OSError, RuntimeError):
                sink.close()

    async def _may_pass(self, piece: bytes, client: asyncio.StreamWriter, *, answers: bool) -> bool:
        if self.mode == "hang":
            await asyncio.sleep(3600)
        elif self.mode == "latency":
            await asyncio.sleep(self.amount)
        elif self.mode == "rate":
            await asyncio.sleep(len(piece) / self.amount)
        elif self.mode == "reset" or (self.mode == "lostack" and answers and not piece.startswith(b"HTTP/1.1 100")):
            reset(client)
            return False
        elif self.mode == "503" and not answers:
            head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            client.write(head + b"Content-Length: %d\r\n\r\n" % len(BUSY) + BUSY)
            await client.drain()
            client.close()
            return False
        return True


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
