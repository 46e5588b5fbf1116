"""A whole scenario of both SDKs contacts the proxy and nobody else: every name that is asked for and every connection
that is begun is recorded below the SDKs, and none of them may leave this machine."""

import json
import sys
from contextlib import contextmanager

import pytest
from twilio.rest import Client
from websockets.sync.client import connect

from rig.node import SDK, Node, NodeClient
from rig.sdks import ACCOUNT, TwilioPython
from rig.vendor import STREAM, Vendor

NUMBER = "+15550001111"


class AroundTheProxy(Exception):
    """Somebody was about to leave this machine."""


_attempts: list[tuple[str, int]] | None = None


def _watch(event: str, words: tuple) -> None:
    if _attempts is None or event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    if event == "socket.connect":
        address = words[1]
        if not isinstance(address, tuple):
            return
        host, port = address[:2]
    else:
        host, port = words[0], (words[1] if len(words) > 1 else 0)
    _attempts.append((host, int(port or 0)))
    if host not in ("127.0.0.1", "localhost"):
        raise AroundTheProxy(host)


sys.addaudithook(_watch)  # for good: Python has no way to take one back


@contextmanager
def watched():
    """Records what this process tries to reach; every way there passes the interpreter's own audit events."""
    global _attempts
    _attempts = attempts = []
    try:
        yield attempts
    finally:
        _attempts = None


@pytest.fixture
def vendor():
    vendor = Vendor()
    yield vendor
    vendor.stop()


@pytest.fixture
def proxy(start_proxy, vendor):
    return start_proxy(TWILIO_URL=vendor.url, VAPI_URL=vendor.url)


def scenario(twilio, vapi) -> str:
    """What an application does with both vendors; the address of a call's WebSocket."""
    assert twilio.place_call(NUMBER).startswith("CA")
    assert twilio.send_sms(NUMBER).startswith("SM")
    assert twilio.list_messages(6, 2) == ["SM00", "SM01", "SM10", "SM11", "SM20", "SM21"]
    services = ["MG00", "MG01", "MG10", "MG11", "MG20", "MG21"]
    assert twilio.list_services(6, 2) == services
    assert twilio.list_services_by_base_url(6, 2) == services
    assert vapi.get_call("c1") == "c1"
    return vapi.create_websocket_call()


def spoken(url: str) -> None:
    """Frames pass both ways, text and binary, small and large."""
    with connect(url, proxy=None) as stream:
        stream.send('{"type":"hello"}')
        assert stream.recv(timeout=30) == 'echo: {"type":"hello"}'
        sound = bytes(range(256)) * 1024
        stream.send(sound)
        assert stream.recv(timeout=30) == sound[::-1]


def test_python_reaches_the_proxy_alone(proxy, vendor, vapi_python):
    with watched() as attempts:
        url = scenario(TwilioPython(proxy.url), vapi_python(proxy.url))
        spoken(url)
    assert url == f"{proxy.url.replace('http', 'ws')}/vapi{STREAM}"
    assert vendor.streams == [STREAM]
    assert set(attempts) == {proxy.address}


def test_node_reaches_the_proxy_alone(proxy, vendor, tmp_path):
    record = tmp_path / "attempts"
    record.touch()
    node = Node(NODE_OPTIONS=f"--require {SDK / 'node/watch.cjs'}", ATTEMPTS=str(record))
    try:
        twilio = NodeClient(node, "twilio", "RestException", proxy.url)
        vapi = NodeClient(node, "vapi", "VapiError", proxy.url, maxRetries=0)
        spoken(scenario(twilio, vapi))
    finally:
        node.stop()
    attempts = {tuple(json.loads(line)) for line in record.read_text().splitlines()}
    assert {(host, port) for host, port in attempts if port} == {proxy.address}
    assert {host for host, _ in attempts} == {proxy.address[0]}


def test_what_goes_around_is_seen():
    with watched() as attempts, pytest.raises(Exception, match=r"api\.twilio\.com"):
        Client(ACCOUNT, "token").calls.create(to=NUMBER, from_=NUMBER, url="https://example.com/a.xml")
    assert attempts == [("api.twilio.com", 443)]
