#!/usr/bin/env python3
"""What clients that mean harm cost: the others' waiting, the processor's time without descriptors, and that of a chunk.

    python3 tests/bench/hostile.py [target/release/trunkline] [slow] [descriptors] [chunks]

Without the name of a part it shows all of them.

slow: a third of the clients sends a head byte by byte, a third a body, a third pipelines requests and never reads; who
is cut off comes back. Meanwhile a probe asks on a connection of its own each time, which it also does without them: the
clients, the probe and the upstream are one process of Python, whose own work is in both rows.
descriptors: more connections than the process may have files, all of them idle, and then none.
chunks: a body in chunks of one byte against one worker, beside nginx (which must be installed, Debian's will do) with
one worker, which keeps the body until it is whole or passes it on as it comes: all in turns, the CPU time of the
process's threads, the median of the ratios of neighbours, so that a busy machine troubles all alike. Of the chunks that
are a write each, as many come in one read as the sender is ahead, which is chance on a machine with idle cores: the
figures and their ratios swing with it, and `taskset -c 0` before the command steadies them.

It prints figures and asserts what was answered, never how fast.
"""
import contextlib, http.client, itertools, os, re, shutil, socket, statistics, sys, tempfile, threading, time
from servers import free_port, spent, start

PARTS = ("slow", "descriptors", "chunks")
CHOSEN = [argument for argument in sys.argv[1:] if argument in PARTS] or PARTS
BINARY, *UNKNOWN = [argument for argument in sys.argv[1:] if argument not in PARTS] or ["target/release/trunkline"]
CLIENTS, PAUSE, PROBES = 300, 0.3, 300
FILES, CONNECTIONS, SECONDS = 80, 200, 6
ROUNDS = 7

CONFIG = """
environment: development
access_log: {{ format: off }}
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
upstreams:
  upstream: {{ url: "http://127.0.0.1:{up}" }}
routes:
  - {{ name: all, match: {{ path: "/{{*rest}}" }}, upstream: upstream }}
"""

NGINX = """
daemon off; master_process off; error_log /dev/null; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_http_version 1.1; proxy_set_header Connection "";
  upstream upstream {{ server 127.0.0.1:{up}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location /kept {{ proxy_pass http://upstream; proxy_request_buffering on; }}
    location /passed {{ proxy_pass http://upstream; proxy_request_buffering off; }}
  }}
}}
"""


def serve(client):
    """One connection of the upstream: it answers how many `x` the body had, or more than anybody's buffers take."""
    with client, contextlib.suppress(ConnectionError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            came = b""
            while b"\r\n\r\n" not in came:
                piece = client.recv(262144)
                if not piece:
                    return
                came += piece
            head, body = came.lower().split(b"\r\n\r\n", 1)
            chunked = b"transfer-encoding: chunked" in head
            length = re.search(rb"content-length: (\d+)", head)
            length = int(length.group(1)) if length else 0
            count = body.count(b"x")
            while not (body.endswith(b"0\r\n\r\n") if chunked else count >= length):
                piece = client.recv(262144)
                if not piece:
                    return
                count += piece.count(b"x")
                body = body[-4:] + piece
            answer = bytes(1 << 20) if head.startswith(b"get /big ") else b"%d" % count
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)


def upstream(listener):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


@contextlib.contextmanager
def proxy(threads, under=()):
    """The proxy with so many workers, `under` another program if need be: its id and its port."""
    port, config = free_port(), os.path.join(folder, "proxy.yaml")
    with open(config, "w") as file:
        file.write(CONFIG.format(port=port, admin=free_port(), up=up))
    process = start([*under, BINARY, "run", "--config", config], port, TRUNKLINE_THREADS=str(threads))
    try:
        yield process.pid, port
    finally:
        process.kill()  # it would wait for the slow ones
        process.wait()


@contextlib.contextmanager
def nginx():
    port, config = free_port(), os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(NGINX.format(port=port, up=up, folder=folder))
    process = start([INSTALLED, "-c", config], port)
    try:
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def pieces(kind):
    """What a slow client sends, a piece a time."""
    if kind == "head":
        head = itertools.chain(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", itertools.repeat(ord("a")))
        yield from (bytes([byte]) for byte in head)
    elif kind == "body":
        yield b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
        yield from itertools.repeat(b"x")
    else:
        yield from itertools.repeat(16 * b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")


def slow_client(port, kind):
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.setblocking(False)
    return connection, pieces(kind)


def slow_clients(port, clients, cut, over):
    """All of them, evenly spread over the pause that each makes."""
    for n in itertools.cycle(range(CLIENTS)):
        kind = ("head", "body", "pipeline")[n % 3]
        if n not in clients:
            clients[n] = slow_client(port, kind)
        connection, rest = clients[n]
        try:
            connection.send(next(rest))
        except ConnectionError:
            cut[kind] += 1
            clients.pop(n)[0].close()
        if over.wait(PAUSE / CLIENTS):
            return


def probe(port, name):
    took = []
    for _ in range(PROBES):
        began = time.perf_counter()
        answer = ask(port)
        took.append((time.perf_counter() - began) * 1e3)
        assert answer == (200, b"0"), answer
        time.sleep(0.04)
    p99 = statistics.quantiles(took, n=100, method="inclusive")[-1]
    print(f"{name:28}{statistics.median(took):9.2f}{p99:9.2f}{max(took):10.2f}")


def slow():
    clients, cut, over = {}, {"head": 0, "body": 0, "pipeline": 0}, threading.Event()
    with proxy(2) as (_, port):
        print(f"{'a probe, ms':28}{'median':>9}{'p99':>9}{'greatest':>10}")
        probe(port, "alone")
        crowd = threading.Thread(target=slow_clients, args=(port, clients, cut, over))
        crowd.start()
        try:
            time.sleep(2)
            assert len(clients) == CLIENTS, len(clients)
            probe(port, f"beside {CLIENTS} slow clients")
            assert crowd.is_alive(), "the slow clients have given up"
        finally:
            over.set()
            crowd.join()
            for connection, _ in clients.values():
                connection.close()
    print("cut off meanwhile: " + ", ".join(f"{kind} {count}" for kind, count in cut.items()))


def descriptors():
    with proxy(2, under=["prlimit", f"--nofile={FILES}"]) as (pid, port):
        clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(CONNECTIONS)]
        time.sleep(1)
        files = len(os.listdir(f"/proc/{pid}/fd"))
        before = spent(pid)
        time.sleep(SECONDS)
        used = (spent(pid) - before) / 1e9 / SECONDS
        print(f"{CONNECTIONS} connections, {files} of {FILES} descriptors taken: {used:.2%} of a core in {SECONDS} s")
        for connection in clients:
            connection.close()
        began, answer = time.perf_counter(), None
        while answer != (200, b"0"):
            assert time.perf_counter() - began < 30, answer
            with contextlib.suppress(OSError):
                answer = ask(port)
        print(f"a request is answered {(time.perf_counter() - began) * 1e3:.0f} ms after the clients have left")


def post(port, path, chunks, a_write):
    """So many chunks of one byte, so many of them a write."""
    piece = a_write * b"1\r\nx\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path)
        for _ in range(0, chunks, a_write):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        came = answer.status, answer.read()
        assert came == (200, b"%d" % chunks), came


def chunks():
    with proxy(1) as ours, nginx() as theirs:
        kinds = {"trunkline": (*ours, b"/"), "kept": (*theirs, b"/kept"), "passed": (*theirs, b"/passed")}
        print(f"{'ns a chunk':28}{'trunkline':>10}{'nginx, kept':>14}{'nginx, passed on':>18}")
        shown = []
        for name, count, a_write in (("in pieces of 12 kB", 2_000_000, 2000), ("a chunk a write", 20_000, 1)):
            took = {kind: [] for kind in kinds}
            for turn in range(ROUNDS + 1):
                for kind, (pid, port, path) in kinds.items():
                    before = spent(pid)
                    post(port, path, count, a_write)
                    if turn:
                        took[kind].append((spent(pid) - before) / count)
            medians = [statistics.median(of) for of in took.values()]
            print(f"{name:28}{medians[0]:10.1f}{medians[1]:14.1f}{medians[2]:18.1f}")
            for kind, what in (("kept", "nginx, kept"), ("passed", "nginx, passed on")):
                ratios = [here / there for here, there in zip(took["trunkline"], took[kind])]
                spread = f"(of {ROUNDS}: {min(ratios):.2f} to {max(ratios):.2f})"
                shown.append(f"trunkline / {what}, {name}: {statistics.median(ratios):.2f} {spread}")
    print("\n".join(shown))


if UNKNOWN:
    sys.exit(f"not a part: {', '.join(UNKNOWN)}; there are: {', '.join(PARTS)}")
INSTALLED = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
if "chunks" in CHOSEN and not INSTALLED:
    sys.exit("nginx is missing, which chunks are measured beside: apt-get install nginx, or name the other parts")
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
up = listener.getsockname()[1]
threading.Thread(target=upstream, args=(listener,), daemon=True).start()
with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # in memory: what nginx keeps shall not wait for a disk
    for part in (slow, descriptors, chunks):
        if part.__name__ in CHOSEN:
            part()
