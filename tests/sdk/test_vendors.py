"""The vendors' SDKs do their everyday work through the proxy, on the shipped file, against mock vendors."""

from http.client import HTTPConnection

import pytest

from rig.proxy import trunkline
from rig.sdks import CALL, MESSAGE

ASSISTANT = "3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001"


@pytest.fixture
def api(start_proxy, upstreams):
    return start_proxy(TWILIO_URL=upstreams.api.url)


def test_twilio_places_a_call(api, twilio):
    assert twilio(api.url).place_call("+15550001111").startswith("CA")


def test_twilio_follows_and_ends_a_call(api, twilio):
    client = twilio(api.url)
    assert client.fetch_call(CALL).startswith("CA")
    assert client.end_call(CALL).startswith("CA")
    assert client.delete_call(CALL) is True


def test_twilio_sends_an_sms(api, twilio):
    assert twilio(api.url).send_sms("+15550001111").startswith("SM")


def test_twilio_fetches_redacts_and_deletes_a_message(api, twilio):
    client = twilio(api.url)
    assert client.fetch_message(MESSAGE).startswith("SM")
    assert client.redact_message(MESSAGE).startswith("SM")
    assert client.delete_message(MESSAGE) is True


def test_twilio_pages_by_relative_addresses(api, twilio):
    """The mock's every page names a next one, so the third record is the second page's first."""
    sids = twilio(api.url).list_messages(3, 2)
    assert len(sids) == 3
    assert sids[2] == sids[0]
    assert api.metric("trunkline_upstream_attempts_total", upstream="twilio") == 2


def test_twilio_pages_by_absolute_addresses(start_proxy, upstreams, twilio):
    """These pages name the next one on Twilio's own host: the client still asks the sidecar for it."""
    proxy = start_proxy(TWILIO_URL=upstreams.messaging.url)
    sids = twilio(proxy.url).list_services(3, 2)
    assert len(sids) == upstreams.services
    assert all(sid.startswith("MG") for sid in sids)
    pages = (upstreams.services + 1) // 2
    assert proxy.metric("trunkline_upstream_attempts_total", upstream="twilio") == pages


def test_twilio_edge_and_region_work(api, twilio):
    client = twilio(api.url, edge="dublin", region="ie1")
    assert client.send_sms("+15550001111").startswith("SM")
    assert client.fetch_message(MESSAGE).startswith("SM")


def test_the_edge_and_region_reach_the_vendor_s_own_host():
    told = trunkline("explain", "GET", "http://127.0.0.1:8080/twilio/api.dublin.ie1/2010-04-01/Accounts.json")
    assert told.returncode == 0, told.stderr
    assert "https://api.dublin.ie1.twilio.com/2010-04-01/Accounts.json" in told.stdout


@pytest.mark.parametrize(
    "label", ["unheard-of", "api.dublin.ie1.evil", "evil.example", "api@evil.example", "api%2eevil"]
)
def test_a_product_that_twilio_does_not_have_is_no_route(start_proxy, fault, label):
    connection = HTTPConnection(*start_proxy(TWILIO_URL=fault.url).address, timeout=10)
    connection.request("GET", f"/twilio/{label}/2010-04-01/Accounts.json")
    assert connection.getresponse().status == 404
    assert not fault.requests


def test_vapi_creates_a_call_and_looks_it_up(start_proxy, upstreams, vapi):
    proxy = start_proxy(VAPI_URL=upstreams.vapi.url)
    client = vapi(proxy.url)
    assert client.create_call("+15550001111")
    assert client.get_call("6b2a5a40-1e3d-4f0e-8f7c-0a6f0d1c0011")
    assert proxy.metric("trunkline_upstream_attempts_total", upstream="vapi", outcome="success") == 2


def test_vapi_lists_reads_and_renames_assistants(start_proxy, upstreams, vapi):
    client = vapi(start_proxy(VAPI_URL=upstreams.vapi.url).url)
    assert client.list_assistants()
    assert client.get_assistant(ASSISTANT)
    assert client.rename_assistant(ASSISTANT, "Front desk")
