"""An upstream of long bodies, as a program: `stream.py PORT`. One process, so that its work never delays the test's.

GET .../bulk?bytes=N       N bytes with a Content-Length
GET .../events?count=N     server-sent events, each the clock's reading when it was sent
anything else              reads the body to its end and says how long it was"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BLOCK = bytes(256 * 1024)
PACE = 0.02


class Stream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def answer(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        if address.path.endswith("/bulk"):
            self.bulk(int(query["bytes"][0]))
        elif address.path.endswith("/events"):
            self.events(int(query["count"][0]))
        else:
            self.say({"received": self.drain()})

    def drain(self) -> int:
        """Reads the request's body and forgets it; its length."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return self.drain_chunks()
        return self.skip(int(self.headers.get("Content-Length", "0")))

    def drain_chunks(self) -> int:
        total = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += self.skip(size)
            self.rfile.readline()
        self.rfile.readline()
        return total

    def skip(self, length: int) -> int:
        buffer = memoryview(bytearray(256 * 1024))
        left = length
        while left and (count := self.rfile.readinto(buffer[: min(left, len(buffer))])):
            left -= count
        return length - left

    def say(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def bulk(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        whole, rest = divmod(length, len(BLOCK))
        for _ in range(whole):
            self.wfile.write(BLOCK)
        self.wfile.write(BLOCK[:rest])

    def events(self, count: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(count):
            event = b"data: %d\n\n" % time.monotonic_ns()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(PACE)
        self.wfile.write(b"0\r\n\r\n")

    def __getattr__(self, name: str):
        """Every method is answered alike, known or not."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 512
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Stream).serve_forever()
