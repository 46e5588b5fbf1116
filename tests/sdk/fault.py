"""An upstream that does what a test tells it: it answers, hangs, resets or hangs up, and remembers what reached it.

Raw sockets, one thread a connection. Each request takes the next step of the script; with none left it gets
`otherwise`. The script may be changed while connections are open."""

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a field, which must not be repeated."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


Step = Callable[[socket.socket], bool]
"""Acts on the connection; true when it may carry another request."""


def reply(status: int, content: object = None, **headers: str) -> Step:
    """A whole answer with a JSON body; keyword names spell fields with underscores."""
    body = b"" if content is None else json.dumps(content).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def send(connection: socket.socket) -> bool:
        connection.sendall(f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + body)
        return True

    return send


def hang(released: threading.Event, then: Step | None = None) -> Step:
    """Says nothing until released, then takes the other step, or hangs up."""

    def wait(connection: socket.socket) -> bool:
        released.wait()
        return then(connection) if then else False

    return wait


def reset() -> Step:
    """Aborts the connection: the other side sees ECONNRESET."""

    def abort(connection: socket.socket) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return abort


def close() -> Step:
    """Ends the connection in order, without an answer."""
    return lambda _: False


class Fault:
    """The upstream; `requests` is what reached it, in order."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.otherwise: Step = reply(200, {})
        self._script: deque[Step] = deque()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def script(self, *steps: Step) -> None:
        """Replaces what is left of the script."""
        with self._lock:
            self._script = deque(steps)

    def stop(self) -> None:
        self._listener.close()
        with self._lock:
            for connection in self._open:
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
        try:
            with connection.makefile("rb") as incoming:
                while request := _read(incoming):
                    if not self._next(request)(connection):
                        break
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _next(self, request: Received) -> Step:
        with self._lock:
            self.requests.append(request)
            return self._script.popleft() if self._script else self.otherwise


def _read(incoming) -> Received | None:
    """The next request, or none at the end of the connection."""
    line = incoming.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = []
    while (field := incoming.readline()) not in (b"\r\n", b""):
        name, _, value = field.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    framing = {name.lower(): value for name, value in headers}
    if "chunked" in framing.get("transfer-encoding", ""):
        body = _read_chunks(incoming)
    else:
        body = incoming.read(int(framing.get("content-length", "0")))
    return Received(method, target, headers, body)


def _read_chunks(incoming) -> bytes:
    body = b""
    while size := int(incoming.readline().split(b";")[0], 16):
        body += incoming.read(size)
        incoming.readline()
    incoming.readline()
    return body
