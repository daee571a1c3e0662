#!/bin/sh
# Says the message of its environment now, then every ten seconds.
message=${MESSAGE:-"nothing to say: MESSAGE is not set"}
while :; do
    echo "hello.sh: $message"
    sleep 10
done
