"""`pmtrain serve`: open the port, say where, and serve until Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

from pmtrain.config import ServeConfig
from pmtrain.evaluation.inference.serving.application import Predictor, build_application
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.system import console
from pmtrain.system.errors import UsageError, missing_extra

LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
CONNECTIONS = 512  # open at once


def serve(path: Path, config: ServeConfig) -> None:
    """Serve the checkpoint at `path`, or several as one; print the address to stdout when the port is open.

    Raises:
        PmtrainError: the checkpoint can't be read, the port can't be opened, or a package is missing.
    """
    try:
        import uvicorn
    except ImportError:
        raise missing_extra("pmtrain serve", "uvicorn", "serve") from None
    checkpoint = load_networks(path)
    with contextlib.closing(_listen(config)) as listening, contextlib.closing(Predictor(checkpoint, config)) as network:
        port = listening.getsockname()[1]
        name = f"[{config.host}]" if ":" in config.host else config.host
        app = build_application(network, config, {*LOOPBACK, name.lower(), *map(str.lower, config.allow_host)})
        if checkpoint.info.synthetic:
            console.warn("the checkpoint was trained on SYNTHETIC photographs: no clinical claim can rest on this")
        if not _is_loopback(config.host):
            console.warn(
                f"--host {config.host}: whoever reaches this machine can send images; there is no password, and"
                " nothing is encrypted"
            )
        console.result(f"http://{name}:{port}/")
        console.notice("research software, not a medical device; stop it with Ctrl-C")
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
                server_header=False,
            )
        )
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again after it has stopped
            server.run(sockets=[listening])
    console.notice("stopped")


def _listen(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        listening.listen(CONNECTIONS)  # now, so that who reads the address can connect at once
    except OSError as error:
        listening.close()
        raise UsageError(
            f"--host {config.host} --port {config.port}: {error.strerror or error}",
            "give another --port; 0 takes a free one",
        ) from None
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
