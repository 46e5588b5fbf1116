"""Twilio and Vapi on one address: their answers name the vendors' own hosts, as the real ones do, and a call's
WebSocket sends back what it gets."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from websockets.frames import Opcode
from websockets.server import ServerProtocol

MESSAGING = "https://messaging.twilio.com"
STREAM = "/c1/transport"
CALL = {
    "id": "c1",
    "orgId": "o1",
    "createdAt": "2025-11-25T10:00:00.000Z",
    "updatedAt": "2025-11-25T10:00:00.000Z",
    "type": "vapi.websocketCall",
    "transport": {"provider": "vapi.websocket", "websocketCallUrl": f"wss://api.vapi.ai{STREAM}"},
}


def services(query: str) -> dict:
    """A page of services, which names the next one until there are three pages."""
    number = int(query.rpartition("Page=")[2] or 0) if "&Page=" in query else 0
    after = f"{MESSAGING}/v1/Services?PageSize=2&Page={number + 1}" if number < 2 else None
    page = {"key": "services", "page": number, "page_size": 2, "next_page_url": after, "url": f"{MESSAGING}/v1/Services"}
    of = lambda n: {"sid": f"MG{number}{n}", "url": f"{MESSAGING}/v1/Services/MG{number}{n}", "links": {}}
    return {"meta": page, "services": [of(0), of(1)]}


def messages(path: str, query: str) -> dict:
    """The same for messages, whose pages name the next one without a host."""
    number = int(query.rpartition("Page=")[2]) if "&Page=" in query else 0
    after = f"{path}?PageSize=2&Page={number + 1}" if number < 2 else None
    return {"messages": [{"sid": f"SM{number}0"}, {"sid": f"SM{number}1"}], "next_page_uri": after, "page": number}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = urlsplit(self.path)[2:4]
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._stream()
        elif path == "/v1/Services":
            self._answer(200, services(query))
        elif path.endswith("/Messages.json"):
            self._answer(200, messages(path, query))
        elif path.startswith("/call/"):
            self._answer(200, CALL)
        else:
            self._answer(404, {"message": f"nothing at {path}"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path == "/call":
            self._answer(201, CALL)
        else:
            self._answer(201, {"sid": ("CA" if "Calls" in path else "SM") + "1"})

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.server.streams.append(self.path)
        protocol = ServerProtocol()
        head = f"{self.requestline}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        protocol.receive_data(head.encode() + b"\r\n")
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        while True:
            for frame in protocol.events_received():
                if frame.opcode is Opcode.TEXT:
                    protocol.send_text(b"echo: " + frame.data)
                elif frame.opcode is Opcode.BINARY:
                    protocol.send_binary(frame.data[::-1])
            for data in protocol.data_to_send():
                self.connection.sendall(data)
            came = self.connection.recv(65536)
            if not came:
                break
            protocol.receive_data(came)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Vendor:
    """The server; `streams` are the paths of the WebSockets that were opened."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.streams = self.streams = []
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
