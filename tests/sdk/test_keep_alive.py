"""A real server closes what was idle for its five seconds, now and then just as a request comes: nobody's answer is
lost for it, and no call is left of unknown outcome."""

import time
from concurrent.futures import ThreadPoolExecutor

import requests

KEEP_ALIVE = 5.0
CALLERS = 24
ROUNDS = 3
ASSISTANT = "3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001"


def test_nothing_fails_around_the_keep_alive_of_a_real_server(start_proxy, upstreams):
    proxy = start_proxy(VAPI_URL=upstreams.vapi.url)

    def caller(number: int) -> list[tuple[str, int]]:
        """Reads and calls, again about when the server closes what it used before: up to 0.1 s before or after."""
        seen = []
        with requests.Session() as session:
            session.headers["Authorization"] = "Bearer token"
            for turn in range(ROUNDS):
                listed = session.get(f"{proxy.url}/vapi/assistant", timeout=30)
                seen.append(("GET", listed.status_code))
                customer = {"number": f"+1555{turn:03}{number:04}"}
                call = {"assistantId": ASSISTANT, "customer": customer}
                placed = session.post(f"{proxy.url}/vapi/call", json=call, timeout=30)
                seen.append(("POST", placed.status_code))
                time.sleep(KEEP_ALIVE - 0.1 + 0.2 * number / CALLERS)
        return seen

    with ThreadPoolExecutor(CALLERS) as crowd:
        seen = [one for each in crowd.map(caller, range(CALLERS)) for one in each]
    assert seen.count(("GET", 200)) == CALLERS * ROUNDS, seen
    assert seen.count(("POST", 201)) == CALLERS * ROUNDS, seen
    assert proxy.metric("trunkline_upstream_attempts_total", upstream="vapi", outcome="failure") == 0
