"""Connections of tests: made at any broker, and closed whether or not it still lives."""

import contextlib

import nats


@contextlib.asynccontextmanager
async def client_of(url, **options):
    """A client that outlives its broker, and closes without complaint where the broker is gone.

    nats-py's ``close`` sends what is pending, and raises if it can't; and it cancels its attempts to connect, which
    Python 3.11's ``wait_for`` can ignore: they would go on for ever, were a server left to try.
    """
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **options)
    try:
        yield client
    finally:
        client._server_pool.clear()
        with contextlib.suppress(ConnectionError):
            await client.close()
