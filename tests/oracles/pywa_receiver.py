"""A receiver of WhatsApp's callbacks on a free port of 127.0.0.1, which is the first line printed; then a line of JSON for each
callback: whether pywa finds it signed with the app secret given as argument, whether it finds so with a byte changed, and what
it reads in it. Started by tests/system/oracles.rs; ends when its standard input does."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pywa import WhatsApp
from pywa.utils import webhook_updates_validator

APP_SECRET = sys.argv[1]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        print(json.dumps(judge(body, self.headers["x-hub-signature-256"])), flush=True)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def judge(body, signature):
    changed = [(body[:-1] + b" ", signature), (body, signature[:-1] + ("1" if signature[-1] == "0" else "0"))]
    return {
        "ascii": body.isascii(),
        "signed": webhook_updates_validator(APP_SECRET, body, signature),
        "signed_if_changed": any(webhook_updates_validator(APP_SECRET, *each) for each in changed),
        "read": read(body),
    }


def read(body):
    """What pywa's handlers get: nothing if it finds the shape wrong, and standard error says why."""
    found = []
    client = WhatsApp(token="none: nobody is called")
    client.on_message(lambda _, it: found.append(of_message(it)))
    client.on_message_status(lambda _, it: found.append(of_status(it)))
    client.webhook_update_handler(body)
    return found


def of_message(it):
    found = {"message": it.id, "from": it.from_user.wa_id, "to": it.metadata.phone_number_id, "text": it.text}
    return found | {"reply_to": it.reply_to_message and it.reply_to_message.id}


def of_status(it):
    found = {"status": it.status.value, "of": it.id, "from": it.metadata.phone_number_id, "tracker": it.tracker}
    return found | {"code": it.error and it.error.code}


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.buffer.read()
