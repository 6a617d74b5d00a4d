"""What a run needs before it starts: the C programs built, request bodies, nginx's files, a certificate."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct

from benchmarks.measure import ANTHROPIC, OPENAI, Door
from benchmarks.processes import Failed

HERE = Path(__file__).parent
WORK = HERE / "work"
UPSTREAM_KEY = "sk-upstream"
CLIENT_KEY = "sk-bench-1"
PACE_US = 20_000


class Setting(Struct, frozen=True):
    """Where a run keeps its things and where its two upstreams listen, in the clear and behind TLS."""

    work: Path
    mock_port: int
    tls_port: int

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.mock_port}/v1"

    @property
    def anthropic_upstream(self) -> str:
        return f"http://127.0.0.1:{self.mock_port}"

    @property
    def tls_upstream(self) -> str:
        return f"https://localhost:{self.tls_port}/v1"

    @property
    def certificate(self) -> Path:
        return self.work / "tls" / "cert.pem"


def need(program: str, package: str) -> str:
    """The path of a program; raises Failed with Debian's package for it."""
    for folder in ("", "/usr/sbin", "/sbin"):
        if found := shutil.which(program, path=folder or None):
            return found
    raise Failed(f"{program!r} is not installed; on Debian: apt-get install {package}")


def build(work: Path) -> None:
    """Compiles `mock.c` and `load.c` where they are newer than their programs."""
    compiler = need("cc", "gcc libc6-dev")
    (work / "bin").mkdir(parents=True, exist_ok=True)
    for name in ("mock", "load"):
        source, program = HERE / f"{name}.c", work / "bin" / name
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            continue
        made = subprocess.run([compiler, "-O2", "-o", program, source], capture_output=True, text=True, check=False)
        if made.returncode:
            raise Failed(f"{source.name} does not compile: {made.stderr.strip()}")


SYSTEM = (
    "You answer for the staff of a small web shop. Keep it short: name the order, the customer and the next step. "
    "Where a fact is missing say that it is missing, and do not make up numbers, dates or promises. "
) * 3
QUESTION = (
    "Order 4711 was paid last week and the customer asks where it is. What do we know, what do we tell them, and what "
    "should I do next? Answer so that a new colleague could act on it, with one example of a message to the customer, "
    "in English, of no more than five sentences."
)


def bodies(model: str, dialect: str = OPENAI) -> dict[str, bytes]:
    """The requests of the benchmark under the name a gateway knows the model by; the same bytes in every run."""
    data = base64.b64encode(random.Random(4711).randbytes(374_000)).decode()
    plain: dict[str, object] = {"model": model, "temperature": 0.2, "top_p": 1, "max_tokens": 256}
    picture: dict[str, object]
    question: list[dict[str, object]] = [{"role": "user", "content": QUESTION}]
    chat: dict[str, object]
    if dialect == ANTHROPIC:
        chat = {**plain, "system": SYSTEM, "messages": question}
        stream = {**chat, "stream": True}
        picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    else:
        question = [{"role": "system", "content": SYSTEM}, *question]
        chat = {**plain, "messages": question}
        stream = {**chat, "stream": True, "stream_options": {"include_usage": True}}
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    paced = {**stream, "messages": [*question, {"role": "user", "content": f"(pace_us={PACE_US})"}]}
    long = {**plain, "messages": [{"role": ("user", "assistant")[i % 2], "content": SYSTEM} for i in range(33)]}
    seen = {**plain, "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}]}
    kinds = {"chat": chat, "stream": stream, "paced": paced, "chat20k": long, "chat500k": seen}
    return {kind: json.dumps(body, separators=(",", ":")).encode() for kind, body in kinds.items()}


def body_path(work: Path, kind: str, door: Door) -> Path:
    return work / "bodies" / f"{kind}-{door.dialect}-{re.sub(r'[^A-Za-z0-9.-]', '_', door.model)}.json"


def write_bodies(work: Path, door: Door) -> None:
    for kind, body in bodies(door.model, door.dialect).items():
        path = body_path(work, kind, door)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for localhost, good for two days, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    made = subprocess.run([need("openssl", "openssl"), "req", *kind, *name, *files], capture_output=True, check=False)
    if made.returncode:
        raise Failed(f"openssl made no certificate: {made.stderr.decode(errors='replace').strip()}")


NGINX = """\
{user}worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 16m;
  client_body_buffer_size 1m; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_authorization $known {{ default 0; "Bearer {known}" 1; }}
  upstream provider {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{listen}; tcp_nodelay on; {tls}
    location / {{
      if ($known = 0) {{ return 401; }}
      proxy_pass http://provider; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection ""; proxy_set_header Authorization "Bearer {upstream_key}";
    }}
  }}
}}
"""


def nginx_files(folder: Path, listen: str, upstream_port: int, known: str, tls: str = "") -> Path:
    """Writes the configuration of a one-worker proxy that checks a key and puts in another; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = NGINX.format(
        user="user root; " if os.geteuid() == 0 else "",  # else its workers could not write below our folders
        folder=folder,
        known=known,
        upstream_port=upstream_port,
        upstream_key=UPSTREAM_KEY,
        listen=listen,
        tls=tls,
    )
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def tls_front_command(setting: Setting) -> list[str]:
    """An nginx that ends TLS in front of the mock upstream: its cost falls on the load's core, not the gateway's."""
    folder = setting.certificate.parent
    make_certificate(folder)
    tls = f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"
    conf = nginx_files(folder / "front", f"{setting.tls_port} ssl", setting.mock_port, UPSTREAM_KEY, tls)
    return [need("nginx", "nginx-light"), "-c", str(conf)]
