"""What a chunk of a stream costs between two dialects, in process and without a network: reader, then writer.

The chunks are the mock's own. What takes the JSON apart is timed by itself too, since it must be paid for whatever is
done with a chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.measure import ANTHROPIC, OPENAI, Door
from benchmarks.prepare import Setting, body_path, write_bodies
from benchmarks.processes import LOAD_CORE, running, wait_for_port
from benchmarks.report import Check, cell
from benchmarks.run import ask
from lilliput.neutral import Request
from lilliput.wire import dialects
from lilliput.wire.anthropic import answer as anthropic_answer
from lilliput.wire.openai import chunk as openai_chunk

STREAMS = 50
MOST_US = 1.5
DECODERS: dict[str, Callable[[bytes], object]] = {
    OPENAI: msgspec.json.Decoder(openai_chunk.Answer).decode,
    ANTHROPIC: msgspec.json.Decoder(anthropic_answer._Event).decode,
}
"""What each reader takes a chunk's JSON apart with."""


def compare(setting: Setting, rounds: int) -> list[Check]:
    """Both directions; in each round the median of `STREAMS` streams."""
    with ExitStack() as stack:
        log = setting.work / "logs" / "mock.log"
        mock = stack.enter_context(running([setting.work / "bin/mock", str(setting.mock_port)], log, core=LOAD_CORE))
        wait_for_port(setting.mock_port, mock, log)
        doors = [Door(port=setting.mock_port, dialect=dialect) for dialect in (OPENAI, ANTHROPIC)]
        streams = {}
        for door in doors:
            write_bodies(setting.work, door)
            streams[door.dialect] = ask(door, body_path(setting.work, "stream", door).read_bytes())[1]
    pairs = ((ANTHROPIC, OPENAI), (OPENAI, ANTHROPIC))
    return [check(provider, client, streams[provider], rounds) for provider, client in pairs]


def check(provider: str, client: str, stream: bytes, rounds: int) -> Check:
    whole = [median(chunk_us(provider, client, stream) for _ in range(STREAMS)) for _ in range(rounds)]
    decoding = [median(decode_us(provider, stream) for _ in range(STREAMS)) for _ in range(rounds)]
    alone = figure(a - b for a, b in zip(whole, decoding, strict=True)) or Figure(0, 0, 0, 0)
    met = alone.median <= MOST_US
    said = f"{cell(alone, spread=True)} us; with JSON decoding {cell(figure(whole))} us"
    return Check(f"a chunk from {provider} to {client}", said, f"<= {MOST_US} us", met)


def events(stream: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in stream.split(b"\n\n") if event]


def chunk_us(provider: str, client: str, stream: bytes) -> float:
    """CPU time of reader and writer for each text of one stream; how it begins and ends is not timed."""
    read = dialects.provider(provider).reader(True)
    write = dialects.client(client).writer(Request(model="m", messages=(), include_usage=True), "id", 0)

    def relay(pieces: list[bytes]) -> bytes:
        out = b""
        for piece in pieces:
            for e in read(piece):
                out += write(e)
        return out

    pieces = events(stream)
    texts = [i for i, piece in enumerate(pieces) if b"@" in piece]
    first, last = texts[1], texts[-1]  # the first text opens a block or says a role
    relay(pieces[:first])
    return timed_us(lambda: relay(pieces[first:last]), last - first)


def decode_us(provider: str, stream: bytes) -> float:
    decode = DECODERS[provider]
    texts = [piece.partition(b"data: ")[2] for piece in events(stream) if b"@" in piece]
    return timed_us(lambda: [decode(text) for text in texts], len(texts))


def timed_us(work: Callable[[], object], count: int) -> float:
    begun = time.process_time_ns()
    work()
    return (time.process_time_ns() - begun) / 1e3 / count
