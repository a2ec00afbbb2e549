#!/usr/bin/env python3
"""The webhook that Alertmanager calls: webhook.py TOKEN FILE appends a line to FILE for each alert that came with TOKEN."""
import http.server
import json
import sys

token, told = sys.argv[1:]


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.headers["Authorization"] == f"Bearer {token}"
        if right:
            with open(told, "a") as file:
                for alert in json.loads(body)["alerts"]:
                    print(alert["status"], alert["labels"]["alertname"], alert["labels"].get("service", ""), file=file)
        self.send_response(200 if right else 401)
        self.end_headers()


http.server.HTTPServer(("", 9099), Webhook).serve_forever()
