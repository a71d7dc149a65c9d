"""Which requests are taken: from this site alone, bounded in bytes and in time; and the headers of every answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}


class Refusal(Exception):
    """A request that isn't taken: the status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """Checks a request before the application sees it.

    A page of another site can send requests to 127.0.0.1 from a user's browser, and reach it under a name of its own
    (DNS rebinding). The first is seen by Origin and Sec-Fetch-Site, the second by Host.

    Args:
        hosts: the names under which the server is reached, in lower case, without the port.
        most_bytes: of a request's body.
        seconds: for the whole body to arrive.
    """

    def __init__(self, app: App, hosts: Iterable[str], most_bytes: int, seconds: float) -> None:
        self.app, self.hosts, self.most_bytes, self.seconds = app, frozenset(hosts), most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                told = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((k, v) for k, v in HEADERS.items() if k not in told)]
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, self._bounded(receive), answer)
        except Refusal as refusal:
            if not started:
                await _refuse(answer, refusal)

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "").lower()
        if host_name(host) not in self.hosts:
            raise Refusal(421, "this server isn't reached under that name (Host)")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["method"] != "GET":
            raise Refusal(403, "requests from other sites aren't taken (Sec-Fetch-Site)")
        if (origin := headers.get("origin")) is not None and origin.lower() not in (
            f"http://{host}",
            f"https://{host}",
        ):
            raise Refusal(403, "requests from other sites aren't taken (Origin)")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or int(length) > self.most_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, f"a request has at most {self.most_bytes / 2**20:g} MiB")

    def _bounded(self, receive: Receive) -> Receive:
        """The same, counting bytes and time."""
        taken, end = 0, time.monotonic() + self.seconds
        complete = False

        async def bounded() -> Message:
            nonlocal taken, complete
            if complete:  # what comes now is the client's leaving, for which there is no hurry
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except asyncio.TimeoutError:
                raise Refusal(408, f"the request took longer than {self.seconds:g} s to arrive") from None
            taken += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if taken > self.most_bytes:
                raise self._too_large()
            return message

        return bounded


def host_name(host: str) -> str:
    """A Host header's name, without the port: `localhost:80` -> `localhost`, `[::1]:80` -> `[::1]`."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))  # the rest of the body isn't read
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
