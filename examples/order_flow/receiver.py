"""A receiver of webhooks, as it stands in another house: it knows the secret, and nothing else of ours."""

import base64
import hashlib
import hmac
import json
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock


class Receiver(ThreadingHTTPServer):
    """Prints what it is told, each event once. `secret` is to be set before it serves."""

    daemon_threads = True
    secret = ""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self._lock = Lock()
        self._seen = set[str]()  # a real one keeps them in a table, and does its work in the same transaction

    def hear(self, headers: Message, body: bytes) -> int:
        """Take one post; the status to answer."""
        if not is_signed(headers, body, self.secret):
            return 401
        with self._lock:
            if headers["webhook-id"] not in self._seen:  # else its answer was lost, and it is told once more
                self._seen.add(headers["webhook-id"])
                data = json.loads(body)["data"]
                print(f"{data['type']}  {data['job_id']}", flush=True)
        return 204


class Handler(BaseHTTPRequestHandler):
    """Answers one post."""

    server: Receiver

    def do_POST(self) -> None:
        """Hear it."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.server.hear(self.headers, body))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """No line for each request."""


def is_signed(headers: Message, body: bytes, secret: str) -> bool:
    """Whether who has posted it has the secret, too. The libraries of Standard Webhooks look at the time as well."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    ours = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(ours, theirs) for theirs in headers.get("webhook-signature", "").split())
