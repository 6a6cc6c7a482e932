"""A handler that takes what is signed with the secret it is given, as Port's documentation has receivers verify it: x-port-signature
is "v1," and base64 of the HMAC-SHA256 of x-port-timestamp, a dot and the body. It ends with its standard input."""

import base64
import hashlib
import hmac
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.fsencode(sys.argv[1])


def is_signed(headers, body):
    timestamp = headers.get("x-port-timestamp", "")
    version, _, signature = headers.get("x-port-signature", "").partition(",")
    if version != "v1" or not timestamp.isdigit() or abs(time.time() - int(timestamp)) > 300:
        return False
    expected = hmac.new(SECRET, f"{timestamp}.".encode() + body, hashlib.sha256).digest()
    return hmac.compare_digest(signature, base64.b64encode(expected).decode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204 if is_signed(self.headers, body) else 400)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def end():
    sys.stdin.read()
    os._exit(0)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=end, daemon=True).start()
print(server.server_address[1], flush=True)
server.serve_forever()
