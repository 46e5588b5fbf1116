"""Assistants' settings through Vapi's SDKs: read once, given again, and still there when Vapi is not."""

import requests

from fault import reply
from rig.proxy import SHIPPED
from rig.until import until

ASSISTANT = "3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001"
DAY = "2025-11-03T08:00:00.000Z"
SETTINGS = {"id": ASSISTANT, "orgId": "1", "createdAt": DAY, "updatedAt": DAY}
CONNECTION = {"host", "via", "connection"}
OPEN = 2


def attempts(proxy) -> float:
    return proxy.metric("trunkline_upstream_attempts_total", upstream="vapi")


def test_repeated_reads_of_settings_hardly_reach_vapi(start_proxy, upstreams, vapi):
    proxy = start_proxy(VAPI_URL=upstreams.vapi.url)
    client = vapi(proxy.url)
    for _ in range(20):
        assert client.list_assistants()
        assert client.get_assistant(ASSISTANT)
    assert attempts(proxy) == 2, "of forty calls"
    assert client.rename_assistant(ASSISTANT, "Front desk")
    assert client.list_assistants()
    assert client.get_assistant(ASSISTANT)
    assert attempts(proxy) == 5, "a change drops the assistant and the list"


def test_settings_are_served_while_vapi_is_down_and_marked(start_proxy, fault, vapi, tmp_path):
    shipped = SHIPPED.read_text()
    quick = shipped.replace("cache: { ttl: 5m,", "cache: { ttl: 1s,")
    assert quick != shipped
    config = tmp_path / "quick.yaml"
    config.write_text(quick)
    fault.script(reply(200, SETTINGS))
    fault.otherwise = reply(503, {})
    proxy = start_proxy(config=config, VAPI_URL=fault.url)
    client = vapi(proxy.url)
    assert client.get_assistant(ASSISTANT) == ASSISTANT

    def broken() -> bool:
        assert client.get_assistant(ASSISTANT) == ASSISTANT
        return proxy.metric("circuit_breaker_state", service="vapi") == OPEN

    until(broken, what="an open circuit")
    touched = len(fault.requests)
    assert client.get_assistant(ASSISTANT) == ASSISTANT
    assert len(fault.requests) == touched
    fields = {name: value for name, value in fault.requests[0].headers if name.lower() not in CONNECTION}
    url = f"{proxy.url}/vapi/assistant/{ASSISTANT}"
    answer = requests.get(url, headers=fields, timeout=10)
    assert answer.status_code == 200
    assert "stale, circuit_open" in answer.headers["Cache-Status"]
    another = {name: value for name, value in fields.items() if name.lower() != "authorization"}
    other = requests.get(url, headers=another | {"Authorization": "Bearer another"}, timeout=10)
    assert other.status_code == 503, "another account's settings are not given"
