"""The external metrics API with one number: what a Prometheus adapter would answer. Standard library only."""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GROUP_VERSION = "external.metrics.k8s.io/v1beta1"
ROOT = f"/apis/{GROUP_VERSION}"


def answer(path: str) -> dict[str, object] | None:
    """The discovery document, an empty OpenAPI document, the metric under whatever name, or None."""
    if path == "/openapi/v2":
        return {"swagger": "2.0", "info": {"title": "metrics-stub", "version": "1"}, "paths": {}}
    if path == "/openapi/v3":
        return {"paths": {}}
    if path == ROOT:
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": []}
    if not path.startswith(f"{ROOT}/namespaces/"):
        return None
    name = path.rsplit("/", 1)[1]
    value = {
        "metricName": name,
        "metricLabels": {},
        "timestamp": "2026-01-01T00:00:00Z",
        "value": sys.argv[1],
    }
    return {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": [value]}


class Metrics(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = answer(self.path.split("?")[0])
        text = json.dumps(found or {}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main() -> None:
    """Arguments: value, port on loopback, certificate file, key file."""
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Metrics)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    # The handshake belongs to the thread of the request: one slow connection must not hold up the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
