"""Google's and Microsoft's own clients work against the stubs of the shipped file."""

import asyncio

import pytest
import requests
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.date_time_time_zone import DateTimeTimeZone
from msgraph.generated.models.email_address import EmailAddress
from msgraph.generated.models.event import Event
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.recipient import Recipient
from msgraph.generated.users.item.calendar.get_schedule.get_schedule_post_request_body import GetSchedulePostRequestBody
from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody

from rig.sdks import snippet

START, END = "2026-11-23T10:00:00Z", "2026-11-23T10:30:00Z"

google = snippet("google").google_client
graph = snippet("graph").graph_client


@pytest.fixture
def proxy(start_proxy):
    return start_proxy()


def moment(when: str) -> DateTimeTimeZone:
    return DateTimeTimeZone(date_time=when, time_zone="UTC")


def test_google_lists_events(proxy):
    events = google("calendar", "v3", proxy.url).events()
    page = events.list(calendarId="user@example.com", timeMin=START, singleEvents=True, orderBy="startTime").execute()
    assert page["kind"] == "calendar#events"
    assert isinstance(page["items"], list)


def test_google_creates_an_event(proxy):
    wanted = {"summary": "Fitting", "start": {"dateTime": START}, "end": {"dateTime": END}}
    event = google("calendar", "v3", proxy.url).events().insert(calendarId="primary", body=wanted).execute()
    assert event["kind"] == "calendar#event"
    assert event["id"]
    assert event["status"] == "confirmed"
    assert (event["summary"], event["start"]) == ("Fitting", {"dateTime": START})


def test_google_changes_and_deletes_an_event(proxy):
    events = google("calendar", "v3", proxy.url).events()
    event = events.patch(calendarId="user@example.com", eventId="e1", body={"summary": "Later"}).execute()
    assert (event["id"], event["summary"]) == ("e1", "Later")
    assert not events.delete(calendarId="user@example.com", eventId="e1").execute()


def test_google_lists_calendars(proxy):
    assert google("calendar", "v3", proxy.url).calendarList().list().execute()["items"]


def test_google_tells_free_from_busy(proxy):
    question = {"timeMin": START, "timeMax": END, "items": [{"id": "primary"}, {"id": "room@example.com"}]}
    answer = google("calendar", "v3", proxy.url).freebusy().query(body=question).execute()
    assert answer["kind"] == "calendar#freeBusy"
    assert set(answer["calendars"]) == {"primary", "room@example.com"}
    assert all("busy" in calendar for calendar in answer["calendars"].values())


def test_gmail_sends_a_message(proxy):
    messages = google("gmail", "v1", proxy.url).users().messages()
    sent = messages.send(userId="me", body={"raw": "VG86IGFAZXhhbXBsZS5jb20NCg0KaGk"}).execute()
    assert sent["id"] and sent["threadId"]
    assert "SENT" in sent["labelIds"]


def test_graph_lists_events(proxy):
    page = asyncio.run(graph(proxy.url).me.events.get())
    assert isinstance(page.value, list)


def test_graph_creates_an_event(proxy):
    event = asyncio.run(graph(proxy.url).me.events.post(Event(subject="Fitting", start=moment(START), end=moment(END))))
    assert event.id
    assert (event.subject, event.start.time_zone) == ("Fitting", "UTC")


def test_graph_changes_and_deletes_an_event(proxy):
    async def change() -> Event:
        event = graph(proxy.url).me.events.by_event_id("e1")
        changed = await event.patch(Event(subject="Later"))
        await event.delete()
        return changed

    assert asyncio.run(change()).subject == "Later"


def test_graph_tells_free_from_busy(proxy):
    question = GetSchedulePostRequestBody(
        schedules=["a@example.com"], start_time=moment(START), end_time=moment(END), availability_view_interval=30
    )
    answer = asyncio.run(graph(proxy.url).me.calendar.get_schedule.post(question))
    assert answer.value[0].schedule_id == "a@example.com"
    assert answer.value[0].availability_view


def test_graph_sends_mail(proxy):
    message = Message(
        subject="Your table",
        body=ItemBody(content_type=BodyType.Text, content="is booked"),
        to_recipients=[Recipient(email_address=EmailAddress(address="a@example.com"))],
    )
    assert asyncio.run(graph(proxy.url).me.send_mail.post(SendMailPostRequestBody(message=message))) is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "calendar/google/events", 200),
        ("POST", "calendar/google/events", 200),
        ("POST", "calendar/google/freebusy", 200),
        ("GET", "calendar/microsoft/events", 200),
        ("POST", "calendar/microsoft/events", 201),
        ("POST", "calendar/microsoft/freebusy", 200),
        ("POST", "email/gmail/send", 200),
        ("POST", "email/microsoft/send", 202),
    ],
)
def test_the_application_s_paths_answer_and_say_that_they_are_stubs(proxy, method, path, status):
    answer = requests.request(method, f"{proxy.url}/api/v1/integrations/{path}", json={}, timeout=10)
    assert answer.status_code == status
    assert answer.headers["X-Stub"]
    assert answer.headers["X-Correlation-ID"]
    assert status == 202 or answer.json()
