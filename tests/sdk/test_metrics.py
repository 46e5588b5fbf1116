"""What Prometheus is given: well-formed, complete from the start, and bounded whatever clients send."""

import os
import random
import socket
import string
import subprocess
import threading

import pytest
import requests

PROMTOOL = os.environ.get("PROMTOOL", "promtool")
KEPT = [
    "circuit_breaker_state",
    "circuit_breaker_failures_total",
    "circuit_breaker_opens_total",
    "circuit_breaker_closes_total",
]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("service", ["twilio", "vapi"])
def test_the_names_of_the_record_stand_at_zero_from_the_start(start_proxy, name, service):
    assert start_proxy().metric(name, service=service) == 0


def test_promtool_finds_nothing_to_lint(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url, VAPI_URL=fault.url, RATE_LIMIT_PER_MINUTE=4)
    for path in ("/vapi/assistant", "/twilio/api/x", "/api/v1/integrations/calendar/google/events", "/nowhere") * 2:
        requests.get(proxy.url + path, timeout=10)
    page = requests.get(f"{proxy.admin}/metrics", timeout=10)
    assert page.headers["Content-Type"].startswith("text/plain")
    linted = subprocess.run([PROMTOOL, "check", "metrics"], input=page.content, capture_output=True, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
PREFIXES = ["/", "/vapi/", "/twilio/api/", "/twilio/", "/google/", "/graph/", "/api/v1/integrations/"]
LETTERS = string.ascii_letters + string.digits + "-_~+!$&'()*,;=:@"
BATCH = 500


def random_request(dice: random.Random) -> str:
    made_up = "".join(dice.choices(string.ascii_uppercase, k=dice.randint(3, 12)))
    method = dice.choice([*METHODS, made_up])
    segments = ("".join(dice.choices(LETTERS, k=dice.randint(1, 12))) for _ in range(dice.randint(1, 4)))
    return f"{method} {dice.choice(PREFIXES)}{'/'.join(segments)} HTTP/1.1\r\nHost: proxy\r\nContent-Length: 0\r\n"


def send_batch(address: tuple[str, int], dice: random.Random) -> None:
    """Pipelines a batch of requests, of which the last ends the connection, and reads all answers."""
    wanted = [random_request(dice) for _ in range(BATCH)]
    wanted[-1] += "Connection: close\r\n"
    with socket.create_connection(address, timeout=60) as connection:
        writer = threading.Thread(target=connection.sendall, args=(("\r\n".join(wanted) + "\r\n").encode(),))
        writer.start()
        while connection.recv(1 << 18):
            pass
        writer.join()


def test_a_hundred_thousand_random_requests_add_no_series(start_proxy, stream):
    """The first tenth meets every combination that the file allows; the rest must find them all there."""
    proxy = start_proxy(TWILIO_URL=stream, VAPI_URL=stream)
    dice = random.Random(2026)

    def send_until(total: int) -> set[str]:
        send_batch(proxy.address, dice)
        while proxy.metric("trunkline_requests_total") < total:
            send_batch(proxy.address, dice)
        return set(proxy.metrics())

    known = send_until(10_000)
    assert send_until(110_000) - known == set()
    assert 'method="OTHER"' in "".join(known)
