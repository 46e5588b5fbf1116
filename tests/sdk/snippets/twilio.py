from urllib.parse import urlsplit

from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

TWILIO = ".twilio.com"


class SidecarHttpClient(TwilioHttpClient):
    """Sends https://<product>.twilio.com/... to <sidecar>/twilio/<product>/... instead."""

    def __init__(self, sidecar, **options):
        super().__init__(**options)
        self.sidecar = sidecar

    def request(self, method, url, *args, **kwargs):
        _, host, path, query, _ = urlsplit(url)
        if host.endswith(TWILIO):
            label = host.removesuffix(TWILIO)
            url = f"{self.sidecar}/twilio/{label}{path}" + ("?" + query if query else "")
        return super().request(method, url, *args, **kwargs)


def twilio_client(account_sid, auth_token, sidecar="http://127.0.0.1:8080", **options):
    http_client = SidecarHttpClient(sidecar, timeout=30)
    return Client(account_sid, auth_token, http_client=http_client, **options)
