"""Answers that name the vendor's own hosts keep the SDK at the sidecar, however it was pointed there."""

from fault import reply

HOME = "https://messaging.twilio.com/v1/Services"


def _page(number: int, following: str | None):
    sid = f"MG0000000000000000000000000000000{number}"
    service = {"sid": sid, "url": f"{HOME}/{sid}", "links": {"us_app_to_person": f"{HOME}/{sid}/Compliance/Usa2p"}}
    meta = {
        "key": "services",
        "page": number,
        "page_size": 1,
        "url": f"{HOME}?PageSize=1&Page={number}",
        "first_page_url": f"{HOME}?PageSize=1&Page=0",
        "previous_page_url": None,
        "next_page_url": following,
    }
    return reply(200, {"meta": meta, "services": [service]})


def test_pages_by_absolute_addresses_stay_inside_with_the_plain_base_url(start_proxy, fault, twilio):
    fault.script(
        _page(0, f"{HOME}?PageSize=1&Page=1&PageToken=PA%2B1"),
        _page(1, f"{HOME}?PageSize=1&Page=2&PageToken=PA%2B2"),
        _page(2, None),
    )
    proxy = start_proxy(TWILIO_URL=fault.url)
    sids = twilio(proxy.url).list_services_by_base_url(10, 1)
    assert [sid[-1] for sid in sids] == ["0", "1", "2"]
    targets = [request.target for request in fault.requests]
    assert targets[1:] == [
        "/v1/Services?PageSize=1&Page=1&PageToken=PA%2B1",
        "/v1/Services?PageSize=1&Page=2&PageToken=PA%2B2",
    ]
