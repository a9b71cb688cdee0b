#!/usr/bin/env python3
"""The cost tables of README.md: what a million hits cost, and a month without any.

    infra/cost.py            prints the tables
    infra/cost.py --check    fails when README.md has others

List prices in US dollars for us-east-1, without free tiers and volume discounts. They change, and other regions differ: put
yours in here. How many alarms a stack has is counted in its template.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent

# Dollars, when that was said, and where. What nobody with a date could be found for names the page to compare it with.
PRICE = {
    "REST API, million requests": (3.50, "2026", "go-cloud.io/aws-api-gateway-pricing"),
    "HTTP API, million requests": (1.00, "2026", "go-cloud.io/aws-api-gateway-pricing"),
    "Data out, GB": (0.09, "2025-05", "awsforengineers.com/blog/aws-api-gateway-pricing-explained"),
    "Lambda, million requests": (0.20, "2024", "cloudchipr.com/blog/aws-lambda-pricing"),
    "Lambda arm64, GB-second": (0.0000133334, "2024", "cloudchipr.com/blog/aws-lambda-pricing"),
    "SQS standard, million requests": (0.40, "2026-06", "factualminds.com/blog/amazon-sqs-pricing-64kb-rule-fifo-vs-standard"),
    "Firehose direct PUT, GB": (0.029, None, "aws.amazon.com/firehose/pricing"),
    "CloudWatch Logs, GB": (0.50, "2026-06", "factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards"),
    "CloudWatch metric, month": (0.30, "2026-02", "signoz.io/guides/cloudwatch-pricing"),
    "CloudWatch alarm, month": (0.10, "2026-11", "c3x.dev/resources/aws/aws_cloudwatch_metric_alarm"),
    "CloudWatch dashboard, month": (3.00, "2026-06", "factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards"),
    "Secrets Manager secret, month": (0.40, "2026-11", "hivebook.wiki/wiki/aws-secrets-manager-rotated-secrets-dynamic-db-credentials-kms"),
    "t3.small.search, hour": (0.036, None, "aws.amazon.com/opensearch-service/pricing"),
    "OpenSearch gp3, GB-month": (0.122, None, "aws.amazon.com/opensearch-service/pricing"),
    "OpenSearch Serverless OCU, hour": (0.24, "2026-02", "awsnegotiations.com/opensearch-serverless-cost"),
}
# What is assumed of a hit.
SECONDS = 0.020          # billed for one event, most of it waiting for the index
QUEUE_SECONDS = 0.010    # the same for a queue or a stream, which answer sooner
BATCH_SECONDS = 0.100    # billed for a batch
BATCH = 100              # events of a batch; busier queues make larger ones
GB = 128 / 1024
FUNCTION_LOG = 850       # bytes: the function's line, its counts, and Lambda's START, END and REPORT
ACCESS_LOG = 300         # bytes
EVENT = 2000             # bytes of an event, which `Journal=log` logs
ANSWER = 700             # bytes that leave AWS: the image and its headers
FIREHOSE_RECORD = 5      # KB: what a smaller record is rounded up to
HOURS = 730
# Lambda asks an idle queue with five long polls of 20 s at a time.
IDLE_POLLS = 5 * HOURS * 3600 / 20
# Counts that have a value in every busy hour: Indexed and Ignored, or Queued and Ignored and the second function's Indexed.
METRICS = {"direct": 2, "queue": 3}


def price(name):
    return PRICE[name][0]


def of_gigabytes(each, name):
    """Dollars for a million of so many bytes each."""
    return each * 1_000_000 / 1e9 * price(name)


def million():
    """Dollars for a million hits, by variant."""
    logs = lambda each: of_gigabytes(each, "CloudWatch Logs, GB")
    compute = lambda calls, seconds: calls / 1e6 * price("Lambda, million requests") + calls * seconds * GB * price("Lambda arm64, GB-second")
    rest = price("REST API, million requests") + logs(ACCESS_LOG) + of_gigabytes(ANSWER, "Data out, GB")
    http = price("HTTP API, million requests") + logs(ACCESS_LOG) + of_gigabytes(ANSWER, "Data out, GB")
    call = compute(1_000_000, SECONDS) + logs(FUNCTION_LOG)
    quick = compute(1_000_000, QUEUE_SECONDS) + logs(FUNCTION_LOG)
    # One message in, and one receive and one delete for ten of them.
    queue = price("SQS standard, million requests") * (1 + 2 / 10)
    batches = compute(1_000_000 / BATCH, BATCH_SECONDS) + logs(FUNCTION_LOG) / BATCH
    firehose = FIREHOSE_RECORD * 1_000_000 / 1024**2 * price("Firehose direct PUT, GB")
    return {
        "`pixel.yaml`, direct: REST API, function, index": rest + call,
        "`pixel.yaml`, `Delivery=queue`: REST API, function, queue, batches": rest + quick + queue + batches,
        "`Journal=log` besides": logs(EVENT),
        "`rest-proxy.yaml`": rest + call,
        "`http-api.yaml`: HTTP API": http + call,
        "`http-api.yaml`: function URL": call + of_gigabytes(ANSWER, "Data out, GB"),
        "`http-api.yaml` with Firehose": http + quick + firehose,
        "`queue.yaml`: REST API, queue, batches": rest + queue + batches,
    }


def alarms(template, *conditions):
    """How many alarms a template makes, those of its conditions included that are named."""
    text = (HERE / template).read_text(encoding="utf-8")
    found = re.findall(r"\n    Type: AWS::CloudWatch::Alarm\n(?:    Condition: (\w+)\n)?", text)
    return sum(1 for condition in found if not condition or condition in conditions)


def idle():
    """Dollars for a month without a hit, by stack."""
    alarm, dashboard = price("CloudWatch alarm, month"), price("CloudWatch dashboard, month")
    secret = price("Secrets Manager secret, month")
    polls = IDLE_POLLS / 1e6 * price("SQS standard, million requests")
    domain = HOURS * price("t3.small.search, hour") + 10 * price("OpenSearch gp3, GB-month")
    return {
        "`pixel.yaml`": alarms("pixel.yaml") * alarm + dashboard + secret,
        "`Manage` besides": (alarms("pixel.yaml", "HasManage") - alarms("pixel.yaml")) * alarm,
        "`pixel.yaml`, `Delivery=queue`": alarms("pixel.yaml", "HasQueue") * alarm + dashboard + polls + secret,
        "`rest-proxy.yaml`": alarms("rest-proxy.yaml") * alarm + secret,
        "`http-api.yaml`": alarms("http-api.yaml") * alarm + secret,
        "`queue.yaml`": alarms("queue.yaml") * alarm + polls + secret,
        "in a month with hits besides, the counts of a function": METRICS["direct"] * price("CloudWatch metric, month"),
        "the same with a queue": METRICS["queue"] * price("CloudWatch metric, month"),
        "`domain.yaml`, t3.small.search and 10 GB": domain + alarms("domain.yaml", "IsDomain") * alarm,
        "`domain.yaml`, collection without a standby (1 OCU)": HOURS * price("OpenSearch Serverless OCU, hour"),
        "`domain.yaml`, collection with a standby (2 OCU)": 2 * HOURS * price("OpenSearch Serverless OCU, hour"),
    }


def table():
    lines = ["| a million hits | US dollars |", "|---|---|"]
    lines += [f"| {name} | {dollars:.2f} |" for name, dollars in million().items()]
    lines += ["", "| a month without a hit | US dollars |", "|---|---|"]
    lines += [f"| {name} | {dollars:.2f} |" for name, dollars in idle().items()]
    lines += ["", "| list price | US dollars | said in | by |", "|---|---|---|---|"]
    lines += [f"| {name} | {dollars:.10f}".rstrip("0").rstrip(".") + f" | {when or 'not dated'} | {source if when else 'compare ' + source} |" for name, (dollars, when, source) in PRICE.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        print(table())
    elif f"<!-- cost -->\n{table()}\n<!-- /cost -->" not in (HERE / "README.md").read_text(encoding="utf-8"):
        sys.exit("README.md has other tables than `infra/cost.py` prints")
