import base64
import hashlib
import hmac
import time


def is_ours(secret: str, fields, body: bytes) -> bool:
    """Whether Trunkline sent this, in the last five minutes. `fields` are the request's header fields."""
    message, at = fields["webhook-id"], fields["webhook-timestamp"]
    signed = f"{message}.{at}.".encode() + body
    mark = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    given = [signature.partition(",")[2] for signature in fields["webhook-signature"].split()]
    fits = any(hmac.compare_digest(mark, one) for one in given)
    return fits and abs(time.time() - int(at)) < 300
