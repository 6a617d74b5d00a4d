"""Our signatures against those of AWS's own library, on calls made up by a seeded dice."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from tests.conformance.need import need

from lilliput.neutral import Aws, Secret, Target
from lilliput.wire.bedrock import call as bedrock_call
from lilliput.wire.bedrock import sigv4

NOW_S = datetime(2026, 11, 22, 21, 5, 9, tzinfo=UTC).timestamp()
SEGMENTS = (
    *("model", "us.anthropic.claude-sonnet-4-6", "anthropic.claude-v2:1", "a b", "ü", "100%", ".", "..", "", "~x_-."),
    *("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "a+b", "converse-stream"),
)
HOSTS = ("bedrock-runtime.us-east-1.amazonaws.com", "127.0.0.1:9400", "localhost:443", "h:80", "Upper.example")


def _call(dice: random.Random) -> tuple[str, str, list[tuple[str, str]], bytes, Aws]:
    path = "".join("/" + quote(dice.choice(SEGMENTS), safe="-_.~") for _ in range(dice.randrange(5)))
    query = "&".join(f"{dice.choice('bca')}={quote(dice.choice(SEGMENTS), safe='')}" for _ in range(dice.randrange(4)))
    url = f"{dice.choice(['http', 'https'])}://{dice.choice(HOSTS)}{path}" + (f"?{query}" if query else "")
    headers = [("content-type", "application/json")] if dice.random() < 0.8 else []
    headers += [("X-Amz-Meta", "  two   blanks ")] if dice.random() < 0.3 else []
    session = Secret("token/+=" * 9) if dice.random() < 0.5 else None
    aws = Aws(f"AK{dice.randrange(10**6)}", Secret("s/+" * 9), dice.choice(["us-east-1", "eu-central-1"]), session)
    return dice.choice(["POST", "get"]), url, headers, dice.randbytes(dice.randrange(40)), aws


def _lib(part: str) -> Any:
    """A module of AWS's own library."""
    need(find_spec("botocore") is not None, "botocore is not installed")
    return import_module(f"botocore.{part}")


def _botocore(method: str, url: str, headers: list[tuple[str, str]], body: bytes, aws: Aws) -> str:
    request = _lib("awsrequest").AWSRequest(method=method, url=url, headers=dict(headers), data=body)
    session = aws.session.reveal() if aws.session else None
    credentials = _lib("credentials").Credentials(aws.access_key, aws.secret.reveal(), session)
    signer = _lib("auth").SigV4Auth(credentials, "bedrock", aws.region)
    request.context["timestamp"] = datetime.fromtimestamp(NOW_S, UTC).strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signer._inject_signature_to_request(request, signer.signature(signer.string_to_sign(request, canonical), request))
    return str(request.headers["Authorization"])


def test_signatures_are_those_of_botocore() -> None:
    dice = random.Random(4)
    for _ in range(500):
        method, url, headers, body, aws = _call(dice)
        ours = dict(sigv4.sign(method, url, headers, body, aws, "bedrock", NOW_S))
        assert ours["authorization"] == _botocore(method, url, headers, body, aws), (method, url, headers)
        assert ours["x-amz-date"] == "20261122T210509Z"
        assert ours.get("x-amz-security-token") == (aws.session.reveal() if aws.session else None)


def test_a_signature_that_aws_publishes() -> None:
    """The example of AWS's documentation of Signature Version 4, "GET ListUsers" at IAM."""
    aws = Aws("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), "us-east-1")
    url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"
    headers = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]
    at_s = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
    signed = dict(sigv4.sign("GET", url, headers, b"", aws, "iam", at_s))["authorization"]
    assert signed.endswith("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
    assert "SignedHeaders=content-type;host;x-amz-date," in signed


def test_only_what_no_proxy_changes_is_signed() -> None:
    aws = Aws("AK", Secret("s"), "us-east-1")
    signed = sigv4.sign("POST", "https://h/", [("User-Agent", "a"), ("Accept", "*/*")], b"", aws, "bedrock", NOW_S)
    again = sigv4.sign("POST", "https://h/", [("user-agent", "b")], b"", aws, "bedrock", NOW_S)
    assert signed == again
    host = sigv4.sign("POST", "https://h/", [("Host", "other")], b"", aws, "bedrock", NOW_S)
    assert host == sigv4.sign("POST", "https://other/", [], b"", aws, "bedrock", NOW_S)


def test_a_model_in_the_path_is_encoded_as_aws_does_it() -> None:
    serialize = _lib("serialize")
    for model in ("anthropic.claude-v2:1", SEGMENTS[10], "a b~c%"):
        ours = bedrock_call.at(Target(provider="b", model=model, base="https://h"), "converse")[0]
        assert ours == f"https://h/model/{serialize.percent_encode(model, safe='-._~')}/converse"
