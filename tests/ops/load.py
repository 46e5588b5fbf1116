"""A vendor that fails on request, a configuration in which every policy has something to do, and a small load on both."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

FILE = """
metrics: {{ address: "{metrics}" }}
rate_limits:
  few: {{ requests: 5, per: 1m }}
stubs: {{ enabled: true }}
defaults:
  retry: {{ attempts: 2, budget: 100% }}
  breaker: {{ failure_threshold: 3, recovery_timeout: 1s, success_threshold: 1 }}
upstreams:
  good: {{ url: "{vendor}" }}
  bad: {{ url: "{vendor}" }}
routes:
  - {{ name: good, match: {{ path: "/good/{{*rest}}" }}, upstream: good, creates: false }}
  - {{ name: creates, match: {{ path: "/create/{{*rest}}" }}, upstream: good, creates: true }}
  - {{ name: bad, match: {{ path: "/bad/{{*rest}}" }}, upstream: bad, rewrite: "/503" }}
  - {{ name: limited, match: {{ path: /limited }}, upstream: good, rate_limit: few }}
  - {{ name: canned, match: {{ path: /canned }}, stub: {{ status: 200, body: ok }} }}
listen: [{{ name: app, address: "${{TRUNKLINE_LISTEN}}" }}]
admin: {{ address: "${{TRUNKLINE_ADMIN}}" }}
access_log: {{ format: json }}
"""


class Vendor:
    """Answers 503 below `/503`, else 200; keeps the `traceparent` of what it was sent."""

    def __init__(self):
        vendor = self
        self.parents: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                vendor.parents.append(self.headers.get("traceparent"))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(503 if self.path.startswith("/503") else 200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_POST = answer

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self):
        self.server.shutdown()


def once(url: str) -> int:
    """One round of everything; how many requests that were."""
    session = requests.Session()
    sent = 0
    for path in ("/good/x", "/limited", "/canned", "/nowhere", *["/bad/x"] * 4):
        session.get(url + path, timeout=10)
        sent += 1
    session.post(url + "/create/x", data=str(sent), timeout=10)
    return sent + 1
