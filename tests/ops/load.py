"""A vendor that fails on request and gives tokens, a configuration in which every policy has something to do, and a small load on both."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

FILE = """
metrics: {{ address: "{metrics}" }}
rate_limits:
  few: {{ requests: 5, per: 1m }}
stubs: {{ enabled: true }}
redis: {{ url: "redis://127.0.0.1:1" }}
notify: {{ url: "{vendor}/hook", secrets: [told] }}
credentials:
  fixed: {{ header: {{ value: secret }} }}
  fetched: {{ oauth2: {{ grant: client_credentials, token_url: "{vendor}/token", client_id: us, client_secret: secret }} }}
defaults:
  retry: {{ attempts: 2, budget: 100% }}
  breaker: {{ failure_threshold: 3, recovery_timeout: 1s, success_threshold: 1 }}
upstreams:
  good: {{ url: "{vendor}" }}
  bad: {{ url: "{vendor}" }}
  held: {{ url: "{vendor}", credential: fetched }}
routes:
  - {{ name: kept, match: {{ path: "/kept/{{*rest}}" }}, upstream: good, cache: {{ ttl: 1m }} }}
  - {{ name: held, match: {{ path: /held }}, upstream: held }}
  - {{ name: hooks, match: {{ path: /hooks }}, upstream: good, verify: {{ vapi: {{ secrets: [hooked] }} }} }}
  - {{ name: good, match: {{ path: "/good/{{*rest}}" }}, upstream: good, creates: false }}
  - {{ name: creates, match: {{ path: "/create/{{*rest}}" }}, upstream: good, creates: true }}
  - {{ name: bad, match: {{ path: "/bad/{{*rest}}" }}, upstream: bad, rewrite: "/503" }}
  - {{ name: limited, match: {{ path: /limited }}, upstream: good, rate_limit: few }}
  - {{ name: canned, match: {{ path: /canned }}, stub: {{ status: 200, body: ok }} }}
listen: [{{ name: app, address: "${{TRUNKLINE_LISTEN}}" }}]
admin: {{ address: "${{TRUNKLINE_ADMIN}}" }}
access_log: {{ format: json }}
"""


TOKEN = b'{"access_token": "for an hour", "token_type": "Bearer", "expires_in": 3600}'


class Vendor:
    """Answers 503 below `/503`, a token on `/token`, else 200; keeps the `traceparent` of each attempt.

    What the proxy asks or tells on its own account, a token or a change of a circuit, is no attempt.
    """

    def __init__(self):
        vendor = self
        self.parents: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                if self.path not in ("/token", "/hook"):
                    vendor.parents.append(self.headers.get("traceparent"))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(503 if self.path.startswith("/503") else 200)
                body = TOKEN if self.path == "/token" else b"ok"
                self.send_header("Content-Type", "application/json" if self.path == "/token" else "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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
    for path in ("/good/x", "/limited", "/canned", "/nowhere", "/kept/x", "/held", "/hooks", *["/bad/x"] * 4):
        session.get(url + path, timeout=10)
        sent += 1
    session.post(url + "/create/x", data=str(sent), timeout=10)
    return sent + 1
