"""A small ASGI server on asyncio, standard library only. It stops on SIGTERM after the requests under way."""

import asyncio
import os
import signal
import urllib.parse

from app import app

LIMIT = 1 << 20


async def read_head(reader):
    """Request line and headers, or None at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    request, *lines = head[:-4].split(b"\r\n")
    method, target, version = request.split(b" ", 2)
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return method.decode("ascii"), target, version.decode("ascii"), headers


async def answer(writer, scope, body, close):
    """Runs the application for one request and writes its response."""
    start, chunks = {}, []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            chunks.append(message.get("body", b""))

    try:
        await app(scope, receive, send)
        status, headers = start["status"], list(start.get("headers", []))
    except Exception as error:  # one bad request must not end the server
        print(f"{scope['path']}: {error!r}", flush=True)
        status, headers, chunks = 500, [], [b"internal error\n"]
    content = b"".join(chunks)
    headers += [(b"content-length", str(len(content)).encode()), (b"connection", b"close" if close else b"keep-alive")]
    writer.write(b"HTTP/1.1 %d \r\n" % status)
    writer.writelines(b"%s: %s\r\n" % header for header in headers)
    writer.write(b"\r\n" + (b"" if scope["method"] == "HEAD" else content))
    await writer.drain()


class Server:
    """Connections, and which of them are in the middle of a request."""

    def __init__(self):
        self.stopping = asyncio.Event()
        self.idle = set()
        self.tasks = set()

    async def connection(self, reader, writer):
        """Answers the requests of one connection until either side has enough."""
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            while not self.stopping.is_set():
                self.idle.add(task)
                method, target, version, headers = await read_head(reader)
                self.idle.discard(task)
                fields = dict(headers)
                length = int(fields.get(b"content-length", 0))
                if b"transfer-encoding" in fields or not 0 <= length <= LIMIT:
                    writer.write(b"HTTP/1.1 413 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    return
                body = await reader.readexactly(length)
                path, _, query = target.partition(b"?")
                scope = {
                    "type": "http",
                    "asgi": {"version": "3.0"},
                    "http_version": version.removeprefix("HTTP/"),
                    "method": method,
                    "scheme": "http",
                    "path": urllib.parse.unquote_to_bytes(path).decode("utf-8", "replace"),
                    "raw_path": path,
                    "query_string": query,
                    "headers": headers,
                }
                close = self.stopping.is_set() or fields.get(b"connection", b"").lower() == b"close"
                await answer(writer, scope, body, close or version == "HTTP/1.0")
                if close or version == "HTTP/1.0":
                    return
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, OSError, ValueError):
            pass  # the client left, or does not speak HTTP
        finally:
            self.idle.discard(task)
            self.tasks.discard(task)
            writer.close()

    async def run(self, port):
        """Serves until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        server = await asyncio.start_server(self.connection, "127.0.0.1", port)
        print(f"instance {os.environ.get('NODE_APP_INSTANCE', '0')} listens on {port}", flush=True)
        await self.stopping.wait()
        server.close()
        for task in list(self.idle):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)
        print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(Server().run(int(os.environ.get("PORT", "3150"))))
