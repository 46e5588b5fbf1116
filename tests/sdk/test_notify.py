"""A receiver of notifications that is made of the README's own lines: it believes what we send, and nothing else."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from rig.sdks import snippet
from rig.until import until

is_ours = snippet("receiver").is_ours
SECRET = "0123456789abcdef0123456789abcdef"

CONFIG = """
upstreams:
  vapi: {{ url: "http://127.0.0.1:9", breaker: {{ failure_threshold: 1, recovery_timeout: 1m }} }}
routes: [{{ name: all, match: {{ path: "/{{*rest}}" }}, upstream: vapi }}]
notify: {{ url: "{url}", secret_file: secret }}
listen: [{{ name: app, address: "${{TRUNKLINE_LISTEN}}" }}]
admin: {{ address: "${{TRUNKLINE_ADMIN}}" }}
"""


@pytest.fixture
def receiver():
    """What came: fields and body of each message."""
    came = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            came.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", came
    server.shutdown()


def test_the_readmes_receiver_believes_what_we_sign_and_nothing_else(start_proxy, receiver, tmp_path):
    url, came = receiver
    (tmp_path / "secret").write_text(SECRET)
    config = tmp_path / "notify.yaml"
    config.write_text(CONFIG.format(url=url))
    proxy = start_proxy(config=config)
    assert requests.get(f"{proxy.url}/x", timeout=10).status_code == 502
    until(lambda: came, what="a notification")
    fields, body = came[0]
    assert json.loads(body)["to"] == "open"
    assert is_ours(SECRET, fields, body)
    assert not is_ours("another", fields, body)
    assert not is_ours(SECRET, fields, body.replace(b"open", b"shut"))
    late = {**fields, "webhook-timestamp": str(int(time.time()) - 600)}
    assert not is_ours(SECRET, {name.lower(): value for name, value in late.items()}, body)
