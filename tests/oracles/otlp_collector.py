"""A collector of traces on a free port of 127.0.0.1, which is the first line printed; then a line of JSON for each span, as the
types that OpenTelemetry itself publishes read it. Refuses what is no OTLP over HTTP. `POST /end` prints the line "end". Started by
tests/system/traces.rs; ends when its standard input does."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

printing = threading.Lock()


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/end":
            return self.answer(200, b"", ['"end"'])
        if self.path != "/v1/traces" or self.headers["content-type"] != "application/x-protobuf":
            return self.answer(404, b"", [json.dumps({"refused": self.path})])
        request = ExportTraceServiceRequest.FromString(body)
        known = request.SerializeToString(deterministic=True)
        request.DiscardUnknownFields()
        if request.SerializeToString(deterministic=True) != known:
            return self.answer(400, b"", [json.dumps({"refused": "unknown fields"})])
        self.answer(200, ExportTraceServiceResponse().SerializeToString(), map(json.dumps, self.spans(request)))

    def spans(self, request):
        for of_resource in request.resource_spans:
            resource = attributes(of_resource.resource)
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    yield {
                        "authorization": self.headers["authorization"],
                        "service": resource["service.name"],
                        "version": resource["service.version"],
                        "instance": resource["service.instance.id"],
                        "scope": of_scope.scope.name,
                        "name": span.name,
                        "kind": Span.SpanKind.Name(span.kind),
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "sampled": span.flags & 1 == 1,
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "status": Status.StatusCode.Name(span.status.code),
                        "failure": span.status.message,
                        "attributes": attributes(span),
                    }

    def answer(self, status, body, lines):
        with printing:
            for line in lines:
                print(line, flush=True)
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def attributes(of):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.buffer.read()
