"""The engine's process (`python -m lilliput.local.worker`): llama.cpp's own HTTP server on loopback, under limits.

Started by `engine` alone. One line of JSON comes in on standard input (`settings.Order`), one goes out on standard
output: `{"address": ...}` when it serves, or `{"error": ...}`. It lives as long as standard input stays open.
"""

from __future__ import annotations

import ctypes
import hashlib
import http.client
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec
import xllamacpp

from lilliput.local import gguf
from lilliput.local.settings import (
    HTTP_THREADS,
    Order,
    decode_threads,
    memory_limit,
    prompt_threads,
    stuck_limit_s,
)
from lilliput.neutral import Problem

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PROBE_EVERY_S = 5.0
STUCK = 70
LAST_TOKEN = 3  # llama.h, LLAMA_POOLING_TYPE_LAST
ORDER_LIMIT_BYTES = 1 << 16


def main() -> int:
    """Serve until standard input closes or the engine hangs; returns 1 when the weights or the engine refuse."""
    answer = os.dup(1)
    os.dup2(2, 1)
    order = msgspec.json.decode(_line(0), type=Order)
    if not _ends_with(order.parent):
        return 1
    weights = Path(order.weights)
    try:
        header = gguf.check(weights)
        adapters = [Path(adapter.path) for adapter in order.adapters]
        for path in adapters:
            gguf.check(path)
        _limit(memory_limit(order.settings, sum(path.stat().st_size for path in (weights, *adapters))))
        _match(weights, order.sha256)
        for path, adapter in zip(adapters, order.adapters, strict=True):
            _match(path, adapter.sha256)
        server = xllamacpp.Server(_params(order, header))
    except Problem as e:
        _tell(answer, {"error": e.say})
        return 1
    except (RuntimeError, ValueError, MemoryError) as e:
        sys.stderr.write(f"{e}\n")
        return 1
    address = server.listening_address
    _tell(answer, {"address": address})
    limit_s = stuck_limit_s(order.settings, weights.stat().st_size)
    while _answers(address, order.key, limit_s):
        time.sleep(PROBE_EVERY_S)
    sys.stderr.write(f"error: the engine answered nothing for {limit_s:.0f} s\n")
    sys.stderr.flush()
    os._exit(STUCK)  # to return would wait for the server's loop, which hangs


def _line(fd: int) -> bytes:
    """The first line on `fd`, read byte by byte so that nothing after it is taken."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < ORDER_LIMIT_BYTES:
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _tell(fd: int, said: dict[str, str]) -> None:
    os.write(fd, msgspec.json.encode(said) + b"\n")
    os.close(fd)


def _ends_with(parent: int) -> bool:
    """End with the parent, however it ends: by the closed pipe, and by a signal from the kernel where there is one.
    Signals to the whole group (Ctrl-C, a service manager's stop) are the parent's to answer: it may still drain.
    False when the parent is gone already."""
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_until_closed, name="parent", daemon=True).start()
    return os.getppid() == parent


def _until_closed() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _limit(memory_bytes: int) -> None:
    """Bound what is allocated. RLIMIT_DATA and not RLIMIT_AS: mapped weights must not count. No core dumps, because
    they would hold prompts."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _match(weights: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise Problem(
            "server",
            f"{weights.name} has the sha256 {found}, not the pinned {sha256}; fetch it again with `lilliput pull`",
            code="engine_unavailable",
        )


def _params(order: Order, header: gguf.Header) -> xllamacpp.CommonParams:
    """llama.cpp's settings. Off: its web pages, its network, its slot and props routes, its prompt cache in memory
    (8 GiB by default) and its guess of what fits. On: metrics, which the watch below asks for."""
    s = order.settings
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    context_tokens = min(s.context_tokens, header.context_tokens or s.context_tokens)
    p = xllamacpp.CommonParams()
    p.model.path = order.weights
    p.model_alias = {order.alias}
    p.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter.path, 1.0) for adapter in order.adapters]
    p.hostnames, p.port, p.api_keys = ["127.0.0.1"], 0, [order.key]
    p.n_threads_http = HTTP_THREADS
    p.cors_origins = ""
    p.ui = p.ui_mcp_proxy = p.endpoint_slots = p.endpoint_props = False
    p.endpoint_metrics = p.offline = True
    p.cpuparams.n_threads = decode_threads(s, cores)
    p.cpuparams_batch.n_threads = prompt_threads(s, cores)
    p.cpuparams.poll = p.cpuparams_batch.poll = 0
    p.n_parallel, p.n_ctx = s.parallel, context_tokens * s.parallel
    # Only a text whose last token stands for it can be read in several steps.
    p.n_batch = p.n_ubatch = s.batch_tokens if header.pooling in (None, LAST_TOKEN) else context_tokens
    p.cont_batching, p.kv_unified, p.cache_ram_mib, p.fit_params = True, False, 0, False
    p.embedding = True
    if header.pooling is None:
        # Of 6 paraphrases the default weights find 6 by the last token and 2 by the mean (measured 2026-11-22).
        p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    p.sampling.temp, p.sampling.top_p = s.temperature, s.top_p
    p.verbosity = 2
    return p


def _answers(address: str, key: str, limit_s: float) -> bool:
    """Whether the engine's own loop answers within `limit_s`: metrics pass through it, health does not."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=limit_s)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {key}"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


if __name__ == "__main__":
    sys.exit(main())
