"""An open circuit and a spent limit reach the application as each SDK's usual error, with a text it can act on."""

import asyncio
import time
from pathlib import Path

import pytest
import requests
from googleapiclient.errors import HttpError
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_http.middleware.options import RetryHandlerOption
from msgraph.generated.models.o_data_errors.o_data_error import ODataError

from fault import close, reply, reset
from rig.sdks import ACCOUNT, Raised, snippet

GOOGLE_GRAPH = Path(__file__).with_name("google_graph.yaml")
MESSAGES = f"/twilio/api/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
RECOVERY = 30

google = snippet("google").google_client
graph = snippet("graph").graph_client


def open_circuit(proxy, path: str, fault) -> None:
    """Three failures of three kinds, to requests that differ: an equal one would be guarded, not sent."""
    fault.script(reply(500, {}), reset(), close())
    statuses = [requests.post(f"{proxy.url}{path}", data=str(n), timeout=10).status_code for n in range(3)]
    assert statuses[0] == 500
    assert all(status in (500, 502) for status in statuses), statuses
    fault.script()


# --- open circuit ---


def test_twilio_raises_its_usual_error_on_an_open_circuit(start_proxy, fault, twilio):
    proxy = start_proxy(TWILIO_URL=fault.url)
    open_circuit(proxy, MESSAGES, fault)
    client = twilio(proxy.url)
    with pytest.raises(Raised) as refused:
        client.send_sms("+15550001111")
    error = refused.value
    assert (error.kind, error.status) == (client.error, 503)
    assert isinstance(error.code, int)
    assert "twilio" in error.text
    assert error.details["reason"] == "circuit_open"
    assert error.details["upstream"] == "twilio"
    assert error.details["upstream_contacted"] is False
    assert error.details["correlation_id"]
    assert 1 <= error.details["retry_after_seconds"] <= RECOVERY


def test_twilio_is_told_the_true_time_left(start_proxy, fault):
    proxy = start_proxy(TWILIO_URL=fault.url)
    opened = time.monotonic()
    open_circuit(proxy, MESSAGES, fault)
    refused = requests.post(proxy.url + MESSAGES, data={"To": "+15550001111"}, timeout=10)
    spent = time.monotonic() - opened
    assert refused.status_code == 503
    assert RECOVERY - spent - 1 <= int(refused.headers["Retry-After"]) <= RECOVERY
    assert refused.headers["Proxy-Status"].startswith("trunkline; error=destination_unavailable")
    assert refused.headers["Cache-Control"] == "no-store"
    assert "title" not in refused.json(), "with a title the SDK raises a class that nobody catches"


def test_vapi_raises_its_usual_error_on_an_open_circuit(start_proxy, fault, vapi):
    proxy = start_proxy(VAPI_URL=fault.url)
    open_circuit(proxy, "/vapi/call", fault)
    client = vapi(proxy.url)
    with pytest.raises(Raised) as refused:
        client.create_call("+15550001111")
    error = refused.value
    assert (error.kind, error.status) == (client.error, 503)
    assert "vapi" in error.text
    assert error.details["statusCode"] == 503
    assert error.details["error"]
    assert error.details["reason"] == "circuit_open"
    assert 1 <= error.details["retry_after_seconds"] <= RECOVERY


def test_vapi_does_not_sleep_the_recovery_time(start_proxy, fault, vapi):
    """With its retries left on it obeys Retry-After to the second, so an open circuit does not send one."""
    proxy = start_proxy(VAPI_URL=fault.url)
    open_circuit(proxy, "/vapi/call", fault)
    refused = requests.post(f"{proxy.url}/vapi/call", json={}, timeout=10)
    assert refused.status_code == 503
    assert "Retry-After" not in refused.headers
    client = vapi(proxy.url, retries=2)
    touched = len(fault.requests)
    started = time.monotonic()
    with pytest.raises(Raised):
        client.list_assistants()
    assert time.monotonic() - started < RECOVERY / 2
    assert len(fault.requests) == touched


def test_google_raises_its_usual_error_on_an_open_circuit(start_proxy, fault):
    proxy = start_proxy(config=GOOGLE_GRAPH, GOOGLE_URL=fault.url, GRAPH_URL=fault.url)
    open_circuit(proxy, "/google/calendar/v3/calendars/primary/events", fault)
    with pytest.raises(HttpError) as refused:
        google("calendar", "v3", proxy.url).events().list(calendarId="primary").execute()
    assert refused.value.status_code == 503
    assert "google" in refused.value.reason
    assert refused.value.resp["retry-after"]


def test_graph_raises_its_usual_error_on_an_open_circuit(start_proxy, fault):
    proxy = start_proxy(config=GOOGLE_GRAPH, GOOGLE_URL=fault.url, GRAPH_URL=fault.url)
    open_circuit(proxy, "/graph/v1.0/me/events", fault)
    with pytest.raises(ODataError) as refused:
        asyncio.run(graph(proxy.url).me.events.get(once()))
    assert refused.value.response_status_code == 503
    assert "graph" in refused.value.error.message


# --- spent limit ---


def test_twilio_raises_its_usual_error_over_the_limit(start_proxy, fault, twilio):
    fault.otherwise = reply(201, {"sid": "SM1"})
    client = twilio(start_proxy(TWILIO_URL=fault.url, RATE_LIMIT_PER_MINUTE=1).url)
    assert client.send_sms("+15550001111") == "SM1"
    with pytest.raises(Raised) as refused:
        client.send_sms("+15550001112")
    error = refused.value
    assert (error.kind, error.status) == (client.error, 429)
    assert isinstance(error.code, int)
    assert "per_client" in error.text
    assert "RATE_LIMIT_PER_MINUTE" in error.text
    assert error.details["reason"] == "rate_limited"
    assert 1 <= error.details["retry_after_seconds"] <= 60


def test_vapi_raises_its_usual_error_over_the_limit(start_proxy, fault, vapi):
    fault.otherwise = reply(200, [])
    client = vapi(start_proxy(VAPI_URL=fault.url, RATE_LIMIT_PER_MINUTE=1).url)
    assert client.list_assistants() == []
    with pytest.raises(Raised) as refused:
        client.create_call("+15550001111")
    error = refused.value
    assert (error.kind, error.status) == (client.error, 429)
    assert "per_client" in error.text
    assert error.details["reason"] == "rate_limited"


def test_google_raises_its_usual_error_over_the_limit(start_proxy):
    events = google("calendar", "v3", start_proxy(RATE_LIMIT_PER_MINUTE=1).url).events()
    events.list(calendarId="primary").execute()
    with pytest.raises(HttpError) as refused:
        events.list(calendarId="primary").execute()
    assert refused.value.status_code == 429
    assert "per_client" in refused.value.reason
    assert 1 <= int(refused.value.resp["retry-after"]) <= 60


def test_graph_raises_its_usual_error_over_the_limit(start_proxy):
    proxy = start_proxy(RATE_LIMIT_PER_MINUTE=1)

    async def twice():
        events = graph(proxy.url).me.events
        await events.get(once())
        await events.get(once())

    with pytest.raises(ODataError) as refused:
        asyncio.run(twice())
    assert refused.value.response_status_code == 429
    assert "per_client" in refused.value.error.message


def test_a_limit_tells_when_to_come_back(start_proxy):
    """Two a minute: the third may come when half a minute has gone by since the first."""
    proxy = start_proxy(RATE_LIMIT_PER_MINUTE=2)
    path = "/api/v1/integrations/calendar/google/events"
    started = time.monotonic()
    answers = [requests.get(proxy.url + path, timeout=10) for _ in range(3)]
    spent = time.monotonic() - started
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 30 - spent - 1 <= int(answers[2].headers["Retry-After"]) <= 30
    assert answers[2].headers["Proxy-Status"].startswith("trunkline; error=http_request_denied")
    assert answers[2].headers["RateLimit"].startswith('"per_client";r=0;t=')


def once() -> RequestConfiguration:
    """The Graph client without its retries, which would sit out the Retry-After."""
    return RequestConfiguration(options=[RetryHandlerOption(max_retries=0)])
