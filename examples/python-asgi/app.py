"""An ASGI application. Any ASGI server can run it."""

import json
import os


async def app(scope, receive, send):
    """Says who answers, and how many bytes it was sent."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    answer = {
        "instance": os.environ.get("NODE_APP_INSTANCE", "0"),
        "pid": os.getpid(),
        "path": scope["path"],
        "received": size,
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode() + b"\n"})
