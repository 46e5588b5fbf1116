"""The six promises of the design record, over real HTTP and with the vendors' clients, on the shipped file.

Stub gate, breaker opens, breaker recovers, excess is blocked, the correlation id is carried through, or minted."""

import asyncio
import re

import pytest
import requests
from googleapiclient.errors import HttpError
from msgraph.generated.models.o_data_errors.o_data_error import ODataError

from fault import reply
from rig.proxy import trunkline
from rig.sdks import FROM, TWILIO, Raised, snippet
from rig.until import until

UUID_V7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
THRESHOLD = 3
CLOSED, HALF_OPEN, OPEN = 0, 1, 2

google = snippet("google").google_client
graph = snippet("graph").graph_client


# --- stub gate ---


def test_calendar_stubs_answer_in_development(start_proxy):
    proxy = start_proxy()
    events = google("calendar", "v3", proxy.url).events().list(calendarId="primary").execute()
    assert events["kind"] == "calendar#events"
    assert asyncio.run(graph(proxy.url).me.events.get()).value is not None


def test_email_stubs_answer_in_development(start_proxy):
    proxy = start_proxy()
    sent = google("gmail", "v1", proxy.url).users().messages().send(userId="me", body={"raw": "SGVsbG8"}).execute()
    assert sent["id"]


def test_calendar_and_email_are_refused_when_stubs_are_switched_off(start_proxy):
    proxy = start_proxy(INTEGRATIONS_STUB_MODE="false")
    for request in (
        google("calendar", "v3", proxy.url).events().list(calendarId="primary"),
        google("gmail", "v1", proxy.url).users().messages().send(userId="me", body={"raw": "SGVsbG8"}),
    ):
        with pytest.raises(HttpError) as refused:
            request.execute()
        assert refused.value.status_code == 403
        assert "INTEGRATIONS_STUB_MODE" in refused.value.reason
    with pytest.raises(ODataError) as refused:
        asyncio.run(graph(proxy.url).me.events.get())
    assert refused.value.response_status_code == 403
    assert "INTEGRATIONS_STUB_MODE" in refused.value.error.message


def test_the_application_s_stub_paths_obey_the_same_gate(start_proxy):
    path = "/api/v1/integrations/calendar/google/events"
    canned = requests.get(start_proxy().url + path, timeout=10)
    assert (canned.status_code, canned.headers["X-Stub"]) == (200, "google-calendar-events")
    refused = requests.get(start_proxy(INTEGRATIONS_STUB_MODE="false").url + path, timeout=10)
    assert refused.status_code == 403
    assert refused.headers["Proxy-Status"].startswith("trunkline; error=http_request_denied")
    assert 'details="stub_disabled"' in refused.headers["Proxy-Status"]


@pytest.mark.parametrize("verb", ["run", "check"])
def test_stubs_in_production_refuse_to_start(verb):
    refused = trunkline(verb, ENVIRONMENT="production")
    assert refused.returncode == 2
    assert "INTEGRATIONS_STUB_MODE" in refused.stdout + refused.stderr


def test_production_starts_with_stubs_switched_off(start_proxy):
    assert start_proxy(ENVIRONMENT="production", INTEGRATIONS_STUB_MODE="false").readiness() == 200


# --- breaker opens ---


def fail_three_calls(client, fault) -> None:
    """Three calls to different numbers, each answered 500 by the vendor and reported so by its SDK."""
    fault.script(*[reply(500, {"code": 20500, "message": "Internal", "status": 500})] * THRESHOLD)
    for number in range(THRESHOLD):
        with pytest.raises(Raised) as raised:
            client.place_call(f"+1555000{number:04}")
        assert (raised.value.kind, raised.value.status, raised.value.code) == (client.error, 500, 20500)


def test_failing_calls_open_the_breaker_for_sms_too(start_proxy, fault, twilio):
    proxy = start_proxy(TWILIO_URL=fault.url)
    client = twilio(proxy.url)
    fail_three_calls(client, fault)
    assert proxy.metric("circuit_breaker_state", service="twilio") == OPEN
    with pytest.raises(Raised) as refused:
        client.send_sms("+15550009999")
    with pytest.raises(Raised):
        client.place_call("+15550009998")
    assert (refused.value.kind, refused.value.status) == (client.error, 503)
    assert len(fault.requests) == THRESHOLD, "an open circuit must not touch the vendor"
    assert proxy.metric("circuit_breaker_failures_total", service="twilio") == THRESHOLD
    assert proxy.metric("circuit_breaker_opens_total", service="twilio") == 1
    assert proxy.metric("circuit_breaker_state", service="vapi") == CLOSED


def test_failing_sms_open_the_breaker_for_calls_too(start_proxy, fault, twilio):
    proxy = start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_THRESHOLD=2)
    client = twilio(proxy.url)
    fault.script(reply(503, {"message": "down"}), reply(502, {"message": "down"}))
    for number in ("+15550000001", "+15550000002"):
        with pytest.raises(Raised):
            client.send_sms(number)
    with pytest.raises(Raised) as refused:
        client.place_call("+15550009999")
    assert refused.value.status == 503
    assert len(fault.requests) == 2


def test_a_disabled_breaker_refuses_nothing(start_proxy, fault, twilio):
    client = twilio(start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_ENABLED="false").url)
    fail_three_calls(client, fault)
    fault.otherwise = reply(201, {"sid": "SM1"})
    assert client.send_sms("+15550009999") == "SM1"


# --- breaker recovers ---


def test_the_breaker_recovers_through_half_open(start_proxy, fault, twilio):
    proxy = start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_RECOVERY_TIMEOUT=1)
    client = twilio(proxy.url)

    def state() -> float:
        return proxy.metric("circuit_breaker_state", service="twilio")

    fail_three_calls(client, fault)
    assert state() == OPEN
    until(lambda: state() == HALF_OPEN, what="half-open after a second")
    fault.otherwise = reply(201, {"sid": "SM1"})
    assert client.send_sms("+15550000011") == "SM1"
    assert state() == HALF_OPEN, "one success of two"
    assert client.send_sms("+15550000012") == "SM1"
    assert state() == CLOSED
    assert proxy.metric("circuit_breaker_closes_total", service="twilio") == 1
    assert client.place_call("+15550000013") == "SM1"


def test_a_failing_probe_opens_the_breaker_again(start_proxy, fault, twilio):
    proxy = start_proxy(TWILIO_URL=fault.url, CIRCUIT_BREAKER_RECOVERY_TIMEOUT=1)
    client = twilio(proxy.url)
    fail_three_calls(client, fault)
    until(lambda: proxy.metric("circuit_breaker_state", service="twilio") == HALF_OPEN)
    fault.script(reply(500, {"message": "still down"}))
    with pytest.raises(Raised):
        client.send_sms("+15550000021")
    assert proxy.metric("circuit_breaker_state", service="twilio") == OPEN
    assert proxy.metric("circuit_breaker_opens_total", service="twilio") == 2


# --- excess is blocked ---


def test_the_excess_over_the_limit_is_blocked(start_proxy, fault, twilio):
    fault.otherwise = reply(201, {"sid": "CA1"})
    proxy = start_proxy(TWILIO_URL=fault.url, RATE_LIMIT_PER_MINUTE=2)
    client = twilio(proxy.url)
    for number in ("+15550000031", "+15550000032"):
        assert client.place_call(number) == "CA1"
    with pytest.raises(Raised) as blocked:
        client.place_call("+15550000033")
    assert (blocked.value.kind, blocked.value.status) == (client.error, 429)
    assert len(fault.requests) == 2, "the excess must not reach the vendor"
    assert proxy.metric("trunkline_refusals_total", route="twilio", reason="rate_limited") == 1


def test_the_eleventh_request_within_a_minute_is_blocked(start_proxy):
    """On the shipped file's own default."""
    proxy = start_proxy(RATE_LIMIT_PER_MINUTE=None)
    path = "/api/v1/integrations/calendar/google/events"
    answers = [requests.get(proxy.url + path, timeout=10) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 6
    for answer in answers:
        assert re.fullmatch(r'"per_client";q=10;w=60(;.*)?', answer.headers["RateLimit-Policy"])
        assert answer.headers["RateLimit"].startswith('"per_client";r=')


# --- correlation ---


def correlated(sidecar: str, correlation: str | None):
    """A Twilio client that sends the id with everything, and the list that its answers' ids go to."""
    echoed: list[str] = []
    hooks = {"response": lambda answer, *_, **__: echoed.append(answer.headers.get("X-Correlation-ID"))}
    http = TWILIO.SidecarHttpClient(sidecar, timeout=30, request_hooks=hooks)
    if correlation:
        http.session.headers["X-Correlation-ID"] = correlation
    return TWILIO.Client("AC00000000000000000000000000000001", "token", http_client=http), echoed


def send(client) -> None:
    client.messages.create(to="+15550001111", from_=FROM, body="hi")


def test_the_correlation_id_is_carried_through(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url)
    client, echoed = correlated(proxy.url, "order-4711:step.2")
    send(client)
    assert fault.requests[0].header("X-Correlation-ID") == "order-4711:step.2"
    assert echoed == ["order-4711:step.2"]
    logged = until(proxy.access_log, what="an access record")
    assert [record["correlation_id"] for record in logged] == ["order-4711:step.2"]


def test_a_missing_correlation_id_is_minted(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url)
    client, echoed = correlated(proxy.url, None)
    send(client)
    send(client)
    sent = [request.header("X-Correlation-ID") for request in fault.requests]
    assert echoed == sent
    assert sent[0] != sent[1]
    assert all(UUID_V7.fullmatch(minted) for minted in sent)


@pytest.mark.parametrize("hostile", ["two words", "x" * 129, 'quo"te', "semi;colon"])
def test_an_invalid_correlation_id_is_replaced(start_proxy, fault, hostile):
    proxy = start_proxy(TWILIO_URL=fault.url)
    client, echoed = correlated(proxy.url, hostile)
    send(client)
    assert UUID_V7.fullmatch(fault.requests[0].header("X-Correlation-ID"))
    assert echoed == [fault.requests[0].header("X-Correlation-ID")]


def test_our_own_answers_carry_the_correlation_id_too(start_proxy):
    proxy = start_proxy(RATE_LIMIT_PER_MINUTE=1, INTEGRATIONS_STUB_MODE="false")
    path = "/api/v1/integrations/calendar/google/events"
    seen = set()
    for target in (path, path, "/no/such/route"):
        answer = requests.get(proxy.url + target, headers={"X-Correlation-ID": "mine"}, timeout=10)
        assert answer.headers["X-Correlation-ID"] == "mine"
        seen.add(answer.status_code)
    assert seen == {403, 404, 429}
