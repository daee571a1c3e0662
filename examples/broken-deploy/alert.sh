#!/bin/sh
# Run by clmgr when a circuit opens. A real one would page somebody; this one writes a line.
# The whole event is on standard input as JSON.
echo "$CLMGR_EVENT $CLMGR_APP: $CLMGR_MESSAGE" >> alerts.log
