"""A crowd before an upstream that fails or hangs: how many of its callers the upstream gets to see."""

import resource
import selectors
import socket
import threading
import time

import pytest
import requests

from fault import hang, reply
from rig.until import until

CROWD = 1_000
THRESHOLD = 3
PATH = "/twilio/api/2010-04-01/Accounts.json"
HALF_OPEN, OPEN = 1, 2


@pytest.fixture(autouse=True)
def room_for_a_crowd():
    """Lets this process and the proxy, which inherits it, hold a socket for every caller on both sides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8_192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def trip(proxy, fault) -> None:
    fault.script(*[reply(500, {})] * THRESHOLD)
    for n in range(THRESHOLD):
        assert requests.post(proxy.url + PATH, data=str(n), timeout=10).status_code == 500


def state(proxy) -> float:
    return proxy.metric("circuit_breaker_state", service="twilio")


class Caller:
    """One request on a connection of its own; `answer` is what has come back so far."""

    def __init__(self, proxy):
        self.socket = socket.create_connection(proxy.address, timeout=30)
        self.socket.sendall(f"GET {PATH} HTTP/1.1\r\nHost: proxy\r\n\r\n".encode())
        self.answer = b""


def answered(callers: list[Caller], count: int) -> list[Caller]:
    """Waits until `count` of the callers have an answer, or half a minute is over; those that have one."""
    deadline = time.monotonic() + 30
    with selectors.DefaultSelector() as ready:
        for caller in callers:
            ready.register(caller.socket, selectors.EVENT_READ, caller)
        while len(done := [caller for caller in callers if caller.answer]) < count and time.monotonic() < deadline:
            for key, _ in ready.select(timeout=1):
                key.data.answer += key.data.socket.recv(65536)
                ready.unregister(key.fileobj)
    return done


def test_one_of_a_thousand_callers_is_the_probe(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_RECOVERY_TIMEOUT=1)
    trip(proxy, fault)
    until(lambda: state(proxy) == HALF_OPEN, what="half-open")
    released = threading.Event()
    fault.otherwise = hang(released, then=reply(200, {}))
    crowd = [Caller(proxy) for _ in range(CROWD)]
    refused = answered(crowd, CROWD - 1)
    assert len(refused) == CROWD - 1
    assert all(caller.answer.startswith(b"HTTP/1.1 503") for caller in refused)
    assert all(b"\r\nretry-after: 1\r\n" in caller.answer.lower() for caller in refused)
    assert len(fault.requests) == THRESHOLD + 1
    released.set()
    (probe,) = [caller for caller in crowd if caller not in refused]
    assert answered([probe], 1)[0].answer.startswith(b"HTTP/1.1 200")


def test_no_caller_passes_an_open_circuit(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url)
    trip(proxy, fault)
    crowd = [Caller(proxy) for _ in range(CROWD)]
    refused = answered(crowd, CROWD)
    assert len(refused) == CROWD
    assert all(caller.answer.startswith(b"HTTP/1.1 503") for caller in refused)
    assert len(fault.requests) == THRESHOLD


def test_an_upstream_that_only_fails_is_left_alone_until_the_recovery_time(start_proxy, fault):
    """It fails for ever; callers never stop. After the trip the next attempt starts with the recovery time's end."""
    proxy = start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_RECOVERY_TIMEOUT=1)
    started = time.monotonic()
    trip(proxy, fault)
    fault.otherwise = reply(500, {})
    until(lambda: ask(proxy) and len(fault.requests) > THRESHOLD, what="a probe")
    assert time.monotonic() - started >= 1
    assert len(fault.requests) == THRESHOLD + 1
    assert state(proxy) == OPEN


def ask(proxy) -> bool:
    """Whether a caller was refused or failed, as all are here."""
    return requests.get(proxy.url + PATH, timeout=10).status_code >= 500


def test_a_probe_whose_caller_leaves_makes_room_for_another(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_RECOVERY_TIMEOUT=1)
    trip(proxy, fault)
    until(lambda: state(proxy) == HALF_OPEN, what="half-open")
    fault.script(hang(threading.Event()))
    leaving = Caller(proxy)
    until(lambda: len(fault.requests) == THRESHOLD + 1, what="the probe at the upstream")
    assert requests.get(proxy.url + PATH, timeout=10).status_code == 503
    leaving.socket.close()
    until(lambda: requests.get(proxy.url + PATH, timeout=10).status_code == 200, what="another probe's answer")
    assert proxy.metric("circuit_breaker_opens_total", service="twilio") == 1
