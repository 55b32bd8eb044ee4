#!/usr/bin/python3
"""An HTTP service that sorts and compresses, with the memory of a request freed after it."""
import http.server
import random
import zlib


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        values = sorted(random.random() for _ in range(10000))
        body = zlib.compress(repr(values[:2000]).encode())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
