"""What checkers of policies say that are not ours: cfripper of the stacks, Parliament of every statement in them.

    policies.py check FILE…     prints what they find; fails when something is
    policies.py prove FOLDER    seeds faults of mutations.py, each of which they must find

They see each template as CloudFormation would make it, for every choice of parameters that check.py knows. A finding is
accepted where its resource names it under Metadata, with the reason; what is accepted without being found is told as well.
"""

import json
import logging
import re
import sys
from pathlib import Path

import parliament
import pycfmodel
from cfripper.config.config import Config
from cfripper.model.enums import RuleMode
from cfripper.rule_processor import RuleProcessor
from cfripper.rules import DEFAULT_RULES

from check import scenarios, statements
from mutations import FAULTS, seed
from template import Resolved, load, read

ACCOUNT = "123456789012"
ARNS = {
    "AWS::SQS::Queue": f"arn:aws:sqs:eu-central-1:{ACCOUNT}:pixel-%s",
    "AWS::Logs::LogGroup": f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:pixel-%s:*",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/pixel-%s",
    "AWS::Lambda::Function": f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:pixel-%s",
    "AWS::Events::Rule": f"arn:aws:events:eu-central-1:{ACCOUNT}:rule/pixel-%s",
}


def concrete(value, resources):
    """The value with the ARNs and names that resources would have."""
    if isinstance(value, dict):
        return {key: concrete(one, resources) for key, one in value.items()}
    if isinstance(value, list):
        return [concrete(one, resources) for one in value]
    if not isinstance(value, str):
        return value

    def one(match):
        name, attribute = match[1], match[2]
        arn = ARNS.get(resources.get(name, {}).get("Type"))
        return arn % name if arn and attribute == ".Arn" else f"pixel-{name}"

    return re.sub(r"<(\w+)(\.\w+)?>", one, value)


def ripped(resources, rules):
    """cfripper's findings, as pairs of resource and rule."""
    stack = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}
    config = Config(rules=rules, aws_account_id=ACCOUNT, stack_name="pixel")
    processor = RuleProcessor(*[DEFAULT_RULES[rule](config) for rule in rules])
    result = processor.process_cf_template(pycfmodel.parse(stack).resolve(), config)
    for failure in result.get_failures(include_rule_modes=set(RuleMode)):
        for name in failure.resource_ids or {"?"}:
            yield name, failure.rule, failure.reason


def disputed(resolved, resources):
    """Parliament's findings of policies of identity."""
    for name, _, identity, statement in statements(resolved):
        if identity:
            policy = {"Version": "2012-10-17", "Statement": [concrete(statement, resources)]}
            for finding in parliament.analyze_policy_string(json.dumps(policy)).findings:
                yield name, finding.issue, str(finding.detail)


# What the checkers look at; other resources differ between choices without their seeing it.
SEEN = ("AWS::IAM::", "AWS::SQS::", "AWS::Lambda::", "AWS::Events::", "AWS::OpenSearchService::", "AWS::OpenSearchServerless::")


def findings(text):
    template = load(text)
    seen = set()
    accepted, used, found = {}, set(), {}
    for name, body in template["Resources"].items():
        for checker in ("cfripper", "parliament"):
            for rule, reason in body.get("Metadata", {}).get(checker, {}).items():
                if len(str(reason).split()) < 5:
                    found[f"{name}: {rule} is accepted without a reason"] = True
                accepted[name, rule] = reason
    for values in scenarios(template):
        resolved = Resolved(template, values)
        resources = {name: concrete({key: one for key, one in body.items() if key in ("Type", "Properties")}, resolved.resources)
                     for name, body in resolved.resources.items() if body["Type"].startswith(SEEN)}
        key = json.dumps(resources, sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        for name, rule, reason in [*ripped(resources, list(DEFAULT_RULES)), *disputed(resolved, resolved.resources)]:
            if (name, rule) in accepted:
                used.add((name, rule))
            else:
                found[f"{name}: {rule}: {reason}"] = True
    found.update({f"{name}: {rule} is accepted, and not found": True for name, rule in set(accepted) - used})
    return list(found)


# Faults that concern policies, and that such checkers know.
PROOFS = ("every action on the index", "a role for everybody", "a role for every queue", "every stream", "a domain for everybody")


def prove(folder):
    faults = {name: rest for name, *rest in FAULTS if name in PROOFS}
    missed = []
    for name in PROOFS:
        file, old, new, *everywhere = faults[name]
        found = findings(seed(read(folder / file), old, new, bool(everywhere)))
        print(f"{file}: {name}: {found[0] if found else 'SURVIVES'}")
        missed += [] if found else [name]
    return missed


def main(command, *arguments):
    if command == "prove":
        return prove(Path(arguments[0]))
    problems = [f"{path}: {problem}" for path in arguments for problem in findings(read(path))]
    print("\n".join(problems) or f"{len(arguments)} templates have nothing unexplained")
    return problems


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(1 if main(*sys.argv[1:]) else 0)
