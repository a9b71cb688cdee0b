"""CloudFormation templates as data: short forms of intrinsic functions read, then resolved for given parameters.

A reference to a resource becomes a token, `<Name>` or `<Name.Attribute>`, so that ARNs can be compared and matched.
"""

import hashlib
import json
import re
from pathlib import Path

import yaml

NO_VALUE = object()
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "pixel",
    "AWS::StackId": "arn:aws:cloudformation:eu-central-1:123456789012:stack/pixel/1",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": NO_VALUE,
}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with the short forms of intrinsic functions; no value is turned into a date."""


def _short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


def _mapping_without_repeats(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"the key {key!r} is there twice, line {node.start_mark.line + 1}")
    return {loader.construct_object(key): loader.construct_object(value, deep=True) for key, value in node.value}


Loader.add_multi_constructor("!", _short_form)
Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(text):
    return yaml.load(text, Loader)


class Resolved:
    """A template with parameters filled in, conditions decided and intrinsic functions computed."""

    def __init__(self, template, values=None):
        self.template = template
        declared = template.get("Parameters", {})
        self.parameters = {name: (values or {}).get(name, body.get("Default", "")) for name, body in declared.items()}
        self.conditions = {}
        self.resources = {}
        for name, body in template.get("Resources", {}).items():
            if "Condition" in body and not self.condition(body["Condition"]):
                continue
            self.resources[name] = {**body, "Properties": self.value(body.get("Properties", {}))}
        self.outputs = {
            name: self.value(body["Value"])
            for name, body in template.get("Outputs", {}).items()
            if "Condition" not in body or self.condition(body["Condition"])
        }

    def of(self, kind):
        """The resources of a type, as pairs of name and properties."""
        return [(name, body["Properties"]) for name, body in self.resources.items() if body["Type"] == kind]

    def condition(self, name):
        if name not in self.conditions:
            self.conditions[name] = self.decide(self.template["Conditions"][name])
        return self.conditions[name]

    def decide(self, term):
        (function, argument), = term.items()
        if function == "Condition":
            return self.condition(argument)
        if function == "Fn::Equals":
            left, right = map(self.value, argument)
            return str(left) == str(right)
        if function == "Fn::Contains":
            values, value = argument
            return str(self.value(value)) in [str(one) for one in values]
        parts = [self.decide(part) for part in argument]
        return {"Fn::Not": lambda: not parts[0], "Fn::And": lambda: all(parts), "Fn::Or": lambda: any(parts)}[function]()

    def refused(self):
        """What the rules say against these parameters."""
        found = []
        for rule in self.template.get("Rules", {}).values():
            if "RuleCondition" not in rule or self.decide(rule["RuleCondition"]):
                found += [one["AssertDescription"] for one in rule["Assertions"] if not self.decide(one["Assert"])]
        for name, body in self.template.get("Parameters", {}).items():
            value = self.parameters[name]
            if "AllowedPattern" in body and not re.fullmatch(body["AllowedPattern"], str(value)):
                found.append(f"{name}: {body.get('ConstraintDescription', body['AllowedPattern'])}")
            if "AllowedValues" in body and str(value) not in map(str, body["AllowedValues"]):
                found.append(f"{name}: one of {body['AllowedValues']}")
            if body["Type"] == "Number" and not body.get("MinValue", -1e99) <= float(value) <= body.get("MaxValue", 1e99):
                found.append(f"{name}: out of bounds")
        return found

    def value(self, value):
        if isinstance(value, list):
            return [one for one in map(self.value, value) if one is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), = value.items()
            if function == "Ref":
                return self.ref(argument)
            if function.startswith("Fn::"):
                return getattr(self, function[4:])(argument)
        resolved = {key: self.value(one) for key, one in value.items()}
        return {key: one for key, one in resolved.items() if one is not NO_VALUE}

    def ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        if name not in self.template.get("Resources", {}):
            raise KeyError(f"`{name}` is no parameter and no resource")
        return f"<{name}>"

    def GetAtt(self, argument):
        name = argument[0]
        if name not in self.template.get("Resources", {}):
            raise KeyError(f"`{name}` is no resource")
        return f"<{'.'.join(argument)}>"

    def Sub(self, argument):
        text, extra = (argument, {}) if isinstance(argument, str) else argument
        extra = {key: self.value(one) for key, one in extra.items()}

        def one(match):
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in extra:
                return str(extra[name])
            return self.GetAtt(name.split(".", 1)) if "." in name else str(self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", one, text)

    def If(self, argument):
        name, then, otherwise = argument
        return self.value(then if self.condition(name) else otherwise)

    def FindInMap(self, argument):
        mapping, first, second = map(self.value, argument)
        return self.template["Mappings"][mapping][str(first)][second]

    def Join(self, argument):
        between, parts = argument
        return between.join(map(str, self.value(parts)))

    def Select(self, argument):
        number, parts = argument
        return self.value(parts)[int(number)]

    def Split(self, argument):
        between, text = argument
        return self.value(text).split(between)


DEPLOYED = ("AWS::ApiGateway::RestApi", "AWS::ApiGateway::Resource", "AWS::ApiGateway::Method",
            "AWS::ApiGateway::GatewayResponse", "AWS::ApiGateway::Model", "AWS::ApiGateway::RequestValidator")
STAMP = re.compile(r"\b([A-Z]\w*?|)Deployment[0-9a-f]{10}\b")


def stamp(text):
    """The text with each deployment's name ending in the hash of what that deployment copies."""
    found = dict.fromkeys(match[0] for match in STAMP.finditer(text))
    if not found:
        return text
    template = load(text)
    for name in found:
        api = template["Resources"].get(name, {}).get("Properties", {}).get("RestApiId", {}).get("Ref")
        resources = {
            one: body
            for one, body in template["Resources"].items()
            if body["Type"] in DEPLOYED and api in (one, body["Properties"].get("RestApiId", {}).get("Ref"))
        }
        # As written, except for constants that stand elsewhere: no parameter may change the API without a new name.
        copied = Resolved({**template, "Resources": template["Resources"], "Outputs": {}}).value(resources)
        digest = hashlib.sha256(json.dumps(copied, sort_keys=True).encode()).hexdigest()[:10]
        text = re.sub(rf"\b{name}\b", name[:-10] + digest, text)
    return text


def path_of(template, name):
    """The path of an API's resource."""
    properties = template.resources[name]["Properties"]
    parent = properties["ParentId"]
    before = "" if parent.endswith(".RootResourceId>") else path_of(template, parent.strip("<>"))
    return f"{before}/{properties['PathPart']}"


def read(path):
    return Path(path).read_text(encoding="utf-8")


def message(template):
    """The passthrough template as the body of SQS's SendMessage: each value URL-encoded where it stands."""
    lines = [line for line in template.splitlines(True) if not line.startswith("##")]
    escaped = re.compile(r"""\$util\.escapeJavaScript\("[^"]+"\)\.replaceAll\("\\\\'","'"\)""")
    encoded = escaped.sub(lambda found: f"$util.urlEncode({found[0]})", "".join(lines))
    encoded = encoded.replace("$input.json('$')", "$util.urlEncode($input.json('$'))")
    first, rest = encoded.split("\n", 1)
    return f"{first}\nAction=SendMessage&MessageBody={rest}"
