#!/bin/sh
# Submits a request with kcat and prints the reply: request-reply over Kafka alone.
# The reply topic has to exist, and its name has to begin with <prefix>replies.: consuma topics replies kcat
set -eu

kafka=${CONSUMA_KAFKA:-127.0.0.1:9092}
prefix=${CONSUMA_TOPIC_PREFIX:-consuma.}
reply_topic=${REPLY_TOPIC:-${prefix}replies.kcat}
correlation_id=kcat-$$-$(date +%s)

if ! kcat -L -b "$kafka" -t "$reply_topic" | grep -q ' with [1-9][0-9]* partition'; then
  echo "there is no topic $reply_topic: create it (consuma topics replies kcat), or name another in REPLY_TOPIC" >&2
  exit 1
fi

# Only what is written from now on can be the answer.
start=$(date +%s)000

printf '%s' '{"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 1000}}' |
  kcat -P -b "$kafka" -t "${prefix}requests.sync" -X acks=all \
    -H ce_specversion=1.0 \
    -H ce_type=consuma.request.submitted.v1 \
    -H ce_source=kcat-example \
    -H "ce_id=$correlation_id" \
    -H content-type=application/json \
    -H "reply-topic=$reply_topic" \
    -H "correlation-id=$correlation_id"

# Headers, a tab, the value: the line with our correlation id is the answer. kcat ends at the topic's end (-e),
# so it is asked again until the answer is there, for at most a minute.
tries=0
while [ "$tries" -lt 120 ]; do
  answer=$(kcat -C -b "$kafka" -t "$reply_topic" -o "s@$start" -e -q -X isolation.level=read_committed \
    -f '%h\t%s\n' | grep -F "correlation-id=$correlation_id" | cut -f 2 || true)
  if [ -n "$answer" ]; then
    printf '%s\n' "$answer"
    exit 0
  fi
  tries=$((tries + 1))
  sleep 0.5
done
echo "no reply within a minute: is a compute service running?" >&2
exit 1
