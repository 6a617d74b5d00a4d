"""Stands in for the worker with its HTTP: a tokenizer of one token a character, and completions that do as the prompt
says: crash, fail, garble, hold (until the caller leaves), part (answers, then closes the connection). Of a label's
codes the first gets 0.7. Lines of what happened go to GGML_FAKE_STARTS."""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def note(what: str) -> None:
    with open(os.environ["GGML_FAKE_STARTS"], "a") as lines:
        lines.write(what + "\n")


def completion(body: dict[str, Any]) -> dict[str, Any]:
    biases = body.get("logit_bias", [])
    share = 0.3 / max(1, len(biases) - 1)
    top = [{"id": token, "prob": 0.7 if i == 0 else share} for i, (token, _) in enumerate(biases)]
    words = [{"token": " fine", "logprob": -0.5}, {"token": " day", "logprob": -0.1}]
    return {
        "content": " fine day",
        "completion_probabilities": [{"token": "x", "prob": 0.7, "top_probs": top}] if top else words,
        "tokens_evaluated": len(body["prompt"]),
        "tokens_predicted": 1,
        "stop_type": "limit" if top or "endless" in body["prompt"] else "eos",
    }


class Does(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body.get("prompt", "")
        if self.path == "/tokenize":
            answer: dict[str, Any] = {"tokens": [ord(c) for c in body["content"].strip()]}
        elif self.path == "/detokenize":
            answer = {"content": "".join(map(chr, body["tokens"]))}
        else:
            note(f"read {prompt!r}")
            answer = completion(body)
        if "crash" in prompt:
            os._exit(9)
        if "hold" in prompt:
            self.connection.recv(1)
            note("left")
            return
        raw = b"no json" if "garble" in prompt else json.dumps(answer).encode()
        self.send_response(500 if "fail" in prompt else 200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        self.close_connection = "part" in prompt

    def log_message(self, format: str, *args: object) -> None:
        return


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    note(f"start {len(order['adapters'])}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Does)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"address": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
