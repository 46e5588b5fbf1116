#!/usr/bin/env python3
"""What an answer from the cache costs the processor beside the same answer forwarded, a request.

    apt-get install wrk
    python3 tests/bench/hit.py [target/release/trunkline] [rounds]
    python3 tests/bench/hit.py --instructions [target/release/trunkline]

Two routes of one upstream, with a breaker and a limit that nothing meets; one of them keeps answers, of 1 KiB. By CPU:
both in turns, as fast as one worker gives them to 64 connections of wrk, the processor's time of the process's
threads, the median of the ratios of neighbours, so that a busy machine troubles both alike. Worker and load have a
processor each, and the upstream, which is a stub of the same program, shares that of the load. By instructions: under
valgrind (which must be installed), repeatable on any machine; it counts no instruction of the kernel, and shows a
processor without instructions for SHA. It prints figures and asserts what came from where, never how fast.
"""
import http.client, os, re, statistics, subprocess, sys, tempfile
from servers import free_port, spent, start

ARGUMENTS = [argument for argument in sys.argv[1:] if argument != "--instructions"]
COUNTED = "--instructions" in sys.argv
BINARY = ARGUMENTS[0] if ARGUMENTS else "target/release/trunkline"
ROUNDS = int(ARGUMENTS[1]) if len(ARGUMENTS) > 1 else 30
SECONDS, CONNECTIONS = 1, 64
KINDS = {"kept": "/kept/assistant/1", "forwarded": "/sent/assistant/1"}

COMMON = """
environment: development
access_log: {{ format: off }}
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
"""
UPSTREAM = COMMON + """
routes:
  - name: all
    match: {{ path: "/{{*rest}}" }}
    stub: {{ status: 200, headers: {{ Content-Type: application/json }}, body: "{body}" }}
"""
SIDECAR = COMMON + """
rate_limits: {{ roomy: {{ requests: 1000000000, per: 1m }} }}
upstreams: {{ vendor: {{ url: "http://127.0.0.1:{up}" }} }}
routes:
  - {{ name: kept, match: {{ path: "/kept/{{*rest}}" }}, upstream: vendor, rate_limit: roomy, cache: {{ ttl: 1h }} }}
  - {{ name: sent, match: {{ path: "/sent/{{*rest}}" }}, upstream: vendor, rate_limit: roomy }}
"""


def run(folder, name, text, *ahead, core=None):
    """The process of that configuration and its port."""
    port = free_port()
    path = os.path.join(folder, f"{name}.yaml")
    with open(path, "w") as file:
        file.write(text.format(port=port, admin=free_port(), up=UP, body="x" * 1024))
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, *ahead, BINARY, "run", "--config", path]
    return start(command, port, TRUNKLINE_THREADS="1"), port


def ask(port, kind, times=1):
    """So many requests on one connection; how many of the answers were kept ones."""
    connection, hits = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
    for _ in range(times):
        connection.request("GET", KINDS[kind])
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (200, 1024), answer.status
        hits += "hit" in (answer.headers["Cache-Status"] or "")
    return hits


def by_cpu(folder):
    sidecar, port = run(folder, "sidecar", SIDECAR, core=0)

    def cost(kind):
        """Microseconds a request."""
        before = spent(sidecar.pid)
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s"]
        shown = subprocess.run([*command, f"http://127.0.0.1:{port}{KINDS[kind]}"], capture_output=True, text=True).stdout
        assert "Non-2xx" not in shown and "Socket errors" not in shown, shown
        return (spent(sidecar.pid) - before) / int(re.search(r"(\d+) requests in", shown).group(1)) / 1e3

    try:
        for kind in KINDS:
            ask(port, kind)
            cost(kind)
        took = {kind: [] for kind in KINDS}
        for turn in range(ROUNDS):
            for kind in list(KINDS)[:: 1 if turn % 2 else -1]:
                took[kind].append(cost(kind))
        assert (ask(port, "kept"), ask(port, "forwarded")) == (1, 0)
        for kind, of in took.items():
            print(f"{kind:10}{statistics.median(of):8.2f} us (least {min(of):.2f})")
        ratios = [kept / forwarded for kept, forwarded in zip(*took.values())]
        print(f"kept / forwarded: {statistics.median(ratios):.3f} (of {ROUNDS}: {min(ratios):.3f} to {max(ratios):.3f})")
    finally:
        sidecar.terminate()
        sidecar.wait()


def by_instructions(folder):
    warm, times = 300, 1000
    for kind in KINDS:
        out = os.path.join(folder, kind)
        counter = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        sidecar, port = run(folder, "counted", SIDECAR, *counter)
        control = ["callgrind_control", "-i"]
        try:
            ask(port, kind, warm)
            subprocess.run([*control, "on", str(sidecar.pid)], check=True, capture_output=True)
            ask(port, kind, times)
            subprocess.run([*control, "off", str(sidecar.pid)], check=True, capture_output=True)
        finally:
            sidecar.terminate()
            sidecar.wait()
        counted = sum(int(count) for count in re.findall(r"^totals: (\d+)", open(out).read(), re.M))
        print(f"{kind:10}{counted / times:10.0f} instructions a request")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        UP = 0
        upstream, UP = run(folder, "upstream", UPSTREAM, core=1)
        try:
            (by_instructions if COUNTED else by_cpu)(folder)
        finally:
            upstream.terminate()
            upstream.wait()
