"""Which requests reach the application: by host, origin, bytes and time."""

from __future__ import annotations

import asyncio

import pytest

from pmtrain.evaluation.inference.serving.guard import Guard, host_name


async def reading(scope, receive, send):
    """An application that reads the whole body and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def ask(method="POST", chunks=(b"x",), wait=0.0, seconds=5.0, **headers) -> tuple[int, bytes, dict[bytes, bytes]]:
    """Status, body and headers of the answer to a request of these headers and pieces of body."""
    sent = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "localhost:80", **headers}.items()
    ]
    left, answers = list(chunks), []

    async def receive():
        await asyncio.sleep(wait)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": method, "headers": sent}
    asyncio.run(Guard(reading, {"localhost"}, 100, seconds)(scope, receive, send))
    return answers[0]["status"], answers[1]["body"], dict(answers[0]["headers"])


def test_a_request_of_this_site_is_taken():
    status, body, headers = ask(origin="http://localhost:80", sec_fetch_site="same-origin", chunks=[b"ab", b"c"])
    assert (status, body) == (200, b"3")
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert ask()[0] == 200  # a program sends neither


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),  # DNS rebinding: that name leads to 127.0.0.1
        ({"host": "localhost.evil.example:80"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:81"}, 403),  # another server of this machine
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_length": "101"}, 413),
        ({"content_length": "-1"}, 413),
    ],
)
def test_others_are_refused(headers, status):
    assert ask(**headers)[0] == status


def test_a_link_from_another_site_may_open_the_page():
    assert ask("GET", sec_fetch_site="cross-site")[0] == 200


def test_a_body_that_says_nothing_of_its_length_is_counted():
    assert ask(chunks=[b"x" * 50, b"x" * 50])[0] == 200
    status, body, _ = ask(chunks=[b"x" * 50, b"x" * 51])
    assert status == 413
    assert b"MiB" in body


def test_a_slow_body_is_given_up():
    assert ask(chunks=[b"x"] * 50, wait=0.02, seconds=0.1)[0] == 408


@pytest.mark.parametrize(
    ("host", "name"), [("localhost:80", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:8765", "[::1]"), ("", "")]
)
def test_the_name_in_a_host_header(host, name):
    assert host_name(host) == name
