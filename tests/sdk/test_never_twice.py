"""A vendor that carries a call out and then loses the answer: the SDK's own retries place no second one."""

import asyncio

import pytest
from msgraph.generated.models.event import Event
from msgraph.generated.models.o_data_errors.o_data_error import ODataError

from fault import close, reply, reset
from rig.sdks import Raised, snippet

LOST = {
    "hangs up": close(),
    "resets": reset(),
    "500": reply(500, {"message": "lost", "statusCode": 500}),
    "502": reply(502, {"message": "lost", "statusCode": 502}),
    "504": reply(504, {"message": "lost", "statusCode": 504}),
}
CALLS = "/call"

graph = snippet("graph").graph_client

UNGUARDED = """
listen: [{ name: app, address: "${TRUNKLINE_LISTEN}" }]
admin: { address: "${TRUNKLINE_ADMIN}" }
upstreams:
  vapi: { url: "${VAPI_URL}", profile: vapi, duplicate_window: 0s }
routes:
  - { name: vapi, match: { path: "/vapi/{*rest}" }, upstream: vapi, rewrite: "/{rest}" }
"""


def placed(fault) -> int:
    """How many calls reached the vendor, which carries out whatever does."""
    return sum(request.method == "POST" for request in fault.requests)


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_vapi_places_one_call_with_its_default_retries(start_proxy, fault, vapi, lost):
    proxy = start_proxy(VAPI_URL=fault.url)
    fault.script(lost)
    fault.otherwise = reply(201, {"id": "a second call"})
    client = vapi(proxy.url, retries=None)
    with pytest.raises(Raised) as refused:
        client.create_call("+15550001111")
    assert placed(fault) == 1
    error = refused.value
    assert (error.kind, error.status) == (client.error, 424)
    assert error.details["reason"] == "outcome_unknown"


def test_without_the_guard_the_same_retries_place_a_second_call(start_proxy, fault, vapi, tmp_path):
    """What the tests above would miss if they could not fail."""
    config = tmp_path / "unguarded.yaml"
    config.write_text(UNGUARDED)
    proxy = start_proxy(config=config, VAPI_URL=fault.url)
    fault.script(close())
    fault.otherwise = reply(201, {"id": "a second call"})
    assert vapi(proxy.url, retries=None).create_call("+15550001111") == "a second call"
    assert placed(fault) == 2


def test_vapi_may_call_the_same_number_again_after_a_good_call(start_proxy, fault, vapi):
    proxy = start_proxy(VAPI_URL=fault.url)
    fault.otherwise = reply(201, {"id": "a call"})
    client = vapi(proxy.url, retries=None)
    assert [client.create_call("+15550001111") for _ in range(2)] == ["a call"] * 2
    assert placed(fault) == 2


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_twilio_places_one_call_however_often_its_caller_tries(start_proxy, fault, twilio, lost):
    """Its SDK repeats no POST by itself: here the application does."""
    proxy = start_proxy(TWILIO_URL=fault.url)
    fault.script(lost)
    fault.otherwise = reply(201, {"sid": "CA2"})
    client = twilio(proxy.url)
    statuses = []
    for _ in range(3):
        with pytest.raises(Raised) as refused:
            client.place_call("+15550001111")
        statuses.append(refused.value.status)
    assert placed(fault) == 1
    assert statuses[1:] == [409, 409]
    assert statuses[0] in (500, 502, 504)


def test_twilio_sends_the_same_text_to_two_people_who_ask_for_it(start_proxy, fault, twilio):
    proxy = start_proxy(TWILIO_URL=fault.url)
    fault.otherwise = reply(201, {"sid": "SM1"})
    client = twilio(proxy.url)
    assert [client.send_sms("+15550001111") for _ in range(2)] == ["SM1"] * 2
    assert placed(fault) == 2


def test_graph_makes_one_event_with_its_default_retries(start_proxy, fault, pytestconfig):
    """Its SDK repeats a POST after a 504."""
    config = pytestconfig.rootpath / "google_graph.yaml"
    proxy = start_proxy(config=config, GOOGLE_URL=fault.url, GRAPH_URL=fault.url)
    fault.script(reply(504, {"error": {"code": "gatewayTimeout", "message": "lost"}}))
    fault.otherwise = reply(201, {"id": "a second event"})
    with pytest.raises(ODataError) as refused:
        asyncio.run(graph(proxy.url).me.events.post(Event(subject="Lunch")))
    assert placed(fault) == 1
    assert refused.value.response_status_code == 409
