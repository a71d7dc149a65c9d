"""A load on a server at 127.0.0.1: so many clients that each send an image, wait for the result, and send the next."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bench.turns import ROOT, say

BOUNDARY = "load-test-boundary"


@dataclass
class Server:
    """A server in a process of its own that is loaded whenever it is its turn.

    Args:
        command: starts it; the first line of its stdout is its address.
        images: files' bytes, sent one a request, in turn.
        seconds: of a turn.
        latencies: (seconds) of every request of all turns, `rates` the images per second of each turn.
    """

    name: str
    command: Sequence[str]
    images: Sequence[bytes]
    clients: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    error: str = ""
    _process: subprocess.Popen[str] | None = None
    _address: Any = None

    def start(self) -> None:
        """Start it, and let it answer once for every client."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        self._process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line.startswith("http://127.0.0.1:"):
            self.error = f"it said {line!r} rather than its address"
            say(f"{self.name}: {self.error}")
            return
        self._address = urlsplit(line)
        asyncio.run(self._load(1.0))

    def turn(self) -> None:
        """Load it once and keep the times."""
        if self.error:
            return
        latencies, rate = asyncio.run(self._load(self.seconds))
        self.latencies += latencies
        self.rates.append(rate)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            with self._process:
                pass

    async def _load(self, seconds: float) -> tuple[list[float], float]:
        requests = [_request(self._address.netloc, image) for image in self.images]
        started = time.perf_counter()
        found = await asyncio.gather(
            *(self._client(requests[number:] + requests[:number], started + seconds) for number in range(self.clients))
        )
        latencies = [latency for client in found for latency in client]
        return latencies, len(latencies) / (time.perf_counter() - started)

    async def _client(self, requests: list[bytes], end: float) -> list[float]:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        latencies = []
        while time.perf_counter() < end:
            sent = time.perf_counter()
            writer.write(requests[len(latencies) % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200") or b'"error"' in answer:
                raise RuntimeError(f"{self.name}: {head[:60]!r} {answer[:200]!r}")
            latencies.append(time.perf_counter() - sent)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return latencies


def _request(host: str, image: bytes) -> bytes:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n'
    body = part.encode() + b"Content-Type: image/jpeg\r\n\r\n" + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
