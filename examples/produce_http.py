"""Tells Heed of one click by HTTP: HEED_URL=http://127.0.0.1:8080 HEED_KEY=heed_… python produce_http.py"""

import http.client
import json
import os
import uuid

event = {
    "specversion": "1.0",
    "id": str(uuid.uuid4()),
    "source": "urn:example:produce-http",
    "type": "mail.clicked",
    "subject": "contact:ada",
    "data": {"mailing_id": "spring-2026", "url": "https://example.org/spring"},
}
heed = http.client.HTTPConnection(os.environ["HEED_URL"].removeprefix("http://"), timeout=10)
key = "Bearer " + os.environ["HEED_KEY"]
head = {"Authorization": key, "Content-Type": "application/cloudevents+json"}
heed.request("POST", "/v1/events", json.dumps(event), head)
answer = heed.getresponse()
print(answer.status, answer.read().decode())
