import httplib2
from googleapiclient.discovery import build

# For these two services the endpoint stands for different parts of the address: it takes the
# place of ".../calendar/v3" whole, and of Gmail's host alone.
ENDPOINTS = {("calendar", "v3"): "/google/calendar/v3", ("gmail", "v1"): "/google"}


def google_client(service, version, sidecar="http://127.0.0.1:8080", http=None):
    endpoint = sidecar + ENDPOINTS[service, version]
    return build(
        service,
        version,
        http=http or httplib2.Http(timeout=30),
        static_discovery=True,
        client_options={"api_endpoint": endpoint},
    )
