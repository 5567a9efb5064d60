#!/usr/bin/env python3
"""A small Corelane client: the standard library and docs/protocol.md, nothing else.

    python3 corelane_client.py HOST:PORT

creates a topic, publishes, fetches, subscribes, commits, deletes the topic again, and prints "ok".
Batches are neither compressed nor sent again here; the page says how both are done.
"""

import socket
import struct
import sys
import time

FRAME_HEADER = struct.Struct("<IBBHQ")
HANDLE = struct.Struct("<QIHH")
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
POSITION = struct.Struct("<B7xQ")
CRC_FROM = 21
DEADLINE_MS = 10_000
DURABLE = 2
FIRST, COMMITTED = 0, 5

HELLO, PING, METADATA, CREATE_TOPIC, DELETE_TOPIC = 0x02, 0x04, 0x10, 0x12, 0x16
INIT_PRODUCER, PRODUCE, FETCH, SUBSCRIBE, CREDIT = 0x20, 0x22, 0x30, 0x34, 0x36
UNSUBSCRIBE, DELIVER, COMMIT_OFFSET, GO_AWAY, ERROR = 0x38, 0x3B, 0x40, 0x7D, 0x7F
OFFSET, COMMITTED_OFFSET = 0x33, 0x42


class CorelaneError(Exception):
    """The server refused a request."""

    def __init__(self, code, retryable, message):
        super().__init__(f"error {code}: {message}")
        self.code, self.retryable = code, retryable


# --- Shapes -------------------------------------------------------------------------------------


def string(text):
    data = text.encode()
    return struct.pack("<H", len(data)) + data


class Reader:
    """Takes the fields of a body from its front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        end = self.at + count
        if end > len(self.data):
            raise ValueError("the body ends early")
        self.at, piece = end, self.data[self.at : end]
        return piece

    def unpack(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def string(self):
        (length,) = self.unpack("H")
        return self.take(length).decode()

    def list(self, element):
        (count,) = self.unpack("I")
        return [element() for _ in range(count)]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def topic(self):
        number, _version, _ms, _bytes, _present, _ack, _zero = self.unpack("QIQQBBH")
        name = self.string()
        places = self.list(lambda: self.unpack("IHH"))
        handles = [HANDLE.pack(number, stream, shard, 0) for stream, shard, _ in places]
        return {"name": name, "handles": handles}


# --- Record batches -----------------------------------------------------------------------------


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(value):
    value = value * 2 if value >= 0 else -value * 2 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def sized(data):
    return varint(-1) if data is None else varint(len(data)) + data


def read_sized(data, at):
    length, at = read_varint(data, at)
    return (None, at) if length < 0 else (data[at : at + length], at + length)


def make_batch(records, producer=(-1, -1, -1)):
    """One batch of (key, value) pairs; `producer` is id, epoch and the first record's sequence."""
    now = int(time.time() * 1000)
    section = bytearray()
    for index, (key, value) in enumerate(records):
        body = b"\0" + varint(0) + varint(index) + sized(key) + sized(value) + varint(0)
        section += varint(len(body)) + body
    length = BATCH_HEADER.size - 12 + len(section)
    last = len(records) - 1
    fields = (0, last, now, now, *producer, len(records))
    unsigned = BATCH_HEADER.pack(0, length, -1, 2, 0, *fields) + section
    crc = crc32c(unsigned[CRC_FROM:])
    return BATCH_HEADER.pack(0, length, -1, 2, crc, *fields) + section


def read_batches(data, position):
    """The records of some batches from offset `position` on, as (offset, key, value)."""
    at = 0
    while at < len(data):
        (base, length, _epoch, magic, crc, attributes, *_, count) = BATCH_HEADER.unpack_from(data, at)
        batch = data[at : at + 12 + length]
        if magic != 2 or crc32c(batch[CRC_FROM:]) != crc:
            raise ValueError("a batch is damaged")
        if attributes & 7:
            raise ValueError("a batch is compressed")
        inside = BATCH_HEADER.size
        for _ in range(count):
            size, inside = read_varint(batch, inside)
            end = inside + size
            _time, inside = read_varint(batch, inside + 1)
            delta, inside = read_varint(batch, inside)
            key, inside = read_sized(batch, inside)
            value, inside = read_sized(batch, inside)
            if base + delta >= position:
                yield base + delta, key, value
            inside = end
        at += 12 + length


# --- The client ---------------------------------------------------------------------------------


def refusal(body):
    reader = Reader(body)
    code, retryable, _zero = reader.unpack("HBB")
    return CorelaneError(code, bool(retryable), reader.string())


class Client:
    """One connection, one request at a time; deliveries that come between are kept."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=30)
        self.correlation = 0
        self.deliveries = []
        body = struct.pack("<BBHQ", 1, 1, 0, 0) + string("corelane_client.py") + string("")
        self.hello = self.call(HELLO, body + struct.pack("<I", 0), deadline=False)

    def close(self):
        self.socket.close()

    def send(self, kind, body, deadline=True):
        self.correlation += 1
        if deadline:
            body = struct.pack("<I", DEADLINE_MS) + body
        length = FRAME_HEADER.size + len(body)
        self.socket.sendall(FRAME_HEADER.pack(length, 1, 0, kind, self.correlation) + body)
        return self.correlation

    def receive(self):
        length, version, flags, kind, correlation = FRAME_HEADER.unpack(self.exactly(16))
        if version != 1 or flags != 0:
            raise ValueError("not a frame of version 1")
        return kind, correlation, self.exactly(length - 16)

    def exactly(self, count):
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
        return bytes(data)

    def call(self, kind, body=b"", deadline=True):
        """Sends a request; returns a reader of its reply's body."""
        sent = self.send(kind, body, deadline)
        while True:
            got, correlation, reply = self.receive()
            if got == DELIVER:
                self.deliveries.append(reply)
            elif got == GO_AWAY:
                raise ConnectionError("the server is stopping")
            elif got == ERROR and correlation in (sent, 0):
                raise refusal(reply)
            elif correlation == sent:
                return Reader(reply)
            # Else the end of a subscription: an error with the correlation of its request.

    def create_topic(self, name, partitions=1):
        settings = struct.pack("<IQQBBH", partitions, 0, 0, 0, DURABLE, 0)
        return self.call(CREATE_TOPIC, settings + string(name)).topic()

    def delete_topic(self, name):
        self.call(DELETE_TOPIC, string(name))

    def topic(self, name):
        """A topic's name and the handles of its partitions; None when there is none."""
        body = struct.pack("<II", 1, 1) + string(name) + string("")
        reply = self.call(METADATA, body)
        reply.unpack("BHB")

        def core():
            number, port = reply.unpack("HH")
            return number, port, reply.string(), reply.list(lambda: reply.unpack("H"))

        reply.list(core)
        topics = reply.list(reply.topic)
        return topics[0] if topics else None

    def init_producer(self):
        number, epoch = self.call(INIT_PRODUCER).unpack("qh")
        return number, epoch

    def produce(self, handle, records, producer=(-1, -1, -1)):
        """Publishes one batch, durably. Returns the offset of its first record."""
        head = handle + struct.pack("<BBHI", DURABLE, 0, 0, 1)
        reply = self.call(PRODUCE, head + make_batch(records, producer))
        _count, _level, _zero, _zero2, offset = reply.unpack("IBBHQ")
        return offset

    def fetch(self, handle, offset, max_wait_ms=500):
        """Records from `offset` on, and the offset to go on with."""
        body = handle + struct.pack("<QIII", offset, 1, 1 << 20, max_wait_ms)
        reply = self.call(FETCH, body)
        _zero, _count, _first, following, _high, _start = reply.unpack("IIQQQQ")
        return list(read_batches(reply.rest(), offset)), following

    def subscribe(self, handle, subscription, position=FIRST, credit=1 << 20, consumer=""):
        """Returns the offset at which it begins."""
        body = handle + struct.pack("<I", subscription) + POSITION.pack(position, 0)
        body += struct.pack("<Q", credit) + string(consumer)
        _subscription, _zero, offset = self.call(SUBSCRIBE, body).unpack("IIQ")
        return offset

    def deliver(self, position):
        """The records of the next delivery from `position` on, and where it ends. Gives the credit
        back."""
        while not self.deliveries:
            kind, _correlation, body = self.receive()
            if kind == ERROR:
                raise refusal(body)
            if kind == DELIVER:
                self.deliveries.append(body)
        reader = Reader(self.deliveries.pop(0))
        subscription, _count, _first, following, _high = reader.unpack("IIQQQ")
        batches = reader.rest()
        self.send(CREDIT, struct.pack("<IQ", subscription, len(batches)))
        return list(read_batches(batches, position)), following

    def unsubscribe(self, subscription):
        self.call(UNSUBSCRIBE, struct.pack("<I", subscription))
        self.deliveries.clear()

    def commit(self, handle, consumer, offset):
        body = handle + struct.pack("<QB3x", offset, DURABLE) + string(consumer)
        self.call(COMMIT_OFFSET, body)

    def committed(self, handle, consumer):
        return self.call(COMMITTED_OFFSET, handle + string(consumer)).unpack("Q")[0]


def round_trip(address):
    assert crc32c(b"123456789") == 0xE3069283
    client = Client(address)
    name = f"python-example-{time.time_ns()}"
    created = client.create_topic(name, partitions=2)
    assert client.topic(name) == created
    assert client.topic(name + "-missing") is None
    handle = created["handles"][1]

    # A number for each record: the repeat of a batch is acknowledged where the first was stored.
    number, epoch = client.init_producer()
    first = [(b"key", b"one"), (None, b"two")]
    assert client.produce(handle, first, (number, epoch, 0)) == 0
    assert client.produce(handle, first, (number, epoch, 0)) == 0
    assert client.produce(handle, [(None, b"three")], (number, epoch, 2)) == 2
    expected = [(0, b"key", b"one"), (1, None, b"two"), (2, None, b"three")]

    records, offset = client.fetch(handle, 1)
    while offset < 3:
        more, offset = client.fetch(handle, offset)
        records += more
    assert records == expected[1:], records
    assert client.fetch(handle, 3, max_wait_ms=1) == ([], 3)

    position = client.subscribe(handle, subscription=7)
    assert position == 0
    records = []
    while position < 3:
        more, position = client.deliver(position)
        records += more
    assert records == expected, records
    client.unsubscribe(7)

    client.commit(handle, "python", 2)
    assert client.committed(handle, "python") == 2
    assert client.subscribe(handle, subscription=8, position=COMMITTED, consumer="python") == 2

    try:
        client.fetch(handle, 100)
        raise AssertionError("an offset past the end was not refused")
    except CorelaneError as error:
        assert error.code == 13 and not error.retryable, error
    client.delete_topic(name)
    client.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: corelane_client.py HOST:PORT")
    round_trip(sys.argv[1])
    print("ok")
