"""Answers GET /DELAY/ID with "ID PID" on the listener it inherits. On SIGTERM it accepts nothing more, answers with
Connection: close, and ends when its connections have, or have been idle for a while."""
import asyncio, os, signal, socket, sys

GRACE = 2
held = os.open(os.path.join(sys.argv[1], "held", f"{os.environ['CLMGR_APP']}.{os.getpid()}"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
closing = False
open_connections = 0


async def answer(reader, writer):
    global open_connections
    port = writer.get_extra_info("peername")[1]
    os.write(held, b"+%d\n" % port)
    open_connections += 1
    try:
        close = False
        while not close:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *headers = head.decode().split("\r\n")
            _, delay, number = first.split(" ")[1].split("/")
            close = any(line.lower() == "connection: close" for line in headers)
            if delay != "0":
                await asyncio.sleep(int(delay) / 1000)
            close = close or closing
            body = f"{number} {os.getpid()}\n"
            connection = "close" if close else "keep-alive"
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n{body}".encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        os.write(held, b"-%d\n" % port)
        open_connections -= 1


async def main():
    global closing
    assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
    server = await asyncio.start_server(answer, sock=socket.socket(fileno=3))
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    os.write(4, b"1")
    await end.wait()
    closing = True
    server.close()
    # What was accepted a moment ago has no task yet.
    await asyncio.sleep(0.05)
    for _ in range(GRACE * 100):
        if not open_connections:
            break
        await asyncio.sleep(0.01)


asyncio.run(main())
