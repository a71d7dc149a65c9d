"""Downloads, from a server on 127.0.0.1 in place of Paddle's."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pmtrain.models.weights import published
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

CONTENT = bytes(range(256)) * 4000


class Server(BaseHTTPRequestHandler):
    """Sends CONTENT, each answer cut after `cut` bytes; `ranges`: whether it can begin in the middle."""

    cut, ranges, asked = len(CONTENT), True, []  # noqa: RUF012

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.asked.append(self.headers.get("Range"))
        start = int(wanted[1]) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + self.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[type[Server]]:
    handler = type("Handler", (Server,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/models/resnet18.pdparams"
        monkeypatch.setattr(published, "source_of", lambda layers: (url, hashlib.md5(CONTENT).hexdigest()))
        monkeypatch.setenv("PMTRAIN_WEIGHTS", str(tmp_path / "图 cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield handler
        running.shutdown()


def test_a_file_is_downloaded_once(server, tmp_path):
    path = published.fetch(18)
    assert path == tmp_path / "图 cache/resnet18.pdparams" and path.read_bytes() == CONTENT
    assert published.fetch(18) == path
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["resnet18.pdparams"]


def test_a_broken_download_goes_on_where_it_broke(server):
    server.cut = len(CONTENT) // 2 - 1000  # three answers
    assert published.fetch(18).read_bytes() == CONTENT
    assert [asked and int(asked[6:-1]) for asked in server.asked] == [None, server.cut, 2 * server.cut]


def test_the_next_run_goes_on_too(server, tmp_path):
    server.cut = 1000
    with pytest.raises(PmtrainError, match=r"the first 3,000 bytes are kept") as caught:
        published.fetch(18)
    assert "--weights resnet18.pdparams" in caught.value.hint and "PMTRAIN_WEIGHTS" in caught.value.hint
    assert not (tmp_path / "图 cache/resnet18.pdparams").exists()
    server.cut = len(CONTENT)
    assert published.fetch(18).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=3000-"


def test_a_server_that_only_sends_the_whole_file_begins_again(server):
    server.cut, server.ranges = 400_000, False
    with pytest.raises(PmtrainError, match="400,000 bytes"):
        published.fetch(18)
    server.cut = len(CONTENT)
    assert published.fetch(18).read_bytes() == CONTENT


def test_a_complete_part_of_a_killed_process_is_used(server, tmp_path):
    part = tmp_path / "图 cache/resnet18.pdparams.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    assert published.fetch(18).read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server, tmp_path, monkeypatch):
    url, _ = published.source_of(18)
    monkeypatch.setattr(published, "source_of", lambda layers: (url, "0" * 32))
    with pytest.raises(PmtrainError, match="its MD5 isn't 000"):
        published.fetch(18)
    assert not list((tmp_path / "图 cache").iterdir())


def test_a_file_in_the_cache_is_checked(server, tmp_path):
    path = tmp_path / "图 cache/resnet18.pdparams"
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(PmtrainError, match="not the file that Paddle published") as caught:
        published.fetch(18)
    assert "remove it" in caught.value.hint and path.read_bytes() == CONTENT[:-1]


def test_without_a_network_it_says_what_to_do(server, monkeypatch):
    monkeypatch.setattr(published, "source_of", lambda layers: ("http://127.0.0.1:9/resnet18.pdparams", "0" * 32))
    with pytest.raises(PmtrainError, match="can't download http://127.0.0.1:9") as caught:
        published.fetch(18)
    assert "on a machine with a network" in caught.value.hint
    with pytest.raises(PmtrainError, match="only by a real run"):
        published.fetch(18, download=False)


def test_paddles_own_table_has_every_depth(monkeypatch):
    for layers in (18, 34, 50, 101, 152):
        url, md5 = published.source_of(layers)
        assert url.endswith(f"/resnet{layers}.pdparams") and re.fullmatch("[0-9a-f]{32}", md5)
    monkeypatch.delenv("PMTRAIN_WEIGHTS", raising=False)
    assert str(published.cache_folder()) == paddle.utils.download.WEIGHTS_HOME
