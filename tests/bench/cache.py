#!/usr/bin/env python3
"""What a kept answer saves: medians of reading one assistant by Vapi's own SDK, kept and not, from a mock of Vapi.

    tests/run sdk                                                    (installs the SDK and the mock server)
    tests/.work/venv/bin/python tests/bench/cache.py [target/release/trunkline] [tries]

The SDK works for some time on each call, whoever answers: it is measured against a server that does nothing, and every
row is shown by bare HTTP on an open connection too. A miss is made by dropping the route's answers before each call. It
prints figures, and asserts what came from where, never how fast.
"""
import http.client, os, socket, statistics, sys, tempfile, threading, time
from pathlib import Path

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/trunkline"
TRIES = int(sys.argv[2]) if len(sys.argv) > 2 else 200
os.environ |= {"TRUNKLINE_BIN": str(Path(BINARY).resolve()), "NO_PROXY": "127.0.0.1,localhost"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))

from rig.prism import OURS, Prism
from rig.proxy import Proxy
from rig.sdks import VapiPython
from vapi import Vapi

ASSISTANT = "3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001"
ROUTE = "vapi-settings"


def serve(client, answer):
    """A connection of the server that does nothing: the same bytes for every head."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    asked = b""
    while piece := client.recv(65536):
        asked += piece
        while b"\r\n\r\n" in asked:
            asked = asked.partition(b"\r\n\r\n")[2]
            client.sendall(answer)


def null_server(answer):
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0], answer), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


class Bare:
    """One open connection, and the same request each time."""

    def __init__(self, url, prefix="/vapi"):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.path = f"{prefix}/assistant/{ASSISTANT}"

    def get(self):
        self.connection.request("GET", self.path, headers={"Authorization": "Bearer token"})
        answer = self.connection.getresponse()
        self.body = answer.read()
        assert answer.status == 200, (answer.status, self.body)
        return answer


def sdk(url):
    client = VapiPython(url)
    return lambda: client.get_assistant(ASSISTANT)


def timed(call, before=lambda: None):
    """The median of a call in milliseconds, the first few left out."""
    took = []
    for n in range(TRIES + 5):
        before()
        began = time.perf_counter()
        call()
        if n >= 5:
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def purge(proxy):
    connection = http.client.HTTPConnection(proxy.admin.removeprefix("http://"), timeout=30)

    def drop():
        connection.request("DELETE", f"/api/v1/cache/{ROUTE}", headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    return drop


def straight(url):
    """The SDK without the sidecar: the base address is all that differs."""
    client = Vapi(token="token", base_url=url)
    return lambda: client.assistants.get(ASSISTANT, request_options={"max_retries": 0})


def main(folder):
    prism = Prism(OURS.vapi, folder).wait()
    proxy = Proxy(folder, VAPI_URL=prism.url, INTEGRATIONS_STUB_MODE="false")
    attempts = lambda: proxy.metric("trunkline_upstream_attempts_total", upstream="vapi")
    try:
        direct = Bare(prism.url, prefix="")
        direct.get()
        null = null_server(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(direct.body)
            + direct.body
        )
        drop = purge(proxy)
        by_sdk = {"null": straight(null), "direct": straight(prism.url), "through": sdk(proxy.url)}
        by_sdk["null"]()  # builds the SDK's models, which takes it many seconds
        rows = [
            ("a server that does nothing", by_sdk["null"], lambda: Bare(null, prefix=""), lambda: None),
            ("the vendor's mock, without us", by_sdk["direct"], lambda: Bare(prism.url, prefix=""), lambda: None),
            ("through us, not kept", by_sdk["through"], lambda: Bare(proxy.url), drop),
            ("through us, kept", by_sdk["through"], lambda: Bare(proxy.url), lambda: None),
        ]
        print(f"{'median of ' + str(TRIES) + ', in ms':34}{'by the SDK':>12}{'bare HTTP':>12}{'asked the vendor':>18}")
        medians = []
        for name, by_the_sdk, bare, before in rows:
            asked = attempts()
            medians.append((timed(by_the_sdk, before), timed(bare().get, before)))
            asked = int(attempts() - asked)
            print(f"{name:34}{medians[-1][0]:12.3f}{medians[-1][1]:12.3f}{asked:18}")
            expected = 2 * (TRIES + 5) if before is drop else 0
            assert asked == expected or (name.endswith(", kept") and asked <= 2), asked
        (own, wire), _, miss, hit = medians
        print(f"\nnot kept / kept: {miss[0] / hit[0]:.1f} by the SDK, {miss[1] / hit[1]:.1f} by bare HTTP")
        print(f"the SDK's own work is {own:.3f} ms of each; without it {(miss[0] - own) / max(hit[0] - own, 1e-3):.1f}")
        print(f"a hit costs {(hit[1] - wire) * 1e3:.0f} us more than a server that does nothing")
        saved = 1 - 1 / (TRIES + 5)
        print(f"calls that the vendor was spared: {saved:.1%} of {TRIES + 5}")
    finally:
        proxy.stop()
        prism.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
