"""Prints callbacks as WhatsApp writes and signs them. Called by tests/system/oracles.rs with the app secret and a JSON array of
what Meta has to say; prints `[{"body", "signature"}, …]`."""

import hashlib
import hmac
import json
import sys


def sign(secret, value):
    """The bytes as Meta writes them: compact, `\\uXXXX` for all but ASCII, a backslash before each slash."""
    contacts = [{"profile": {"name": "Zoë"}, "wa_id": "5562996991812", "user_id": "BR.1"}]
    changes = [{"value": {"messaging_product": "whatsapp", "contacts": contacts} | value, "field": "messages"}]
    update = {"object": "whatsapp_business_account", "entry": [{"id": "100000000000000", "changes": changes}]}
    body = json.dumps(update, separators=(",", ":")).replace("/", "\\/")
    digest = hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()
    return {"body": body, "signature": f"sha256={digest}"}


secret, values = sys.argv[1:]
print(json.dumps([sign(secret, value) for value in json.loads(values)]))
