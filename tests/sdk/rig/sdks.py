"""The vendors' Python SDKs, built by the README's snippets, with the few operations that the tests need.

Each operation raises `Raised` when, and only when, the SDK raised the error class that its users catch."""

import importlib.util
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client
from vapi import CreateCustomerDto
from vapi.core.api_error import ApiError

SNIPPETS = Path(__file__).resolve().parents[1] / "snippets"
ACCOUNT = "AC00000000000000000000000000000001"
MESSAGE = "SM00000000000000000000000000000011"
CALL = "CA00000000000000000000000000000021"
FROM = "+15550002222"


@dataclass
class Raised(Exception):
    """The vendor's own error, in the same words for every SDK."""

    kind: str
    status: int | None
    text: str | None
    details: dict | None = None
    code: int | None = None


def snippet(name: str) -> ModuleType:
    """A snippet as a module; its file is named like the package it uses, so it never enters `sys.path`."""
    spec = importlib.util.spec_from_file_location(f"snippet_{name}", SNIPPETS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TWILIO = snippet("twilio")
VAPI = snippet("vapi")


@contextmanager
def _twilio_errors():
    try:
        yield
    except TwilioRestException as error:
        raise Raised("TwilioRestException", error.status, error.msg, error.details, error.code) from error


class TwilioPython:
    """twilio-python through the sidecar."""

    error = "TwilioRestException"

    def __init__(self, sidecar: str, **options: object):
        self.sidecar = sidecar
        self.client = TWILIO.twilio_client(ACCOUNT, "token", sidecar, **options)

    def place_call(self, to: str) -> str:
        with _twilio_errors():
            return self.client.calls.create(to=to, from_=FROM, url="https://example.com/hello.xml").sid

    def send_sms(self, to: str) -> str:
        with _twilio_errors():
            return self.client.messages.create(to=to, from_=FROM, body="Your table is booked.").sid

    def list_messages(self, limit: int, page_size: int) -> list[str]:
        return [message.sid for message in self.client.messages.list(limit=limit, page_size=page_size)]

    def list_services(self, limit: int, page_size: int) -> list[str]:
        return [service.sid for service in self.client.messaging.v1.services.list(limit=limit, page_size=page_size)]

    def list_services_by_base_url(self, limit: int, page_size: int) -> list[str]:
        """With the shortcut in place of the snippet."""
        client = Client(ACCOUNT, "token")
        client.messaging.base_url = f"{self.sidecar}/twilio/messaging"
        return [service.sid for service in client.messaging.v1.services.list(limit=limit, page_size=page_size)]

    def fetch_message(self, sid: str) -> str:
        with _twilio_errors():
            return self.client.messages(sid).fetch().sid

    def redact_message(self, sid: str) -> str:
        with _twilio_errors():
            return self.client.messages(sid).update(body="").sid

    def delete_message(self, sid: str) -> bool:
        with _twilio_errors():
            return self.client.messages(sid).delete()

    def fetch_call(self, sid: str) -> str:
        with _twilio_errors():
            return self.client.calls(sid).fetch().sid

    def end_call(self, sid: str) -> str:
        with _twilio_errors():
            return self.client.calls(sid).update(status="completed").sid

    def delete_call(self, sid: str) -> bool:
        with _twilio_errors():
            return self.client.calls(sid).delete()


@contextmanager
def _vapi_errors():
    try:
        yield
    except ApiError as error:
        raise Raised("ApiError", error.status_code, error.body["message"], error.body) from error


class VapiPython:
    """vapi-server-sdk through the sidecar, without its retries unless they are wanted; none: as many as it likes."""

    error = "ApiError"

    def __init__(self, sidecar: str, max_retries: int | None = 0):
        self.client = VAPI.vapi_client("token", sidecar)
        self.options = None if max_retries is None else {**VAPI.ONCE, "max_retries": max_retries}

    def create_call(self, number: str) -> str:
        with _vapi_errors():
            return self.client.calls.create(
                assistant_id="3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001",
                customer=CreateCustomerDto(number=number),
                request_options=self.options,
            ).id

    def create_websocket_call(self) -> str:
        """The address of the call's WebSocket."""
        with _vapi_errors():
            call = self.client.calls.create(
                assistant_id="3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001",
                transport={"provider": "vapi.websocket"},
                request_options=self.options,
            )
            return call.transport.websocketCallUrl

    def get_call(self, call: str) -> str:
        with _vapi_errors():
            return self.client.calls.get(call, request_options=self.options).id

    def list_assistants(self) -> list[str]:
        with _vapi_errors():
            return [assistant.id for assistant in self.client.assistants.list(request_options=self.options)]

    def get_assistant(self, assistant: str) -> str:
        with _vapi_errors():
            return self.client.assistants.get(assistant, request_options=self.options).id

    def rename_assistant(self, assistant: str, name: str) -> str:
        with _vapi_errors():
            return self.client.assistants.update(assistant, name=name, request_options=self.options).id
