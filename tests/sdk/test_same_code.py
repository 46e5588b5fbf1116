"""The same application code with stubs on and with the real vendors: only the sidecar's environment differs."""

import asyncio

from msgraph.generated.models.date_time_time_zone import DateTimeTimeZone
from msgraph.generated.models.event import Event

from fault import reply
from rig.sdks import snippet
from test_tokens import held, provider  # noqa: F401 - fixtures

START, END = "2026-11-23T10:00:00Z", "2026-11-23T10:30:00Z"
EVENT = {"id": "e1", "kind": "calendar#event", "summary": "Fitting", "subject": "Fitting"}


def application(sidecar: str) -> list[object]:
    """What the application does with both calendars; it knows the sidecar's address and nothing of stubs."""
    events = snippet("google").google_client("calendar", "v3", sidecar).events()
    wanted = {"summary": "Fitting", "start": {"dateTime": START}, "end": {"dateTime": END}}
    made = events.insert(calendarId="primary", body=wanted).execute()
    listed = events.list(calendarId="primary").execute()
    graph = snippet("graph").graph_client(sidecar)
    at = lambda when: DateTimeTimeZone(date_time=when, time_zone="UTC")

    async def outlook() -> tuple[Event, object]:
        made = await graph.me.events.post(Event(subject="Fitting", start=at(START), end=at(END)))
        return made, await graph.me.events.get()

    meeting, meetings = asyncio.run(outlook())
    return [made["summary"], isinstance(listed["items"], list), meeting.subject, isinstance(meetings.value, list)]


def test_stubs_on_and_off_serve_the_same_application(start_proxy, fault, held):  # noqa: F811 - the fixture
    expected = ["Fitting", True, "Fitting", True]
    assert application(start_proxy().url) == expected
    assert not fault.requests
    answer = EVENT | {"items": [], "value": []}
    fault.otherwise = reply(200, answer)
    assert application(start_proxy(**held).url) == expected
    targets = [came.target.split("?")[0] for came in fault.requests]
    assert targets == ["/calendar/v3/calendars/primary/events"] * 2 + ["/v1.0/me/events"] * 2
    assert all(came.header("authorization").startswith("Bearer token-") for came in fault.requests)
