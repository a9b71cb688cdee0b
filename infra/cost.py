#!/usr/bin/env python3
"""The cost table of README.md: what a million hits cost, and a month without any.

    infra/cost.py            prints the table
    infra/cost.py --check    fails when README.md has another

Prices are AWS's list prices in US dollars for us-east-1, without free tiers, as of November 2025. They change, and other
regions differ: put yours in here.
"""

import sys
from pathlib import Path

PRICE = {
    "REST API, million requests": 3.50,
    "HTTP API, million requests": 1.00,
    "Lambda, million requests": 0.20,
    "Lambda arm64, GB-second": 0.0000133334,
    "SQS standard, million requests": 0.40,
    "Firehose direct PUT, GB": 0.029,
    "CloudWatch Logs, GB": 0.50,
    "CloudWatch alarm, month": 0.10,
    "CloudWatch metric, month": 0.30,
    "CloudWatch dashboard, month": 3.00,
    "t3.small.search, hour": 0.036,
    "OpenSearch gp3, GB-month": 0.122,
    "OpenSearch Serverless OCU, hour": 0.24,
}
# What is assumed of a hit.
SECONDS = 0.020          # billed for one event, most of it waiting for the index
BATCH_SECONDS = 0.100    # billed for a batch of a hundred from a queue
BATCH = 100
GB = 128 / 1024
FUNCTION_LOG = 600       # bytes: the function's line, and Lambda's START, END and REPORT
ACCESS_LOG = 300         # bytes
FIREHOSE_RECORD = 5      # KB: what a smaller record is rounded up to
HOURS = 730


def million():
    """Dollars for a million hits, by variant."""
    gigabytes = lambda each: each * 1_000_000 / 1e9
    logs = lambda each: gigabytes(each) * PRICE["CloudWatch Logs, GB"]
    call = PRICE["Lambda, million requests"] + 1_000_000 * SECONDS * GB * PRICE["Lambda arm64, GB-second"]
    batches = 1_000_000 / BATCH
    consumer = batches / 1e6 * PRICE["Lambda, million requests"] + batches * BATCH_SECONDS * GB * PRICE["Lambda arm64, GB-second"]
    # One message in, and one receive and one delete for ten of them.
    queue = PRICE["SQS standard, million requests"] * (1 + 2 / 10)
    firehose = FIREHOSE_RECORD * 1_000_000 / 1024**2 * PRICE["Firehose direct PUT, GB"]
    return {
        "`pixel.yaml`: REST API, function, index": PRICE["REST API, million requests"] + call + logs(FUNCTION_LOG + ACCESS_LOG),
        "`rest-proxy.yaml`": PRICE["REST API, million requests"] + call + logs(FUNCTION_LOG + ACCESS_LOG),
        "`http-api.yaml`: HTTP API": PRICE["HTTP API, million requests"] + call + logs(FUNCTION_LOG + ACCESS_LOG),
        "`http-api.yaml`: function URL": call + logs(FUNCTION_LOG),
        "`http-api.yaml` with Firehose": PRICE["HTTP API, million requests"] + call + firehose + logs(FUNCTION_LOG + ACCESS_LOG),
        "`queue.yaml`: REST API, queue, batches": PRICE["REST API, million requests"] + queue + consumer + logs(ACCESS_LOG) + logs(FUNCTION_LOG) / BATCH,
    }


def idle():
    """Dollars for a month without a hit, by stack."""
    alarm, metric = PRICE["CloudWatch alarm, month"], PRICE["CloudWatch metric, month"]
    domain = HOURS * PRICE["t3.small.search, hour"] + 10 * PRICE["OpenSearch gp3, GB-month"]
    return {
        "`pixel.yaml`": 5 * alarm + 2 * metric + PRICE["CloudWatch dashboard, month"],
        "`rest-proxy.yaml`": 3 * alarm + metric,
        "`http-api.yaml`": 2 * alarm + metric,
        "`queue.yaml`": 3 * alarm,
        "`domain.yaml`, t3.small.search and 10 GB": domain + 5 * alarm,
        "`domain.yaml`, collection without a standby (1 OCU)": HOURS * PRICE["OpenSearch Serverless OCU, hour"],
        "`domain.yaml`, collection with a standby (2 OCU)": 2 * HOURS * PRICE["OpenSearch Serverless OCU, hour"],
    }


def table():
    lines = ["| a million hits | US dollars |", "|---|---|"]
    lines += [f"| {name} | {dollars:.2f} |" for name, dollars in million().items()]
    lines += ["", "| a month without a hit | US dollars |", "|---|---|"]
    lines += [f"| {name} | {dollars:.2f} |" for name, dollars in idle().items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        print(table())
    elif f"<!-- cost -->\n{table()}\n<!-- /cost -->" not in (Path(__file__).parent / "README.md").read_text(encoding="utf-8"):
        sys.exit("README.md has another table than `infra/cost.py` prints")
