"""Publications as bytes of NATS' protocol, hostile ones among them."""

import asyncio

# What nats-py 2.16 cannot parse, each of which would end an unguarded read loop: (subject, header block).
POISON = [
    (b"audio.\xff\xfe", None),
    (b"audio.x", b"\r"),
    (b"audio.x", b" "),
    (b"audio.x", b"\n"),
    (b"audio.x", b"NATS/1.0"),
    (b"audio.x", b"NATS/1.0 \xff\xff\r\n\r\n"),
    (b"audio.x", b"NATS/1.0 503 \xff\r\n\r\n"),
    (b"audio.x", b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n"),
    (b"audio.x", b"\x00" * 8),
    (b"audio.x", b"NATS/1.0\r\nno colon\r\n\r\n"),
    (b"audio.x", b"garbage\r\n\r\n"),
]


def publication(subject, block, payload):
    """PUB or HPUB, as it goes over the wire."""
    if block is None:
        return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(block), len(block) + len(payload), block, payload)


async def publish_raw(broker, publications):
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
    writer.write(b"".join(publications))
    writer.write(b"PING\r\n")
    while await reader.readline() != b"PONG\r\n":
        pass
    writer.close()
    await writer.wait_closed()
