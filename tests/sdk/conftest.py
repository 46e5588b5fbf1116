"""Fixtures: what a test names it gets started, and everything that was started ends with it."""

import os
import socket
import sys
from functools import partial

import pytest

os.environ["NO_PROXY"] = "127.0.0.1,localhost"

from fault import Fault, reply
from rig.node import Node, NodeClient
from rig.ports import free_port
from rig.prism import OURS, THEIRS, VENDORS, Upstreams
from rig.program import Program
from rig.proxy import BINARY, PROJECT, Proxy
from rig.sdks import TwilioPython, VapiPython
from rig.until import until


def pytest_report_header() -> list[str]:
    if VENDORS.is_dir():
        note = "the vendors' own descriptions stand beside the project: the tours run on them too"
    else:
        note = f"no vendors' descriptions in {VENDORS}: the tours run on ours alone"
    return [f"trunkline: {BINARY}", note]


@pytest.fixture
def start_proxy(tmp_path):
    """Starts proxies: `start_proxy(TWILIO_URL=...)` runs the shipped file, `config=` another."""
    started = []

    def start(**settings):
        proxy = Proxy(tmp_path, name=f"proxy-{len(started)}", **settings)
        started.append(proxy)
        return proxy

    yield start
    for proxy in started:
        proxy.stop()


@pytest.fixture
def fault():
    upstream = Fault()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def stream(tmp_path_factory):
    """The address of an upstream of long bodies."""
    port = free_port()
    program = Program(
        "stream", [sys.executable, str(PROJECT / "tests/sdk/stream.py"), str(port)], tmp_path_factory.mktemp("stream")
    )
    until(partial(_listens, program, port), what="the upstream of long bodies")
    yield f"http://127.0.0.1:{port}"
    program.kill()


def _listens(program: Program, port: int) -> bool:
    program.alive()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session", params=[OURS, *([THEIRS] if VENDORS.is_dir() else [])], ids=lambda them: them.name)
def upstreams(request, tmp_path_factory):
    """The vendors, played from descriptions of ours and, where they are at hand, from their own."""
    servers = Upstreams(request.param, tmp_path_factory.mktemp("prism"))
    try:
        yield servers.wait()
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def node():
    process = Node()
    yield process
    process.stop()


@pytest.fixture(params=["python", "node"])
def twilio(request):
    """Makes a Twilio client of one language: `twilio(proxy.url, edge=..., region=...)`."""
    if request.param == "python":
        return TwilioPython
    return partial(NodeClient, request.getfixturevalue("node"), "twilio", "RestException")


@pytest.fixture(scope="session")
def vapi_python():
    """The Python SDK after its first calls, which take it many seconds to build its models for."""
    upstream = Fault()
    upstream.script(reply(201, {"id": "1"}), reply(200, []))
    client = VapiPython(upstream.url)
    client.create_call("+15550001111")
    client.list_assistants()
    upstream.stop()
    return VapiPython


@pytest.fixture(params=["python", "node"])
def vapi(request):
    """Makes a Vapi client of one language, which retries only where asked to: `vapi(proxy.url, retries=2)`, or
    as it does by itself: `retries=None`."""
    if request.param == "python":
        client = request.getfixturevalue("vapi_python")
        return lambda sidecar, retries=0: client(sidecar, retries)
    process = request.getfixturevalue("node")
    return lambda sidecar, retries=0: NodeClient(process, "vapi", "VapiError", sidecar, maxRetries=retries)
