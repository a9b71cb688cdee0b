"""Signs requests again, independently of the program, and prints what the signatures should be.

Reads a list of requests as JSON from standard input and prints a list of the headers they should have. A request without
`canonical` is signed by botocore, as the AWS command line signs. A request with `canonical`, which are the first three
lines of a canonical request as AWS has published them, is signed here, by the steps of Signature Version 4 in the AWS
General Reference.
"""

import hashlib
import hmac
import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def main():
    requests = json.load(sys.stdin)
    json.dump([by_steps(it) if it.get("canonical") else by_botocore(it) for it in requests], sys.stdout)


def by_botocore(it):
    credentials = Credentials(it["key"], it["secret"], it.get("token"))
    signer = SigV4Auth(credentials, it["service"], it["region"])
    body = it["body"].encode()
    headers = {"Host": it["host"], "Content-Type": it["content_type"]}
    if it.get("target"):
        headers["X-Amz-Target"] = it["target"]
    request = AWSRequest(method=it["method"], url=it["url"], headers=headers, data=body)
    request.headers["X-Amz-Content-SHA256"] = signer.payload(request)
    request.headers["X-Amz-Date"] = it["date"]
    if it.get("token"):
        request.headers["X-Amz-Security-Token"] = it["token"]
    # What `add_auth` does, at the time of the request instead of now.
    request.context["timestamp"] = it["date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return {name: request.headers[name] for name in ("authorization", "x-amz-content-sha256")}


def by_steps(it):
    signed = {"host": it["host"], "x-amz-date": it["date"]}
    payload = hashlib.sha256(it["body"].encode()).hexdigest()
    if it.get("content_type"):
        signed |= {"content-type": it["content_type"], "x-amz-content-sha256": payload}
    if it.get("token"):
        signed["x-amz-security-token"] = it["token"]
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    canonical = "\n".join([*it["canonical"], *lines, "", names, payload])

    scope = [it["date"][:8], it["region"], it["service"], "aws4_request"]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", it["date"], "/".join(scope), digest])
    key = b"AWS4" + it["secret"].encode()
    for part in [*scope, text]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = "/".join([it["key"], *scope])
    return {"authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"}


main()
