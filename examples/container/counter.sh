#!/bin/sh
# Counts aloud until it is asked to stop.
trap 'echo "instance $NODE_APP_INSTANCE stops at $n"; exit 0' TERM
n=0
while :; do
    n=$((n + 1))
    echo "instance $NODE_APP_INSTANCE: $n"
    sleep 1
done
