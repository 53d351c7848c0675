#!/bin/sh
# Tells Heed of one click by HTTP: HEED_URL=http://127.0.0.1:8080 HEED_KEY=heed_… sh produce_curl.sh
# Heed makes the id and takes the moment of acceptance for the time. Send the same Idempotency-Key again, and the
# id is the same: the click counts once.
exec curl --silent --show-error --fail-with-body --max-time 10 "$HEED_URL/v1/events" \
    --header "Authorization: Bearer $HEED_KEY" \
    --header 'Content-Type: application/cloudevents+json' \
    --header "Idempotency-Key: ${1:-click-1}" \
    --data '{"specversion": "1.0", "source": "urn:example:produce-curl", "type": "mail.clicked",
             "subject": "contact:ada", "data": {"mailing_id": "spring-2026", "url": "https://example.org/spring"}}'
