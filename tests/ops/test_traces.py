"""Traces of the real binary at a receiver that reads them with the official package: every request and every attempt has
its span, whatever happened to it, and none is lost when the process ends."""

import gzip
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from load import FILE, Vendor, once
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from rig.ports import free_address
from rig.proxy import Proxy

SERVER, CLIENT = 2, 3


class Receiver:
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self):
        receiver = self
        self.spans, self.resources, lock = [], [], threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                request = ExportTraceServiceRequest.FromString(body)
                with lock:
                    for resource in request.resource_spans:
                        receiver.resources.append(told(resource.resource.attributes))
                        receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self):
        self.server.shutdown()


def told(attributes) -> dict:
    """Attributes by name; a name that came twice is a mistake."""
    pairs = [(a.key, a.value.string_value if a.value.HasField("string_value") else a.value.int_value) for a in attributes]
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


@pytest.fixture
def traced(tmp_path, running):
    """A load through the binary, which has ended since; and the receiver, the vendor and the access log."""
    vendor, receiver = Vendor(), Receiver()
    running += [vendor, receiver]
    config = tmp_path / "proxy.yaml"
    config.write_text(FILE.format(vendor=vendor.url, metrics=free_address()))
    proxy = Proxy(tmp_path, config, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_SERVICE_NAME="ours")
    running.append(proxy.program)
    with ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(once, [proxy.url] * 40))
    proxy.program.signal(signal.SIGTERM)
    assert proxy.program.exit_code() == 0
    return sent, receiver, vendor, proxy.access_log()


def test_spans_are_the_requests_and_the_attempts_exactly(traced):
    sent, receiver, vendor, log = traced
    requests = [span for span in receiver.spans if span.kind == SERVER]
    attempts = [span for span in receiver.spans if span.kind == CLIENT]
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans)
    assert len(requests) == len(log) == sent
    assert len(attempts) == sum(line["attempts"] for line in log) == len(vendor.parents)
    # The vendor was told of each attempt, as the parent of what it does.
    named = {f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in attempts}
    assert named == set(vendor.parents)
    # Each line of the log leads to its trace.
    assert Counter(line["trace_id"] for line in log) == Counter(span.trace_id.hex() for span in requests)
    assert {resource["service.name"] for resource in receiver.resources} == {"ours"}


def test_what_a_span_says_is_what_the_log_says(traced):
    _, receiver, _, log = traced
    lines = {line["trace_id"]: line for line in log}
    below = Counter(span.parent_span_id for span in receiver.spans if span.kind == CLIENT)
    for span in receiver.spans:
        line, told_of = lines[span.trace_id.hex()], told(span.attributes)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.kind == CLIENT:
            assert told_of["url.full"].startswith("http://127.0.0.1:") and "http.route" not in told_of
            continue
        assert below[span.span_id] == line["attempts"] == told_of["trunkline.attempts"]
        assert told_of["http.response.status_code"] == line["status"]
        assert told_of["url.path"] == line["path"]
        assert told_of.get("trunkline.reason") == line["reason"]
        assert told_of["trunkline.correlation_id"] == line["correlation_id"]
        assert (span.status.code == 2) == (line["status"] >= 500)
        assert ("error.type" in told_of) == (span.status.code == 2)
        if line["reason"] == "circuit_open":
            assert [event.name for event in span.events] == ["trunkline.circuit_refused"]
            assert told_of["error.type"] == "circuit_open"
    reasons = {line["reason"] for line in log}
    assert {"circuit_open", "rate_limited", "no_route"} <= reasons, reasons
