"""Twilio's signature as Twilio's own library understands it: on every request, ours and its verdict are the same."""

import random
from hashlib import sha256
from http.client import HTTPConnection
from urllib.parse import parse_qs, parse_qsl, quote, quote_plus

import pytest
from twilio.request_validator import RequestValidator, get_signature_algorithm, logger

logger.setLevel("ERROR")  # it warns of every unknown algorithm
REQUESTS = 10_000
SECRETS = ["0123456789abcdef0123456789abcdef", "the next one"]
PUBLIC = [
    "https://my.example.com",
    "https://my.example.com:8443",
    "http://my.example.com",
    "https://my.example.com:443/base",
]

ROUTE = """
  - name: hooks-{index}
    match: {{ headers: {{ X-Case: "{index}" }} }}
    verify: {{ twilio: {{ public_url: "{url}", secrets: ["{one}", "{two}"] }} }}
    stub: {{ status: 204 }}
"""


class Form(dict):
    """A form as the web frameworks hand it to the library: names with all their values."""

    @classmethod
    def of(cls, pairs):
        form = cls()
        for name, value in pairs:
            form.setdefault(name, []).append(value)
        return form

    def getlist(self, name):
        return self[name]


class Maker:
    """Makes requests that Twilio might send, and spoils some of them."""

    ODD = ["", " ", "a", "Z", "+", "é", "日本", "~", "%", "&", "=", ";", "?", "#", "/", "\t", "0", "\U0001f600", "-"]

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def word(self, most: int = 6) -> str:
        return "".join(self.random.choice(self.ODD) for _ in range(self.random.randint(0, most)))

    def pairs(self) -> list[tuple[str, str]]:
        names = [self.word(3) for _ in range(self.random.randint(0, 4))] + ["CallSid", "Digits"]
        return [(self.random.choice(names), self.word()) for _ in range(self.random.randint(0, 8))]

    def encoded(self, pairs) -> str:
        how = self.random.choice([quote_plus, lambda text: quote(text, safe="~;/?:@$,!*()'")])
        return "&".join(f"{how(name)}={how(value)}" for name, value in pairs)

    def target(self) -> str:
        segments = [quote(self.word(), safe="+;~@!$'()*,:=&") for _ in range(self.random.randint(1, 3))]
        # The library drops an empty `;` or `?` at the end, and then refuses what it signed itself.
        path = ("/" + "/".join("x" + segment for segment in segments)).rstrip(";")
        query = self.encoded(self.pairs()) if self.random.random() < 0.6 else ""
        return f"{path}?{query}" if query else path

    def flipped(self, data: bytes) -> bytes:
        if not data:
            return b"x"
        at = self.random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :]

    def request(self) -> dict:
        """A request, signed by one of the secrets or by another, for its address with a port or without."""
        pick = self.random
        case = pick.randrange(len(PUBLIC))
        kind = pick.choice(["form", "form", "form", "json", "nothing", "websocket"])
        target, body, fields = self.target(), b"", {}
        if kind == "form":
            body = self.encoded(self.pairs()).encode()
            fields["Content-Type"] = pick.choice(
                ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=UTF-8"]
            )
        if kind == "json":
            body = ('{"a": "' + self.word() + '"}').encode()
            target += ("&" if "?" in target else "?") + "bodySHA256=" + sha256(body).hexdigest()
            fields["Content-Type"] = "application/json"
        if kind == "websocket":
            fields |= {"Connection": "Upgrade", "Upgrade": "websocket"}
        settings = pick.choice([None, None, "key=k,algorithm=HMAC_SHA256", "algorithm=HMAC_SHA1", "key=k", "algorithm=X"])
        if settings:
            fields["X-Twilio-Webhooks-Signature-Settings"] = settings
        made = {"case": case, "kind": kind, "target": target, "body": body, "fields": fields}
        made["signature"] = self.sign(made)
        self.spoil(made)
        return made

    def sign(self, made: dict) -> str:
        secret = self.random.choice([*SECRETS, *SECRETS, "another"])
        settings = made["fields"].get("X-Twilio-Webhooks-Signature-Settings")
        algorithm = get_signature_algorithm(settings)
        if algorithm == "X":
            return "eA=="
        uri, params = understood(made)
        if isinstance(params, str):
            params = {}
        if self.random.random() < 0.5:
            scheme, _, rest = uri.partition("://")
            host, _, path = rest.partition("/")
            uri = f"{scheme}://{host if ':' in host else host + ':443'}/{path}"
        return RequestValidator(secret).compute_signature(uri, params, algorithm)

    def spoil(self, made: dict) -> None:
        which = self.random.choice(["target", "body", "signature", "settings", None, None, None, None])
        if which == "body":
            made["body"] = self.flipped(made["body"])
        if which == "signature":
            changed = self.flipped(made["signature"].encode())
            if all(0x21 <= byte < 0x7F for byte in changed):
                made["signature"] = changed.decode()
        if which == "target":
            changed = self.flipped(made["target"].encode())
            plain = all(0x21 <= byte < 0x7F and byte not in b"#\"<>\\^`{|}" for byte in changed)
            if plain and changed.startswith(b"/") and not changed.endswith((b"?", b";")) and b";?" not in changed:
                made["target"] = changed.decode()
        if which == "settings":
            made["fields"]["X-Twilio-Webhooks-Signature-Settings"] = "algorithm=HMAC_SHA256"


def understood(made: dict) -> tuple[str, object]:
    """Address and parameters as an application hands them to the library."""
    uri = PUBLIC[made["case"]] + made["target"]
    if made["kind"] == "websocket":
        uri = "ws" + uri.removeprefix("http")
    query = made["target"].partition("?")[2]
    body = made["body"].decode(errors="replace")
    if "bodySHA256" in parse_qs(query):
        return uri, body
    if made["fields"].get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return uri, Form.of(parse_qsl(body, keep_blank_values=True))
    return uri, Form()


def theirs(made: dict) -> bool:
    uri, params = understood(made)
    uncovered = made["body"] and not params
    algorithm = get_signature_algorithm(made["fields"].get("X-Twilio-Webhooks-Signature-Settings"))
    found = [RequestValidator(secret).validate(uri, params, made["signature"], algorithm) for secret in SECRETS]
    return any(found) and not uncovered


@pytest.fixture
def ours(start_proxy, tmp_path):
    """Sends a request to a proxy that checks it; whether it was let through."""
    config = tmp_path / "hooks.yaml"
    routes = (ROUTE.format(index=i, url=url, one=SECRETS[0], two=SECRETS[1]) for i, url in enumerate(PUBLIC))
    config.write_text(
        'listen: [{ name: app, address: "${TRUNKLINE_LISTEN}" }]\n'
        'admin: { address: "${TRUNKLINE_ADMIN}" }\naccess_log: { format: off }\nroutes:' + "".join(routes)
    )
    proxy = start_proxy(config=config)
    connection = HTTPConnection(*proxy.address, timeout=30)

    def send(made: dict) -> bool:
        method = "GET" if made["kind"] == "websocket" else "POST"
        connection.putrequest(method, made["target"], skip_accept_encoding=True)
        fields = made["fields"] | {"X-Case": str(made["case"]), "X-Twilio-Signature": made["signature"]}
        if made["body"] or method == "POST":
            fields["Content-Length"] = str(len(made["body"]))
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders(made["body"] or None)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (204, 400) or b"bad_signature" in text, (made, answer.status, text)
        return answer.status == 204

    return send


def test_every_verdict_is_the_library_s_own(ours):
    maker = Maker(seed=20_25)
    accepted = 0
    for number in range(REQUESTS):
        made = maker.request()
        verdict = ours(made)
        assert verdict == theirs(made), (number, made)
        accepted += verdict
    assert REQUESTS // 5 < accepted < REQUESTS * 4 // 5, accepted
