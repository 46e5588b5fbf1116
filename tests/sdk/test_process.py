"""The program towards its operator: it says what is wrong before it serves, and ends without dropping anyone."""

import signal
import socket
import threading

import pytest
import requests
from requests.exceptions import ProxyError
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from fault import hang, reply
from rig.ports import free_address
from rig.proxy import trunkline
from rig.sdks import ACCOUNT, FROM
from rig.until import until


def test_connect_is_told_how_to_use_the_sidecar(start_proxy):
    proxy = start_proxy()
    with socket.create_connection(proxy.address, timeout=10) as connection:
        connection.sendall(b"CONNECT api.twilio.com:443 HTTP/1.1\r\nHost: api.twilio.com:443\r\n\r\n")
        answer = b""
        while b"}" not in answer and (more := connection.recv(65536)):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405")
    assert b'details="connect_method"' in head
    assert b"sidecar" in body or b"base" in body, body


def test_an_sdk_that_takes_it_for_a_forward_proxy_fails_with_405(start_proxy):
    http = TwilioHttpClient(proxy={"https": start_proxy().url}, timeout=10)
    with pytest.raises(ProxyError, match="405"):
        Client(ACCOUNT, "token", http_client=http).messages.create(to="+15550001111", from_=FROM, body="hi")


def test_a_port_in_use_is_named(start_proxy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for variable in ("TRUNKLINE_LISTEN", "TRUNKLINE_ADMIN"):
            addresses = {"TRUNKLINE_LISTEN": free_address(), "TRUNKLINE_ADMIN": free_address(), variable: address}
            refused = trunkline("run", **addresses)
            assert refused.returncode == 1
            assert address in refused.stderr + refused.stdout


def test_a_port_of_another_sidecar_is_in_use(start_proxy):
    """Its own workers share a port; two programs must not."""
    address = start_proxy().url.removeprefix("http://")
    refused = trunkline("run", TRUNKLINE_LISTEN=address, TRUNKLINE_ADMIN=free_address())
    assert refused.returncode == 1
    assert address in refused.stderr + refused.stdout


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_an_exchange_in_flight_is_finished_before_the_end(start_proxy, fault, ending):
    proxy = start_proxy(VAPI_URL=fault.url)
    released = threading.Event()
    fault.script(hang(released, then=reply(200, {"late": True})))
    answers = []
    ask = threading.Thread(target=lambda: answers.append(requests.get(f"{proxy.url}/vapi/slow", timeout=30)))
    ask.start()
    until(lambda: fault.requests, what="the request at the upstream")
    proxy.program.signal(ending)
    until(lambda: proxy.readiness() != 200, what="unready while draining")
    assert not answers
    released.set()
    ask.join(timeout=30)
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"late": True})]
    assert proxy.program.exit_code() == 0


def test_an_idle_proxy_ends_well(start_proxy):
    proxy = start_proxy()
    proxy.program.signal(signal.SIGTERM)
    assert proxy.program.exit_code() == 0


def test_the_shipped_file_has_no_problem():
    checked = trunkline("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_healthcheck_follows_readiness(start_proxy):
    proxy = start_proxy()
    address = proxy.admin.removeprefix("http://")
    assert trunkline("healthcheck", TRUNKLINE_ADMIN=address).returncode == 0
    assert trunkline("healthcheck", TRUNKLINE_ADMIN=free_address()).returncode == 1
