#!/bin/sh
# Prints a line every PERIOD seconds. clmgr tells each instance its number in NODE_APP_INSTANCE.
instance=${NODE_APP_INSTANCE:-0}
period=${PERIOD:-1}
ticks=0
trap 'echo "instance $instance: stopping after $ticks ticks"; exit 0' TERM
while :; do
    ticks=$((ticks + 1))
    echo "instance $instance: tick $ticks"
    sleep "$period" &
    wait "$!" # unlike a plain sleep, it lets the trap run at once
done
