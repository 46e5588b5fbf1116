#!/usr/bin/env python3
"""What a verified webhook costs beside the same POST forwarded without `verify`, a request.

    python3 tests/bench/webhook.py [target/release/trunkline] [rounds]
    python3 tests/bench/webhook.py --instructions [target/release/trunkline]

The POST is one of Twilio's as it answers a call: a form of 15 parameters in no order, signed, every request an event
of its own. By CPU: both kinds in turns against one worker, the CPU time of the process's threads, the median of the
ratios of neighbours, so that a busy machine troubles both alike. By instructions: under valgrind (which must be
installed), repeatable on any machine; it counts no instruction of the kernel, and shows a processor without
instructions for SHA, so that hashing counts several times what it takes. It prints figures and asserts what was
answered, never how fast.
"""
import base64, hashlib, hmac, os, re, socket, statistics, subprocess, sys, tempfile, threading, urllib.parse
from servers import free_port, spent, start

ARGUMENTS = [argument for argument in sys.argv[1:] if argument != "--instructions"]
COUNTED = "--instructions" in sys.argv
BINARY = ARGUMENTS[0] if ARGUMENTS else "target/release/trunkline"
ROUNDS = int(ARGUMENTS[1]) if len(ARGUMENTS) > 1 else 9
REQUESTS, WARM, CONNECTIONS = 2000, 300, 8
TOKEN, PUBLIC = "12345678901234567890123456789012", "https://my.example.com"
ANSWER = b"<Response><Say>Hello.</Say></Response>".ljust(1024)
KINDS = {"plain": "/plain/voice", "verified": "/hook/voice"}

CONFIG = """
environment: development
access_log: {{ format: off }}
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}" }}
upstreams:
  app: {{ url: "http://127.0.0.1:{up}" }}
routes:
  - name: hook
    match: {{ path: "/hook/voice" }}
    upstream: app
    verify: {{ twilio: {{ public_url: "{public}", auth_token_file: "{token}" }} }}
  - {{ name: plain, match: {{ path: "/plain/voice" }}, upstream: app }}
"""


def message(connection, ahead=b""):
    """One message of HTTP with a length, and what came behind it; none at the end of the connection."""
    while b"\r\n\r\n" not in ahead:
        piece = connection.recv(65536)
        if not piece:
            return None
        ahead += piece
    head, ahead = ahead.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"content-length: (\d+)", head.lower()).group(1))
    while len(ahead) < length:
        ahead += connection.recv(65536)
    return head, ahead[:length], ahead[length:]


def serve(client):
    """One connection of the application."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ahead = b""
    while True:
        came = message(client, ahead)
        if came is None:
            return
        ahead = came[2]
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 1024\r\n\r\n" + ANSWER)


def application(listener):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


def webhook(path, number):
    """A request of Twilio's, signed by the rules that it has published."""
    form = {
        "Called": "+15550002222", "ToState": "CA", "CallerCountry": "US", "Direction": "inbound",
        "CallerState": "CA", "ToZip": "94105", "CallSid": f"CA{number:032x}", "To": "+15550002222",
        "ToCountry": "US", "ApiVersion": "2010-04-01", "CallStatus": "in-progress", "From": "+15550001111",
        "AccountSid": "AC" + 2 * "0123456789abcdef", "Digits": "1234", "CallerCity": "SAN FRANCISCO",
    }
    body = urllib.parse.urlencode(form).encode()
    signed = PUBLIC + path + "".join(name + form[name] for name in sorted(form))
    mark = base64.b64encode(hmac.new(TOKEN.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: my.example.com\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n"
        "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n"
        f"X-Twilio-Signature: {mark}\r\nI-Twilio-Idempotency-Token: {number:08x}-aaaa-bbbb-cccc-0123456789ab\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


told = 0


def run(port, path, requests):
    """So many requests on a few connections, in batches of one each."""
    global told
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(0, requests, CONNECTIONS):
        for connection in connections:
            told += 1
            connection.sendall(webhook(path, told))
        for connection in connections:
            head, body, _ = message(connection)
            assert b" 200 " in head[:20] and body == ANSWER, head
    for connection in connections:
        connection.close()


def by_cpu(port):
    proxy = start([BINARY, "run", "--config", config], port, TRUNKLINE_THREADS="1")
    try:
        for path in KINDS.values():
            run(port, path, WARM)
        took = {kind: [] for kind in KINDS}
        for _ in range(ROUNDS):
            for kind, path in KINDS.items():
                before = spent(proxy.pid)
                run(port, path, REQUESTS)
                took[kind].append((spent(proxy.pid) - before) / REQUESTS / 1e3)
        for kind, all_of in took.items():
            print(f"{kind:10}{statistics.median(all_of):8.1f} us (least {min(all_of):.1f})")
        ratios = [verified / plain for verified, plain in zip(took["verified"], took["plain"])]
        print(f"verified / plain: {statistics.median(ratios):.2f} (of {ROUNDS}: {min(ratios):.2f} to {max(ratios):.2f})")
    finally:
        proxy.terminate()
        proxy.wait()


def by_instructions(port):
    counts = {}
    for kind, path in KINDS.items():
        out = os.path.join(folder, kind)
        counter = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        proxy = start([*counter, BINARY, "run", "--config", config], port, TRUNKLINE_THREADS="1")
        try:
            run(port, path, WARM)
            control = ["callgrind_control", "-i"]
            subprocess.run(control + ["on", str(proxy.pid)], check=True, capture_output=True)
            run(port, path, REQUESTS)
            subprocess.run(control + ["off", str(proxy.pid)], check=True, capture_output=True)
        finally:
            proxy.terminate()
            proxy.wait()
        shown = subprocess.run(["callgrind_annotate", "--threshold=99", out], check=True, capture_output=True, text=True)
        number = lambda line: int(line.split()[0].replace(",", ""))
        lines = [line for line in shown.stdout.splitlines() if re.match(r"\s*[\d,]+ ", line)]
        total = next(number(line) for line in lines if "PROGRAM TOTALS" in line)
        hashed = sum(number(line) for line in lines if re.search(r"sha\d+_block", line))
        counts[kind] = (total / REQUESTS, hashed / REQUESTS)
        print(f"{kind:10}{counts[kind][0]:10.0f} instructions, of them {counts[kind][1]:.0f} in blocks of SHA")
    (plain, _), (verified, hashed) = counts["plain"], counts["verified"]
    print(f"verified / plain: {verified / plain:.2f}; without the blocks of SHA {(verified - hashed) / plain:.2f}")


listener = socket.create_server(("127.0.0.1", 0), backlog=64)
threading.Thread(target=application, args=(listener,), daemon=True).start()
with tempfile.TemporaryDirectory() as folder:
    config, token, port = os.path.join(folder, "proxy.yaml"), os.path.join(folder, "token"), free_port()
    with open(token, "w") as file:
        file.write(TOKEN)
    with open(config, "w") as file:
        up = listener.getsockname()[1]
        file.write(CONFIG.format(port=port, admin=free_port(), up=up, public=PUBLIC, token=token))
    (by_instructions if COUNTED else by_cpu)(port)
