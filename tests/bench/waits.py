#!/usr/bin/env python3
"""How late an answer is when the upstream fails: medians over some tries, against the time that was due.

    python3 tests/bench/waits.py [target/release/trunkline] [tries]

A refused connection is due at once, a wait that runs out at its time-out. Each is shown before the answer's
head and in the middle of its body, where the client's connection must be cut. It prints figures and asserts
what was answered, never how fast.
"""
import http.client, os, socket, statistics, struct, sys, tempfile, threading, time
from servers import free_port, start

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/trunkline"
TRIES = int(sys.argv[2]) if len(sys.argv) > 2 else 20
FIRST, IDLE = 0.4, 0.3

CONFIG = """
environment: development
access_log: {{ format: off }}
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
upstreams:
  refused: {{ url: "http://127.0.0.1:{closed}", breaker: {{ enabled: false }} }}
  upstream:
    url: "http://127.0.0.1:{up}"
    breaker: {{ enabled: false }}
    timeouts: {{ first_byte: {first}ms, idle: {idle}ms }}
routes:
  - {{ name: refused, match: {{ path: "/refused" }}, upstream: refused }}
  - {{ name: rest, match: {{ path: "/{{*rest}}" }}, upstream: upstream }}
"""


def serve(client):
    """One connection of the upstream: what it does is in the path."""
    with client:
        asked = b""
        while b"\r\n\r\n" not in asked:
            piece = client.recv(4096)
            if not piece:
                return
            asked += piece
        path = asked.split()[1]
        if path.startswith(b"/body"):
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it")
        if path.endswith(b"reset"):
            if path.startswith(b"/body"):
                arrived.wait(30)  # what is measured begins with the reset, behind the head
            told.append(time.perf_counter())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        told.append(time.perf_counter())
        hold.wait(30)


def upstream(listener):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(client,), daemon=True).start()


def ask(port, path):
    """Status, whether the body was cut, and when that was over."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    arrived.set()
    try:
        answer.read()
        cut = False
    except (http.client.IncompleteRead, ConnectionError):
        cut = True
    over = time.perf_counter()
    connection.close()
    return answer.status, cut, over


hold, arrived, told = threading.Event(), threading.Event(), []
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
threading.Thread(target=upstream, args=(listener,), daemon=True).start()
ports = {"port": free_port(), "admin": free_port(), "closed": free_port(), "up": listener.getsockname()[1]}
with tempfile.TemporaryDirectory() as folder:
    config = os.path.join(folder, "proxy.yaml")
    with open(config, "w") as file:
        file.write(CONFIG.format(first=int(FIRST * 1000), idle=int(IDLE * 1000), **ports))
    proxy = start([BINARY, "run", "--config", config], ports["port"])
    try:
        rows = [
            ("refused, before the head", "/refused", 0, (502, False)),
            ("reset, before the head", "/head/reset", 0, (502, False)),
            ("hang, before the head", "/head/hang", FIRST, (504, False)),
            ("reset, in the body", "/body/reset", 0, (200, True)),
            ("hang, in the body", "/body/hang", IDLE, (200, True)),
        ]
        print(f"{'':28}{'due ms':>8}{'median':>9}{'worst':>9}   late by (median)")
        for name, path, due, expected in rows:
            took = []
            for _ in range(TRIES):
                told.clear()
                arrived.clear()
                began = time.perf_counter()
                status, cut, over = ask(ports["port"], path)
                assert (status, cut) == expected, (name, status, cut)
                took.append(over - (told[0] if told else began))
            median = statistics.median(took)
            print(f"{name:28}{due * 1e3:8.0f}{median * 1e3:9.1f}{max(took) * 1e3:9.1f}   {(median - due) * 1e3:.1f} ms")
    finally:
        hold.set()
        proxy.terminate()
        proxy.wait()
