"""Long bodies and slow events pass through without being held."""

import socket
import statistics
import time

import pytest

GIB = 1 << 30
MIB = 1 << 20
BLOCK = bytes(256 * 1024)


class Memory:
    """The proxy's resident memory: what it is now and the most it has been since `mark`."""

    def __init__(self, pid: int):
        self._status = f"/proc/{pid}/status"
        self._clear = f"/proc/{pid}/clear_refs"

    def _read(self, field: str) -> int:
        with open(self._status, encoding="ascii") as status:
            line = next(line for line in status if line.startswith(field))
        return int(line.split()[1]) * 1024

    def mark(self) -> int:
        """Forgets the peak so far; the current size."""
        with open(self._clear, "w", encoding="ascii") as clear:
            clear.write("5")
        return self._read("VmRSS")

    def peak(self) -> int:
        return self._read("VmHWM")


@pytest.fixture
def proxy(start_proxy, stream):
    running = start_proxy(VAPI_URL=stream)
    exchange(running, "GET /vapi/warm HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n", [])
    return running


def exchange(proxy, head: str, body) -> int:
    """Sends a request and reads the answer to the end of the connection; the length of its body."""
    with socket.create_connection(proxy.address, timeout=120) as connection:
        connection.sendall(head.encode())
        for block in body:
            connection.sendall(block)
        buffer = memoryview(bytearray(MIB))
        count = connection.recv_into(buffer)
        start = bytes(buffer[:count])
        while b"\r\n\r\n" not in start:
            start += connection.recv(4096)
        assert start.startswith(b"HTTP/1.1 200"), start[:200]
        length = len(start.partition(b"\r\n\r\n")[2])
        while count := connection.recv_into(buffer):
            length += count
        return length


def test_a_gibibyte_down_is_not_held(proxy):
    memory = Memory(proxy.pid)
    before = memory.mark()
    head = f"GET /vapi/bulk?bytes={GIB} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n"
    assert exchange(proxy, head, []) == GIB
    assert memory.peak() - before <= 16 * MIB


@pytest.mark.parametrize("framing", [f"Content-Length: {GIB}", "Transfer-Encoding: chunked"])
def test_a_gibibyte_up_is_not_held(proxy, framing):
    memory = Memory(proxy.pid)
    before = memory.mark()
    head = f"POST /vapi/file HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n{framing}\r\n\r\n"
    blocks = GIB // len(BLOCK)
    if "chunked" in framing:
        body = [b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK)] * blocks + [b"0\r\n\r\n"]
    else:
        body = [BLOCK] * blocks
    answer = f'{{"received": {GIB}}}'
    # A JSON answer of this vendor is looked through for addresses on its way, and comes as one chunk.
    one_chunk = f"{len(answer):x}\r\n{answer}\r\n0\r\n\r\n"
    assert exchange(proxy, head, body) in (len(answer), len(one_chunk))
    assert memory.peak() - before <= 16 * MIB


def test_an_event_passes_within_50_ms(proxy):
    """Both ends read the same clock; every event carries the time at which it was sent."""
    with socket.create_connection(proxy.address, timeout=60) as connection:
        connection.sendall(b"GET /vapi/events?count=20 HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
        delays = []
        with connection.makefile("rb") as incoming:
            for line in incoming:
                if line.startswith(b"data: "):
                    delays.append(time.monotonic_ns() - int(line.removeprefix(b"data: ")))
    assert len(delays) == 20
    assert statistics.median(delays) <= 50_000_000
