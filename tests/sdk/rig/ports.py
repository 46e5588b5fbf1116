"""Addresses for what a test starts: free when asked, and outside the range that outgoing connections are given."""

import random
import socket

_taken: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, never handed out twice in a run."""
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"
