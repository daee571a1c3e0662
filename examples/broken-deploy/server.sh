#!/bin/sh
# A deploy that forgot a variable: without DATABASE_URL it ends at once, like many a real server.
if [ -z "${DATABASE_URL:-}" ]; then
    echo "server.sh: cannot connect to the database: DATABASE_URL is not set" >&2
    exit 1
fi
echo "instance ${NODE_APP_INSTANCE:-0} is connected"
exec sleep 2147483647
