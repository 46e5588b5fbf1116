"""Logins held by the proxy: the vendors' own clients without any credential, and a real identity provider behind it."""

import asyncio
import re
import shutil
import subprocess

import pytest
import requests
from googleapiclient.errors import HttpError

from fault import reply
from rig.node import NODE, SDK
from rig.ports import free_port
from rig.program import Program
from rig.proxy import BINARY, SHIPPED, environment
from rig.sdks import snippet
from rig.until import until


class Provider:
    """oauth2-mock-server; `answers` says how, `asked` what it was asked."""

    def __init__(self, directory):
        shutil.copy(SDK / "node/provider.mjs", NODE / "provider.mjs")
        port, control = free_port(), free_port()
        self.url = f"http://localhost:{port}"
        self.token_url = f"http://127.0.0.1:{port}/token"
        self._control = f"http://127.0.0.1:{control}"
        command = ["node", str(NODE / "provider.mjs"), str(port), str(control)]
        self.program = Program("provider", command, directory)
        until(self._listens, within=60, what="the identity provider")

    def _listens(self) -> bool:
        self.program.alive()
        try:
            self.asked()
        except requests.ConnectionError:
            return False
        return True

    def answers(self, **mode) -> None:
        requests.put(self._control, json=mode, timeout=30).raise_for_status()

    def asked(self) -> list[dict]:
        return requests.get(self._control, timeout=30).json()


@pytest.fixture
def provider(tmp_path):
    provider = Provider(tmp_path)
    yield provider
    provider.program.kill()


@pytest.fixture
def held(tmp_path, provider, fault):
    """What makes the shipped file hold a login for each provider, with the vendors played by `fault`."""
    token = tmp_path / "refresh"
    token.write_text("refresh-1\n")
    return {
        "INTEGRATIONS_STUB_MODE": "false",
        "GOOGLE_CALENDAR_URL": fault.url,
        "GMAIL_URL": fault.url,
        "GRAPH_URL": fault.url,
        "GOOGLE_CLIENT_ID": "us",
        "GOOGLE_TOKEN_URL": provider.token_url,
        "GOOGLE_REFRESH_TOKEN_FILE": token,
        "MICROSOFT_CLIENT_ID": "us",
        "MICROSOFT_TOKEN_URL": provider.token_url,
        "MICROSOFT_REFRESH_TOKEN_FILE": token,
    }


def test_googles_client_needs_no_credential(held, fault, start_proxy):
    fault.otherwise = reply(200, {"kind": "calendar#events", "items": []})
    proxy = start_proxy(**held)
    calendar = snippet("google").google_client("calendar", "v3", proxy.url)
    assert calendar.events().list(calendarId="primary").execute()["items"] == []
    last = fault.requests[-1]
    assert last.target.startswith("/calendar/v3/calendars/primary/events?")
    assert re.fullmatch(r"Bearer token-\d", last.header("authorization"))


def test_graphs_client_needs_no_credential(held, fault, start_proxy):
    fault.otherwise = reply(200, {"value": []})
    proxy = start_proxy(**held)
    graph = snippet("graph").graph_client(proxy.url)
    assert asyncio.run(graph.me.events.get()).value == []
    assert fault.requests[-1].target == "/v1.0/me/events"
    assert re.fullmatch(r"Bearer token-\d", fault.requests[-1].header("authorization"))


def test_a_token_is_replaced_before_it_ends_and_a_rotated_one_is_kept(held, provider, start_proxy):
    provider.answers(expires_in=3, refresh_token="refresh-2")
    proxy = start_proxy(**held)
    until(lambda: len(provider.asked()) >= 4, within=60, what="a second token for each provider")
    assert {asked["refresh_token"] for asked in provider.asked()[2:]} == {"refresh-2"}
    assert held["GOOGLE_REFRESH_TOKEN_FILE"].read_text() == "refresh-2\n"
    assert proxy.metric("trunkline_credential_state", credential="google") == 0


def test_what_is_revoked_is_said_to_googles_client_and_comes_back_with_a_new_login(held, provider, fault, start_proxy):
    provider.answers(error="invalid_grant")
    proxy = start_proxy(**held)
    calendar = snippet("google").google_client("calendar", "v3", proxy.url)
    with pytest.raises(HttpError) as raised:
        calendar.events().list(calendarId="primary").execute()
    assert raised.value.resp.status == 502
    assert "credential google cannot be used" in raised.value.reason
    assert fault.requests == []
    provider.answers()
    held["GOOGLE_REFRESH_TOKEN_FILE"].write_text("refresh-3\n")

    def serves() -> bool:
        try:
            return calendar.events().list(calendarId="primary").execute() == {}
        except HttpError:
            return False

    until(serves, within=60, what="a token")


def chromium(url: str) -> str:
    """The text of the page that a real browser ends at."""
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    return subprocess.run([*words, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True).stdout


def by_hand(url: str) -> str:
    return requests.get(url, timeout=30).text


@pytest.mark.parametrize("browser", [by_hand, chromium])
def test_a_login_by_browser_keeps_the_refresh_token(held, provider, tmp_path, browser):
    provider.answers(refresh_token="refresh-by-login")
    held["GOOGLE_REFRESH_TOKEN_FILE"].chmod(0o644)
    config = tmp_path / "login.yaml"
    text = SHIPPED.read_text().replace("      provider: google\n", f"      authorize_url: {provider.url}/authorize\n")
    config.write_text(text)
    child = subprocess.Popen(
        [BINARY, "login", "google", "--config", str(config)],
        env=environment(**held),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.readline()
    assert "Thank you" in browser(child.stdout.readline().strip())
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert held["GOOGLE_REFRESH_TOKEN_FILE"].read_text() == "refresh-by-login\n"
    assert held["GOOGLE_REFRESH_TOKEN_FILE"].stat().st_mode & 0o777 == 0o600
    assert "refresh-by-login" not in out + err
    assert provider.asked()[-1] == {"grant_type": "authorization_code", "client_id": "us", "verified": True}
