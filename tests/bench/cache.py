#!/usr/bin/env python3
"""What a kept answer saves: medians of reading one assistant by Vapi's own SDK, kept and not, from a mock of Vapi, and
what becomes of an application's calls in some minutes. What a kept answer costs the processor, `hit.py` says.

    tests/run sdk                                                    (installs the SDK and the mock server)
    tests/.work/venv/bin/python tests/bench/cache.py [--away MS] [--minutes N] [target/release/trunkline] [tries]

The SDK works for some time on each call, whoever answers: it is measured against a server that does nothing, and every
row is shown by bare HTTP on an open connection too. A miss is made by dropping the route's answers before each call.
On one machine the mock is nearer than any vendor: `--away` puts it at the end of a line with that round-trip time.
`--minutes` has the SDK work for so long on many assistants, which it changes too. It prints figures, and asserts what
came from where, never how fast.
"""
import argparse, asyncio, http.client, os, random, socket, statistics, sys, tempfile, threading, time, uuid
from pathlib import Path

ARGUMENTS = argparse.ArgumentParser()
ARGUMENTS.add_argument("binary", nargs="?", default="target/release/trunkline")
ARGUMENTS.add_argument("tries", nargs="?", type=int, default=200)
ARGUMENTS.add_argument("--away", type=float, default=0.0, metavar="MS", help="round-trip time to the mock")
ARGUMENTS.add_argument("--minutes", type=float, default=0.0, metavar="N", help="how long the SDK works on many assistants")
ARGUMENTS = ARGUMENTS.parse_args()
BINARY, TRIES, AWAY, MINUTES = ARGUMENTS.binary, ARGUMENTS.tries, ARGUMENTS.away / 1e3, ARGUMENTS.minutes
ASSISTANTS, PAUSE = 40, 0.02
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


async def late(reader, writer):
    """Each piece is handed on half the round-trip time after it came."""
    later = asyncio.get_running_loop().call_later
    while piece := await reader.read(65536):
        later(AWAY / 2, writer.write, piece)
    later(AWAY / 2, writer.close)


def line_to(url):
    """A line to that server with the round-trip time of `--away`."""
    host, port = url.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    async def join(reader, writer):
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(late(reader, there[1]), late(there[0], writer))

    async def serve_it():
        async with await asyncio.start_server(join, sock=listener) as server:
            await server.serve_forever()

    threading.Thread(target=asyncio.run, args=(serve_it(),), daemon=True).start()
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


def workload(proxy, attempts):
    """An application at work for so many minutes: it reads the settings of its assistants, now and then all of them, and
    twice a minute it changes some."""
    client = Vapi(token="token", base_url=f"{proxy.url}/vapi").assistants
    ids = [str(uuid.uuid4()) for _ in range(ASSISTANTS)]
    once = {"max_retries": 0}
    took, changes = {"hit": [], "miss": []}, 0
    asked, began = attempts(), time.monotonic()
    while (since := time.monotonic() - began) < MINUTES * 60:
        if since > 30 * (changes + 1):
            changes += 1
            client.update(random.choice(ids), name=f"change {changes}", request_options=once)
        at = time.perf_counter()
        if random.random() < 0.1:
            answer = client.with_raw_response.list(request_options=once)
        else:
            answer = client.with_raw_response.get(random.choice(ids), request_options=once)
        status = answer.headers["cache-status"]
        took["hit" if status.startswith("trunkline; hit") else "miss"].append(time.perf_counter() - at)
        time.sleep(PAUSE)
    asked, reads = int(attempts() - asked) - changes, len(took["hit"]) + len(took["miss"])
    assert took["hit"] and took["miss"], "too short a time"
    hit, miss = (statistics.median(took[kind]) * 1e3 for kind in ("hit", "miss"))
    print(f"\n{MINUTES:g} minutes of the SDK: {reads} reads of {ASSISTANTS} assistants and their list, {changes} changes")
    print(f"the vendor was asked {asked} times: {1 - asked / reads:.1%} fewer")
    print(f"median of a hit {hit:.2f} ms, of a miss {miss:.2f} ms: {miss / hit:.1f} times as fast")


def main(folder):
    prism = Prism(OURS.vapi, folder).wait()
    vendor = line_to(prism.url) if AWAY else prism.url
    proxy = Proxy(folder, VAPI_URL=vendor, INTEGRATIONS_STUB_MODE="false")
    attempts = lambda: proxy.metric("trunkline_upstream_attempts_total", upstream="vapi")
    try:
        direct = Bare(vendor, prefix="")
        direct.get()
        null = null_server(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(direct.body)
            + direct.body
        )
        drop = purge(proxy)
        by_sdk = {"null": straight(null), "direct": straight(vendor), "through": sdk(proxy.url)}
        by_sdk["null"]()  # builds the SDK's models, which takes it many seconds
        rows = [
            ("a server that does nothing", by_sdk["null"], lambda: Bare(null, prefix=""), lambda: None),
            ("the vendor's mock, without us", by_sdk["direct"], lambda: Bare(vendor, prefix=""), lambda: None),
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
        print(f"the SDK's own work is {own:.3f} ms of each")
        print(f"a hit costs {(hit[1] - wire) * 1e3:.0f} us more than a server that does nothing")
        saved = 1 - 1 / (TRIES + 5)
        print(f"calls that the vendor was spared: {saved:.1%} of {TRIES + 5}")
        if MINUTES:
            workload(proxy, attempts)
    finally:
        proxy.stop()
        prism.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
