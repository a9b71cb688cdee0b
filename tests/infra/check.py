"""What breaks a REST API and no linter sees, read off the templates.

    check.py check  FACTS FILE…   prints what is wrong; fails when something is
    check.py mutate FACTS         seeds the faults of mutations.py, each of which must be found
    check.py resolve FILE [NAME=VALUE…]   the resolved template as JSON
    check.py refused FILE CASES   what the rules say against each list of NAME=VALUE in the JSON CASES, as JSON
    check.py --stamp FILE…        writes the name of the deployment anew

FACTS is JSON from the program itself: its variables, handlers, resources, headers and mapping template.
"""

import json
import re
import sys
from pathlib import Path

import yaml

from template import Resolved, load, message, path_of, read, stamp

# supported-gateway-response-types, API Gateway developer guide.
GATEWAY_RESPONSES = set(
    """ACCESS_DENIED API_CONFIGURATION_ERROR AUTHORIZER_CONFIGURATION_ERROR AUTHORIZER_FAILURE BAD_REQUEST_BODY
    BAD_REQUEST_PARAMETERS DEFAULT_4XX DEFAULT_5XX EXPIRED_TOKEN INTEGRATION_FAILURE INTEGRATION_TIMEOUT INVALID_API_KEY
    INVALID_SIGNATURE MISSING_AUTHENTICATION_TOKEN QUOTA_EXCEEDED REQUEST_TOO_LARGE RESOURCE_NOT_FOUND THROTTLED
    UNAUTHORIZED UNSUPPORTED_MEDIA_TYPE WAF_FILTERED""".split()
)
# What Lambda says for an error of the function's own, a time-out, an exit, and one of several lines.
ERRORS = (
    "boom",
    "2026-03-01T09:30:00.123Z 0f5e6a1c-0000-4000-8000-000000000001 Task timed out after 10.00 seconds",
    "RequestId: 0f5e6a1c-0000-4000-8000-000000000001 Error: Runtime exited with error: exit status 1",
    "first line\nsecond line",
    "ünïcode 'quoted'",
)
INVOKE = re.compile(r"arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/<(\w+)\.Arn>/invocations")
# Actions that IAM lets nobody narrow to a resource.
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
SVG = re.compile(r'<svg xmlns="http://www\.w3\.org/2000/svg"[^<>]*/>')


def problems(text, facts, path, first=False):
    """Everything that is wrong with a template, or what is found first."""
    folder = path.parent
    try:
        for event in yaml.parse(text):
            if isinstance(event, yaml.AliasEvent):
                return ["yaml: CloudFormation knows no aliases"]
        template = load(text)
        found = list(form(template, text))
        for values in scenarios(template):
            resolved = Resolved(template, values)
            resolved.file = path.name
            for check in CHECKS:
                if first and found:
                    return found
                found += [f"{check.__name__}: {problem}" for problem in check(resolved, facts, folder)]
    except (KeyError, ValueError, TypeError, yaml.YAMLError, AttributeError) as error:
        return [f"unreadable: {type(error).__name__}: {error}"]
    return list(dict.fromkeys(found))


# Values that take the conditions the other way than the defaults.
SAMPLES = {
    "Endpoint": "https://search-x.eu-central-1.es.amazonaws.com",
    "KeepDays": 90, "RunSetup": "yes", "Tracing": "yes", "ReservedConcurrency": 5, "WafRateLimit": 1000,
    "HostName": "pixel.example.org", "HostedZoneId": "Z1", "CreateLogRole": "yes",
    "CertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
    "AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms",
    "LogKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1",
    "KinesisFirehoseARN": "arn:aws:firehose:eu-central-1:123456789012:deliverystream/pixel",
    "KinesisFirehoseStreamName": "pixel", "CorsOrigin": "*", "ImageUrl": "https://example.org/1x1.gif",
    "ReaderRoleArn": "arn:aws:iam::123456789012:role/reader", "InstanceCount": 2,
    # The most that the templates let anyone choose, since time-outs have to fit it.
    "CodeKeysSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:codes-AbCdEf", "PrivacyOptOut": "a-code",
    "Manage": "iam", "TokensSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:tokens-AbCdEf", "DashboardsUrl": "https://dashboards.example.org", "DashboardsTenant": "global", "DashboardsSpace": "marketing",
    "DashboardsSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:dashboards-AbCdEf", "PublicUrl": "https://cdn.example.org/p",
    "PrivacyKey": "sixteen-characters", "Journal": "log", "Delivery": "queue", "BatchSize": 10000, "BatchWindow": 60, "MaximumConcurrency": 1000,
}

COLLECTION = {"CollectionEndpoint": "https://abc123.eu-central-1.aoss.amazonaws.com", "CollectionId": "abc123", "CollectionName": "pixel"}


def scenarios(template):
    """Defaults; everything; and every value of a choice, so that each condition is taken both ways."""
    parameters = template.get("Parameters", {})
    endpoint = {"Endpoint": SAMPLES["Endpoint"]} if "Endpoint" in parameters else {}
    everything = {name: value for name, value in SAMPLES.items() if name in parameters}
    yield endpoint
    yield everything
    for delivery in parameters.get("Delivery", {}).get("AllowedValues", ["direct"]):
        if "DomainName" in parameters:
            yield {**everything, "Delivery": delivery, "DomainName": "search"}
            yield {**endpoint, "Delivery": delivery, "ApiKey": "a2V5"}
        if "CollectionId" in parameters:
            yield {**everything, "Delivery": delivery, "Endpoint": "", **COLLECTION}
    for name, body in parameters.items():
        for value in body.get("AllowedValues", []):
            if isinstance(value, str):
                yield {**everything, name: value}


# --- Form -----------------------------------------------------------------------------------------------------------


# What a stack is of which nothing but the endpoint is said: private, small, and without what costs more.
DEFAULTS = {
    "Architecture": "arm64", "MemorySize": 128, "ReservedConcurrency": -1, "LogRetentionDays": 30, "Reply": "first", "Journal": "none",
    "Delivery": "direct", "PrivacyIp": "shorten", "PrivacyUserId": "hash", "PrivacySignal": "anonymise", "PrivacyRecord": "on",
    "PrivacyKey": "", "Manage": "no", "Tracing": "no", "WafRateLimit": 0, "KeepDays": 0, "RunSetup": "yes", "Rotation": "monthly", "Index": "events",
    "TrustedHops": 0, "CorsOrigin": "", "Record": "flat", "Front": "http-api", "StandbyReplicas": "DISABLED", "Kind": "domain",
}


def form(template, text):
    parameters = template.get("Parameters", {})
    grouped = [
        name
        for group in template.get("Metadata", {}).get("AWS::CloudFormation::Interface", {}).get("ParameterGroups", [])
        for name in group["Parameters"]
    ]
    if sorted(grouped) != sorted(parameters):
        yield f"form: grouped once each are {sorted(set(grouped) ^ set(parameters)) or 'not all'}"
    for name, body in parameters.items():
        if not body.get("Description"):
            yield f"form: parameter {name} has no description"
        if not {"AllowedPattern", "AllowedValues", "MinValue"} & set(body):
            yield f"form: parameter {name} takes anything"
        if not re.search(rf"(!Ref {name}\b|\$\{{{name}\}}|Ref: {name}\b)", text):
            yield f"form: parameter {name} is not used"
        if "Default" in body and Resolved({"Parameters": {name: body}}).refused():
            yield f"form: the default of {name} is refused"
        if name in DEFAULTS and body.get("Default") != DEFAULTS[name]:
            yield f"form: {name} is {body.get('Default')} when nothing is given, not {DEFAULTS[name]}"
    required = [name for name, body in parameters.items() if "Default" not in body]
    if len(required) > 2:
        yield f"form: {len(required)} parameters without a default"
    for name in template.get("Conditions", {}):
        if not re.match(r"(Has|Is)[A-Z]", name):
            yield f"form: condition {name} does not say what there is"
    if stamp(text) != text:
        yield "form: the deployment's name is not that of what it deploys; run tests/infra/check.py --stamp"
    if not template.get("Description"):
        yield "form: no description"


# --- REST APIs --------------------------------------------------------------------------------------------------------


def integrations(t):
    for name, method in t.of("AWS::ApiGateway::Method"):
        yield name, method, method.get("Integration", {})


def handler(t, integration):
    """The handler of the function behind an integration; none when there is no function."""
    function = function_of(integration)
    return t.resources.get(function, {}).get("Properties", {}).get("Handler") if function else None


def visited(t, api):
    """Whether visitors come to this API, who must see images: one that asks for codes and numbers has other callers."""
    handlers = {handler(t, one) for _, method, one in integrations(t) if method["RestApiId"] == f"<{api}>"}
    return handlers != {"manage"}


def function_of(integration):
    match = INVOKE.fullmatch(integration.get("Uri", ""))
    return match and match[1]


def invocation(t, facts, folder):
    """Lambda is invoked with POST, at the path of Invoke, and the function is there."""
    for name, _, integration in integrations(t):
        if integration.get("Type") not in ("AWS", "AWS_PROXY"):
            continue
        if integration.get("IntegrationHttpMethod") != "POST":
            yield f"{name} calls its service with {integration.get('IntegrationHttpMethod')}, not POST"
        if ":lambda:" in integration.get("Uri", "") or integration["Type"] == "AWS_PROXY":
            function = function_of(integration)
            if not function or t.resources.get(function, {}).get("Type") != "AWS::Lambda::Function":
                yield f"{name} has no function behind {integration.get('Uri')}"
        elif not integration.get("Credentials"):
            yield f"{name} calls a service without a role"


def deployment(t, facts, folder):
    """The deployment waits for all that it copies, the stage shows that deployment, and no parameter can change the copy."""
    apis = [name for name, _ in t.of("AWS::ApiGateway::RestApi")]
    for api in apis:
        copied = {
            name
            for kind in ("Method", "GatewayResponse")
            for name, properties in t.of(f"AWS::ApiGateway::{kind}")
            if properties["RestApiId"] == f"<{api}>"
        }
        names = [name for name, one in t.of("AWS::ApiGateway::Deployment") if one["RestApiId"] == f"<{api}>"]
        if len(names) != 1:
            yield f"{api} has {len(names)} deployments"
            continue
        if not re.fullmatch(r"\w*Deployment[0-9a-f]{10}", names[0]):
            yield f"{names[0]} has no hash in its name, so it will never be made anew"
        waits = t.resources[names[0]].get("DependsOn", [])
        if set(waits) != copied or len(waits) != len(set(waits)):
            yield f"{names[0]} does not depend on {sorted(copied ^ set(waits))}"
        if "StageName" in t.resources[names[0]]["Properties"]:
            yield f"{names[0]} makes a stage of its own"
        stages = [one for _, one in t.of("AWS::ApiGateway::Stage") if one["RestApiId"] == f"<{api}>"]
        if not any(one["DeploymentId"] == f"<{names[0]}>" for one in stages):
            yield f"no stage of {api} shows {names[0]}"
        kept = {"AWS::ApiGateway::Method", "AWS::ApiGateway::GatewayResponse", "AWS::ApiGateway::Resource"}
        for name, body in t.template["Resources"].items():
            if body["Type"] in kept and body["Properties"]["RestApiId"] == {"Ref": api}:
                if body.get("Condition") != t.template["Resources"][api].get("Condition"):
                    yield f"{name} is conditional, so the deployed copy could be another"
                used = sorted(names_in(body["Properties"]) & set(t.parameters))
                if used:
                    yield f"{name} depends on {used}, so a changed parameter would not be deployed"


def names_in(value):
    """Every name that intrinsic functions refer to."""
    if isinstance(value, list):
        return set().union(*map(names_in, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(names_in, value.values())) if value else set()
    if "Ref" in value:
        found.add(value["Ref"])
    if "Fn::Sub" in value:
        text = value["Fn::Sub"] if isinstance(value["Fn::Sub"], str) else value["Fn::Sub"][0]
        found |= {name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text)}
    if "Fn::If" in value:
        found.add("Fn::If")
    return found


def headers(t, facts, folder):
    """Static values are quoted; every header and status that an integration sets is declared."""
    for name, method, integration in integrations(t):
        declared = {str(one["StatusCode"]): one for one in method.get("MethodResponses", [])}
        if len(declared) != len(method.get("MethodResponses", [])):
            yield f"{name} declares a status twice"
        for response in integration.get("IntegrationResponses", []):
            status = str(response["StatusCode"])
            if status not in declared:
                yield f"{name} answers {status}, which it does not declare"
                continue
            allowed = declared[status].get("ResponseParameters", {})
            for key, value in response.get("ResponseParameters", {}).items():
                if key not in allowed:
                    yield f"{name} sets {key} of {status}, which it does not declare"
                if not key.startswith("method.response.header."):
                    yield f"{name}: {key} is no header of a method's response"
                if not is_mapped(value, ("integration.response.", "context.", "stageVariables.")):
                    yield f"{name}: {key} is {value}, without the quotes of a static value"
        for key, value in integration.get("RequestParameters", {}).items():
            if not is_mapped(value, ("method.request.", "context.", "stageVariables.")):
                yield f"{name}: {key} is {value}, without the quotes of a static value"
    for name, response in t.of("AWS::ApiGateway::GatewayResponse"):
        for key, value in response.get("ResponseParameters", {}).items():
            if not key.startswith("gatewayresponse.header."):
                yield f"{name}: {key} is no header of a gateway response"
            if not is_mapped(value, ("method.request.",)):
                yield f"{name}: {key} is {value}, without the quotes of a static value"


def is_mapped(value, prefixes):
    return isinstance(value, str) and (re.fullmatch(r"'[^']*'", value) is not None or value.startswith(prefixes))


def answers(t, facts, folder):
    """Every method answers an image, whatever happens: the function's, or a text that is an SVG."""
    for name, method, integration in integrations(t):
        if integration.get("Type") in ("AWS_PROXY", "MOCK"):
            continue
        responses = integration.get("IntegrationResponses", [])
        usual = [one for one in responses if "SelectionPattern" not in one]
        if len(usual) != 1:
            yield f"{name} has {len(usual)} usual answers"
        unusual = [one for one in responses if "SelectionPattern" in one]
        if integration.get("Type") == "AWS" and function_of(integration):
            if not unusual:
                yield f"{name} has no answer for an error of the function"
            resource = path_of(t, method["ResourceId"].strip("<>"))
            image = facts["resources"].get(resource)
            for one in usual:
                if one.get("ContentHandling") != "CONVERT_TO_BINARY":
                    yield f"{name} hands on base64 instead of the image"
                if one.get("ResponseTemplates"):
                    yield f"{name} has a template where the base64 is to be decoded"
                wanted = facts["script"] if resource == "/pixel.js" else facts["headers"]
                yield from image_headers(name, one, {**wanted, "Content-Type": image})
        for one in unusual:
            errors = ERRORS if function_of(integration) else ("400", "403", "500", "503")
            if not all(re.fullmatch(one["SelectionPattern"], error) for error in errors):
                yield f"{name}: {one['SelectionPattern']} does not stand for every error"
            if one.get("ContentHandling"):
                yield f"{name} decodes an error's text"
            if str(one["StatusCode"])[0] not in "45":
                yield f"{name} calls an error {one['StatusCode']}"
        texts = unusual + ([] if function_of(integration) else usual)
        for one in texts:
            bodies = list(one.get("ResponseTemplates", {}).values())
            if len(bodies) != 1 or not SVG.fullmatch(bodies[0].strip().splitlines()[-1]):
                yield f"{name} answers {one['StatusCode']} without an SVG"
            yield from image_headers(name, one, {**facts["headers"], "Content-Type": "image/svg+xml", "X-Pixel": None})
        for one in method.get("MethodResponses", []):
            if "method.response.header.Content-Type" not in one.get("ResponseParameters", {}):
                yield f"{name}: {one['StatusCode']} has no media type"


def image_headers(name, response, wanted):
    actual = {key.rsplit(".", 1)[1]: value for key, value in response.get("ResponseParameters", {}).items()}
    for header, value in wanted.items():
        if header not in actual or (value is not None and actual[header] != f"'{value}'"):
            yield f"{name} answers {response['StatusCode']} with {header} {actual.get(header)}, not '{value}'"


def binary(t, facts, folder):
    """Nothing is decoded twice or not at all because of binaryMediaTypes."""
    for api, properties in t.of("AWS::ApiGateway::RestApi"):
        types = properties.get("BinaryMediaTypes", [])
        everything = "*/*" in types
        for name, method, integration in integrations(t):
            if method["RestApiId"] != f"<{api}>":
                continue
            if integration.get("Type") == "AWS_PROXY" and not everything and handler(t, integration) != "manage":
                yield f"{name}: without binaryMediaTypes */* a proxy's image arrives as base64 text"
            if integration.get("Type") != "AWS_PROXY" and (everything or {"application/*", "application/json"} & set(types)):
                if function_of(integration):
                    yield f"{name}: with binaryMediaTypes {types} the function's JSON counts as binary and is not decoded"
                elif integration.get("ContentHandling") != "CONVERT_TO_TEXT":
                    yield f"{name}: with binaryMediaTypes {types} a template's request needs CONVERT_TO_TEXT"


def mapping_template(t, facts, folder):
    """The passthrough template stands in the file as it is in the repository, and nothing goes round it."""
    for name, _, integration in integrations(t):
        if integration.get("Type") != "AWS":
            continue
        templates = integration.get("RequestTemplates", {})
        if "application/json" not in templates:
            yield f"{name} has no template for a request without a Content-Type"
        if integration.get("PassthroughBehavior") not in ("NEVER", "WHEN_NO_TEMPLATES"):
            yield f"{name} passes on bodies of other types as they are"
        for kind, text in templates.items():
            if function_of(integration) and text != facts["template"]:
                yield f"{name}: the template of {kind} is not mapping-templates/passthrough.vtl"
            if not function_of(integration) and text != message(facts["template"]):
                yield f"{name}: the template of {kind} is not the passthrough template in a message"


def gateway_responses(t, facts, folder):
    for api, _ in t.of("AWS::ApiGateway::RestApi"):
        kinds = []
        for name, one in t.of("AWS::ApiGateway::GatewayResponse"):
            if one["RestApiId"] != f"<{api}>":
                continue
            kinds.append(one["ResponseType"])
            if one["ResponseType"] not in GATEWAY_RESPONSES:
                yield f"{name}: there is no {one['ResponseType']}"
            if one["ResponseType"] == "REQUEST_TOO_LARGE":
                yield f"{name}: REQUEST_TOO_LARGE cannot be changed"
            if str(one.get("StatusCode", "404")) != "404":
                yield f"{name} hides the status"
            bodies = one.get("ResponseTemplates", {})
            if list(bodies) != ["image/svg+xml"] or not SVG.fullmatch(next(iter(bodies.values()), "")):
                yield f"{name} has no SVG as its only body"
            actual = {key.rsplit(".", 1)[1]: value for key, value in one.get("ResponseParameters", {}).items()}
            for header, value in {**facts["headers"], "Content-Type": "image/svg+xml"}.items():
                if header not in actual or (header != "X-Pixel" and actual[header] != f"'{value}'"):
                    yield f"{name} has {header} {actual.get(header)}, not '{value}'"
        if len(kinds) != len(set(kinds)):
            yield f"{api} has two gateway responses of a type"
        if visited(t, api) and not {"DEFAULT_4XX", "DEFAULT_5XX"} <= set(kinds):
            yield f"{api} has refusals without an image"


# What the function for codes and numbers answers to everybody.
OPEN = {"/v1/api/status": {"GET", "HEAD"}, "/opt-out/{code}": {"GET", "HEAD", "POST"}}


def paths(t, facts, folder):
    """Paths and methods are there once, and in the main stack they are the pixel's."""
    every = [(one["RestApiId"], path_of(t, name)) for name, one in t.of("AWS::ApiGateway::Resource")]
    for one in every:
        if every.count(one) > 1:
            yield f"{one[1]} is there twice"
    found = [path for api, path in every if visited(t, api.strip("<>"))]
    served = {}
    for name, method, integration in integrations(t):
        target = method["ResourceId"].strip("<>")
        path = "/" if target.endswith(".RootResourceId") else path_of(t, target)
        verbs = served.setdefault(path, [])
        if method["HttpMethod"] in verbs:
            yield f"{method['HttpMethod']} {path} is there twice"
        verbs.append(method["HttpMethod"])
        managed = handler(t, integration) == "manage"
        tokens = managed and "PIXEL_TOKENS" in t.resources[function_of(integration)]["Properties"]["Environment"]["Variables"]
        is_open = not managed or path in OPEN
        if not is_open and method.get("AuthorizationType") != ("NONE" if tokens else "AWS_IAM"):
            yield f"{name} answers anybody, or has two guards"
        if is_open and (method.get("AuthorizationType") != "NONE" or method.get("ApiKeyRequired")):
            yield f"{name} asks visitors who they are"
        if managed and path != "/" and path not in OPEN and not path.startswith("/v1/api/"):
            yield f"{name} is at {path}, where the function has nothing"
        if managed and path in OPEN and method["HttpMethod"] not in OPEN[path]:
            yield f"{name} takes {method['HttpMethod']} of anybody"
        named = set(re.findall(r"\{(\w+)\+?\}", path))
        declared = {key.rsplit(".", 1)[1] for key in method.get("RequestParameters", {}) if ".path." in key}
        if named != declared:
            yield f"{name} declares the path parameters {declared}, not {named}"
    if any(one.get("Handler") == "manage" for _, one in t.of("AWS::Lambda::Function")):
        for path, verbs in OPEN.items():
            if set(served.get(path, [])) != verbs:
                yield f"{path} is served to {served.get(path, [])}, not to {sorted(verbs)}"
    if served and "proxy+" not in str(found):
        calls_function = any(function_of(integration) for _, _, integration in integrations(t))
        for path in facts["resources"]:
            # The script is the function's.
            if path == "/pixel.js" and not calls_function:
                continue
            if path == "/pixel" and calls_function and not {"POST", "ANY"} & set(served.get(path, [])):
                yield f"{path} is not served to the script's beacons"
            if not {"GET", "HEAD"} <= set(served.get(path, [])) and "ANY" not in served.get(path, []):
                yield f"{path} is not served to GET and HEAD"


COOKIE = re.compile(r"'([\w-]+)=1; Path=/; Max-Age=(\d+); HttpOnly; SameSite=None; Secure'")


def constants(t, facts, folder):
    """Pages that need no function: each answers what it declares, is kept by no cache, and asks nothing of other hosts."""
    cookies = {}
    for name, method, integration in integrations(t):
        if integration.get("Type") != "MOCK":
            continue
        path = path_of(t, method["ResourceId"].strip("<>"))
        if integration.get("PassthroughBehavior") != "NEVER":
            yield f"{name} takes a status of the visitor's"
        for one in integration.get("IntegrationResponses", []):
            sent = {key.rsplit(".", 1)[1]: value.strip("'") for key, value in one.get("ResponseParameters", {}).items()}
            body = one.get("ResponseTemplates", {}).get("application/json", "")
            if sent.get("Cache-Control") != "no-store" or sent.get("X-Frame-Options") != "DENY":
                yield f"{name} answers {one['StatusCode']} with {sent}"
            if sent.get("Content-Type") == "application/json":
                json.loads(re.sub(r"\$stageVariables\.\w+", "true", body))
            elif not body.startswith("<!doctype html>") or re.search(r"(src|href)=|<script|//", body):
                yield f"{name} answers {one['StatusCode']} with another page than ours"
            if "Set-Cookie" in sent:
                cookie = COOKIE.fullmatch(f"'{sent['Set-Cookie']}'")
                name_and_age = (cookie[1], int(cookie[2]) > 0) if cookie else ("no cookie of ours", False)
                cookies.setdefault(path, []).append((method["HttpMethod"], *name_and_age))
        for variable in re.findall(r"\$stageVariables\.(\w+)", json.dumps(integration)):
            if not any(variable in stage.get("Variables", {}) for _, stage in t.of("AWS::ApiGateway::Stage")):
                yield f"{name} wants the stage's variable {variable}, which nobody sets"
    for path, found in cookies.items():
        wanted = [("POST", facts["opt_out_cookie"], False), ("POST", facts["opt_out_cookie"], True)]
        if path != "/opt-out" or sorted(found) != wanted:
            yield f"{path} sets {found}, and visitors who do not want to be counted have {wanted}"


def opt_outs(t, facts, folder):
    """Where mails send their recipients, the function answers, knows which codes are ours, and may keep who has opted out."""
    for name, one in t.of("AWS::Lambda::Function"):
        if one.get("Handler") != "manage":
            continue
        variables = one["Environment"]["Variables"]
        # The scenario with everything sets every parameter that there is.
        for parameter, variable in (("CodeKeysSecretArn", "PIXEL_CODE_KEYS"), ("PrivacyOptOut", "PIXEL_PRIVACY_OPT_OUT")):
            if t.parameters[parameter] and variable not in variables:
                yield f"{name} does not know {parameter}"
        role = one["Role"].strip("<>").removesuffix(".Arn")
        index = f"pixel-opt-outs-of-{t.parameters['Index']}"
        if t.parameters["DomainName"]:
            resource = f"arn:aws:es:eu-central-1:123456789012:domain/{t.parameters['DomainName']}/{index}/_doc/*"
            wanted = {("es:ESHttpGet", resource), ("es:ESHttpPut", resource), ("es:ESHttpDelete", resource)}
            allowed = {
                (action, resource)
                for _, owner, _, statement in statements(t)
                for action in listed(statement["Action"])
                for resource in listed(statement.get("Resource", []))
                if owner == role and ("/pixel-opt-outs-of-" in resource or action == "es:ESHttpDelete")
            }
            if allowed != wanted:
                yield f"{role} may {sorted(allowed)}, and opt-outs need {sorted(wanted)}"
        if t.parameters["CollectionId"]:
            wanted = {"aoss:ReadDocument", "aoss:WriteDocument", "aoss:CreateIndex", "aoss:DescribeIndex"}
            resource = f"index/{t.parameters['CollectionName']}/{index}"
            policies = [policy for _, access in t.of("AWS::OpenSearchServerless::AccessPolicy") for policy in json.loads(access["Policy"])]
            mine = [rule for policy in policies if f"<{role}.Arn>" in policy["Principal"] for rule in policy["Rules"]]
            found = [set(rule["Permission"]) for rule in mine if resource in rule["Resource"]]
            if found != [wanted]:
                yield f"{role} may {found} of {resource}, and opt-outs need {sorted(wanted)}"
        stages = [
            f"https://{stage['RestApiId']}.execute-api.eu-central-1.amazonaws.com/<{stage_name}>/opt-out/"
            for stage_name, stage in t.of("AWS::ApiGateway::Stage")
            if not visited(t, stage["RestApiId"].strip("<>"))
        ]
        if [t.outputs.get("OptOutUrl")] != stages:
            yield f"mails are told {t.outputs.get('OptOutUrl')}, and opt-outs are at {stages}"


# What a deployer cannot or need not set, and why.
ELSEWHERE = {
    "PIXEL_CA_FILE": "the artefact has no other file",
    "PIXEL_GEO_FILE": "the artefact has no other file; countries are those of the edge",
    "AWS_REGION": "Lambda sets it",
}
# Of what is stored of a visitor, and of which codes are genuine, whichever function makes the event decides.
OF_EVENTS = {"PIXEL_PRIVACY_IP", "PIXEL_PRIVACY_USER_ID", "PIXEL_PRIVACY_KEY", "PIXEL_PRIVACY_SIGNAL", "PIXEL_PRIVACY_OPT_OUT", "PIXEL_PRIVACY_RECORD",
             "PIXEL_CODE_KEYS", "PIXEL_MAX_EVENT_BYTES"}


def unreachable(facts, texts):
    """Variables that no template lets anybody set."""
    for variable in facts["variables"]:
        if variable not in ELSEWHERE and not any(f"{variable}:" in text for text in texts):
            yield f"no template sets {variable}"
        if variable in ELSEWHERE and any(f"{variable}:" in text for text in texts):
            yield f"{variable} is said to be set by no template"


def permissions(t, facts, folder):
    """Each caller of a function is admitted, by its own ARN, and nobody else."""
    grants = [(name, one) for name, one in t.of("AWS::Lambda::Permission")]
    for name, one in grants:
        source = one.get("SourceArn", "")
        url = one.get("FunctionUrlAuthType")
        if one.get("InvokedViaFunctionUrl"):
            continue
        if url:
            if one.get("Action") not in ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction"):
                yield f"{name} grants {one.get('Action')}"
            continue
        if not source or source == "*":
            yield f"{name} admits {one.get('Principal')} of every account"
        if one.get("Action") != "lambda:InvokeFunction":
            yield f"{name} grants {one.get('Action')}"
        if "FunctionName" not in one or one["FunctionName"].strip("<>").split(".")[0] not in t.resources:
            yield f"{name} is about no function of this stack"

    def admitted(function, principal, arn):
        return any(
            one["FunctionName"].strip("<>").split(".")[0] == function
            and one.get("Principal") == principal
            and re.fullmatch(re.escape(one.get("SourceArn", "")).replace(r"\*", ".*"), arn)
            for _, one in grants
        )

    for name, method, integration in integrations(t):
        function = function_of(integration)
        if function:
            target = method["ResourceId"].strip("<>")
            path = "/" if target.endswith("RootResourceId") else path_of(t, target)
            verb = method["HttpMethod"].replace("ANY", "GET")
            api = method["RestApiId"]
            arn = f"arn:aws:execute-api:eu-central-1:123456789012:{api}/stage/{verb}{path}"
            if not admitted(function, "apigateway.amazonaws.com", arn):
                yield f"{name} may not invoke {function}"
    for name, rule in t.of("AWS::Events::Rule"):
        for target in rule.get("Targets", []):
            function = target["Arn"].strip("<>").removesuffix(".Arn")
            if t.resources.get(function, {}).get("Type") == "AWS::Lambda::Function":
                if not admitted(function, "events.amazonaws.com", f"<{name}.Arn>"):
                    yield f"{name} may not invoke {function}"
            dead = target.get("DeadLetterConfig", {}).get("Arn", "").strip("<>").removesuffix(".Arn")
            grants_of = [
                statement
                for _, policy in t.of("AWS::SQS::QueuePolicy")
                if f"<{dead}>" in policy["Queues"]
                for statement in policy["PolicyDocument"]["Statement"]
            ]
            mine = {"ArnEquals": {"aws:SourceArn": f"<{name}.Arn>"}}
            if not any(one["Principal"] == {"Service": "events.amazonaws.com"} and one.get("Condition") == mine for one in grants_of):
                yield f"{name} may not keep its failures in {dead or 'a queue'}"
    for name, one in t.of("AWS::ApiGatewayV2::Integration"):
        function = one.get("IntegrationUri", "").strip("<>").removesuffix(".Arn")
        arn = f"arn:aws:execute-api:eu-central-1:123456789012:{one['ApiId']}/$default/$default"
        if not admitted(function, "apigateway.amazonaws.com", arn):
            yield f"{name} may not invoke {function}"
    for name, one in t.of("AWS::Lambda::Url"):
        function = one["TargetFunctionArn"].strip("<>").removesuffix(".Arn")
        grant = [g for _, g in grants if g.get("FunctionUrlAuthType") == "NONE" and function in g["FunctionName"]]
        if one.get("AuthType") == "NONE" and not grant:
            yield f"{name} may be called by nobody"


def stages(t, facts, folder):
    for name, stage in t.of("AWS::ApiGateway::Stage"):
        log = stage.get("AccessLogSetting", {})
        yield from access_log(t, name, log.get("DestinationArn", ""), log.get("Format", ""))
        settings = stage.get("MethodSettings", [])
        if not any(one.get("HttpMethod") == "*" and one.get("ResourcePath") == "/*" for one in settings):
            yield f"{name} has settings for no method"
        for one in settings:
            if not {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= set(one):
                yield f"{name} is not throttled"
            if one.get("DataTraceEnabled"):
                yield f"{name} logs whole requests"
            if one.get("CachingEnabled"):
                yield f"{name} answers from a cache, so hits are lost"
            if one.get("LoggingLevel", "OFF") != "OFF":
                wanted = f"API-Gateway-Execution-Logs_{stage['RestApiId']}/{stage['StageName']}"
                if not any(group.get("LogGroupName") == wanted for _, group in t.of("AWS::Logs::LogGroup")):
                    yield f"{name} has an execution log that is kept for ever"
    for name, stage in t.of("AWS::ApiGatewayV2::Stage"):
        log = stage.get("AccessLogSettings", {})
        yield from access_log(t, name, log.get("DestinationArn", ""), log.get("Format", ""))
        if not {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= set(stage.get("DefaultRouteSettings", {})):
            yield f"{name} is not throttled"


TRACES = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")


def asked_for(t, facts, folder):
    """What a parameter asks for is there, and is about the API and the functions of this stack."""
    has = lambda kind, **wanted: any(all(one.get(key) == value for key, value in wanted.items()) for _, one in t.of(kind))
    given = lambda name: str(t.parameters.get(name, "")) not in ("", "0", "no", "-1")
    if given("WafRateLimit"):
        stage = "arn:aws:apigateway:eu-central-1::/restapis/<Api>/stages/<Stage>"
        if not has("AWS::WAFv2::WebACLAssociation", WebACLArn="<WebAcl.Arn>", ResourceArn=stage):
            yield "no web ACL stands before the stage"
        limits = [rule["Statement"]["RateBasedStatement"]["Limit"] for _, one in t.of("AWS::WAFv2::WebACL") for rule in one["Rules"] if rule["Action"] == {"Block": {}}]
        if limits != [t.parameters["WafRateLimit"]]:
            yield f"the web ACL blocks from {limits} requests on"
    if given("HostName"):
        host = t.parameters["HostName"]
        if not has("AWS::ApiGateway::DomainName", DomainName=host, RegionalCertificateArn=t.parameters["CertificateArn"]):
            yield f"API Gateway does not know {host}"
        if not has("AWS::ApiGateway::BasePathMapping", DomainName="<HostNameInApi>", RestApiId="<Api>", Stage="<Stage>"):
            yield f"{host} leads to no stage"
        alias = {"DNSName": "<HostNameInApi.RegionalDomainName>", "HostedZoneId": "<HostNameInApi.RegionalHostedZoneId>"}
        record = [{"Name": host, "Type": "A", "AliasTarget": alias}]
        if given("HostedZoneId") and not has("AWS::Route53::RecordSetGroup", HostedZoneId=t.parameters["HostedZoneId"], RecordSets=record):
            yield f"{host} is in no hosted zone"
    if "Tracing" in t.parameters:
        mode, traced = ("Active", True) if given("Tracing") else ("PassThrough", False)
        if not has("AWS::ApiGateway::Stage", RestApiId="<Api>", TracingEnabled=traced):
            yield f"tracing is {t.parameters['Tracing']}, and of the stage another"
        for name, one in t.of("AWS::Lambda::Function"):
            role = one["Role"].strip("<>").removesuffix(".Arn")
            rights = [may(t, role, action, "*") for action in TRACES]
            if one.get("Handler") == "capture" and one.get("TracingConfig") != {"Mode": mode}:
                yield f"tracing is {t.parameters['Tracing']}, and {name} has {one.get('TracingConfig')}"
            if one.get("TracingConfig") == {"Mode": "Active"} and not all(rights):
                yield f"{name} may not write its traces"
    for name, one in t.of("AWS::Lambda::Function"):
        wanted = t.parameters["ReservedConcurrency"] if given("ReservedConcurrency") else None
        if one.get("Handler") == "capture" and one.get("ReservedConcurrentExecutions") != wanted:
            yield f"{name} has {one.get('ReservedConcurrentExecutions')} environments at most, not {wanted}"
        origin = t.parameters.get("CorsOrigin") or None
        if one.get("Handler") == "capture" and one["Environment"]["Variables"].get("PIXEL_CORS_ORIGIN") != origin:
            yield f"{name} answers another origin than {origin}"
    if given("CreateLogRole") and not has("AWS::ApiGateway::Account", CloudWatchRoleArn="<LogRole.Arn>"):
        yield "API Gateway has no role for its logs"


def access_log(t, name, destination, form):
    group = destination.strip("<>").removesuffix(".Arn")
    if t.resources.get(group, {}).get("Type") != "AWS::Logs::LogGroup":
        yield f"{name} has no access log"
    try:
        line = json.loads(re.sub(r"\$context(\.\w+)+", "x", form))
    except ValueError:
        yield f"{name}: an access log line is no JSON"
        return
    for value in re.findall(r"\$context[.\w]+", form):
        if value.endswith(("sourceIp", "userAgent", ".path", "requestOverride")):
            yield f"{name} logs {value} of visitors"
    if not line:
        yield f"{name}: an access log line is empty"


def http_apis(t, facts, folder):
    """An HTTP API hands every request to its function, in the format that is documented; a stack with a stream takes another's place."""
    for api, _ in t.of("AWS::ApiGatewayV2::Api"):
        of_api = lambda kind: [(name, one) for name, one in t.of(f"AWS::ApiGatewayV2::{kind}") if one["ApiId"] == f"<{api}>"]
        targets = {f"integrations/<{name}>" for name, _ in of_api("Integration")}
        if [one["RouteKey"] for _, one in of_api("Route")] != ["$default"]:
            yield f"{api} has other paths than all"
        if {one.get("Target") for _, one in of_api("Route")} != targets:
            yield f"{api} hands its requests to nobody"
        for name, one in of_api("Integration"):
            form = [one.get(key) for key in ("IntegrationType", "IntegrationMethod", "PayloadFormatVersion")]
            if form != ["AWS_PROXY", "POST", "2.0"]:
                yield f"{name} hands on {form}"
        if [(one["StageName"], one.get("AutoDeploy")) for _, one in of_api("Stage")] != [("$default", True)]:
            yield f"{api} is not deployed at its root"
    for name, one in t.of("AWS::Lambda::Url"):
        grants = {
            (grant.get("Action"), grant.get("Principal"), grant.get("FunctionUrlAuthType"), grant.get("InvokedViaFunctionUrl"))
            for _, grant in t.of("AWS::Lambda::Permission")
            if f"{grant['FunctionName'].strip('<>')}.Arn" == one["TargetFunctionArn"].strip("<>")
        }
        if grants != {("lambda:InvokeFunctionUrl", "*", "NONE", None), ("lambda:InvokeFunction", "*", None, True)}:
            yield f"{name} is admitted by {sorted(map(str, grants))}"
    if "KinesisFirehoseARN" in t.parameters:
        variables = t.resources["Capture"]["Properties"]["Environment"]["Variables"]
        stream = t.parameters["KinesisFirehoseARN"] != ""
        wanted = ("any", t.parameters["Record"]) if stream else (None, None)
        if (variables.get("PIXEL_PATHS"), variables.get("PIXEL_RECORD")) != wanted:
            yield f"Capture has other paths and records than {wanted}"


# What each template tells whoever made its stack: a part of the output's value, and the condition under which it is there.
OUTPUTS = {
    "pixel.yaml": {
        "PixelUrl": ("/pixel.gif", None),
        "ImageTag": ('<img src="https://', None),
        "FunctionName": ("<Capture>", None),
        "FunctionRoleArn": ("Role.Arn>", None),
        "LogGroupName": ("<CaptureLog>", None),
        "AccessLogGroupName": ("<AccessLog>", None),
        "DashboardUrl": ("name=<Dashboard>", None),
        "FallbackQueue": ("/<Fallback.QueueName>", None),
        "Queue": ("/<Events.QueueName>", "HasQueue"),
        "UndeliveredQueue": ("/<Undelivered.QueueName>", "HasQueue"),
        "IndexFunctionName": ("<IndexFunction>", "HasQueue"),
        "SetupResult": ("<Setup.Steps>", "HasSetup"),
        "SetupDashboards": ("<Setup.Dashboards>", "HasSetup"),
        "SetupRoleArn": ("<SetupRole.Arn>", "HasSetup"),
        "HostNameTarget": ("<HostNameInApi.RegionalDomainName>", "HasHostName"),
        "ManageUrl": ("/<ManageStage>/v1/api/status", "HasManage"),
        "ManagePage": ("/<ManageStage>/", "HasManageByToken"),
        "ManageCallers": (":<ManageApi>/", "HasManageByIam"),
    },
    "http-api.yaml": {
        # The name that the stack had whose place this one takes.
        "TrackingPixelProcessingAPIURL": ("", None),
        "FunctionName": ("<Capture>", None),
        "LogGroupName": ("<CaptureLog>", None),
        "FallbackQueue": ("/<Fallback.QueueName>", None),
    },
    "rest-proxy.yaml": {
        "PixelUrl": ("/<Stage>/pixel.gif", None),
        "FunctionName": ("<Capture>", None),
        "LogGroupName": ("<CaptureLog>", None),
        "FallbackQueue": ("/<Fallback.QueueName>", None),
    },
    "queue.yaml": {
        "PixelUrl": ("/<Stage>/pixel.gif", None),
        "FunctionName": ("<IndexFunction>", None),
        "FunctionRoleArn": ("<IndexRole.Arn>", None),
        "LogGroupName": ("<IndexLog>", None),
        "Queue": ("/<Hits.QueueName>", None),
        "UndeliveredQueue": ("/<Undelivered.QueueName>", None),
        "FallbackQueue": ("/<Fallback.QueueName>", None),
    },
    "domain.yaml": {
        "Endpoint": ("https://<Domain.DomainEndpoint>", "IsDomain"),
        "DomainName": ("pixel", "IsDomain"),
        "CollectionEndpoint": ("<Collection.CollectionEndpoint>", "IsCollection"),
        "CollectionId": ("<Collection>", "IsCollection"),
        "CollectionName": ("pixel", "IsCollection"),
        "DashboardsUrl": ("<", None),
    },
}
# Parameters that others' scripts give, by the names that they have elsewhere.
NAMED_ELSEWHERE = {"http-api.yaml": {"KinesisFirehoseARN", "KinesisFirehoseStreamName"}}


def outputs(t, facts, folder):
    for name, (part, condition) in OUTPUTS[t.file].items():
        if condition and not t.condition(condition):
            continue
        if part not in t.outputs.get(name, ""):
            yield f"{name} is {t.outputs.get(name)}, without {part}"
        if not t.outputs.get(name):
            yield f"no output tells {name}"
    front = {"http-api": "https://<HttpApi>.execute-api.eu-central-1.amazonaws.com/", "function-url": "<FunctionUrl.FunctionUrl>"}
    if "Front" in t.parameters and t.outputs.get("TrackingPixelProcessingAPIURL") != front[t.parameters["Front"]]:
        yield f"the pixel is said to be at {t.outputs.get('TrackingPixelProcessingAPIURL')}"
    for name in NAMED_ELSEWHERE.get(t.file, set()) - set(t.parameters):
        yield f"there is no parameter {name}"


# --- Functions --------------------------------------------------------------------------------------------------------


# What glibc's manual, "Memory Allocation Tunables", knows; it is of no use elsewhere than in the role `index`.
OF_THE_C_LIBRARY = {"MALLOC_MMAP_THRESHOLD_"}


def functions(t, facts, folder):
    for name, one in t.of("AWS::Lambda::Function"):
        inline = isinstance(one.get("Code"), dict) and "ZipFile" in one["Code"]
        if not inline:
            if one.get("Runtime") != "provided.al2023":
                yield f"{name} runs on {one.get('Runtime')}"
            if one.get("Handler") not in facts["handlers"]:
                yield f"{name}: the function has no handler {one.get('Handler')}"
            if one.get("Code") != "../target/lambda/bootstrap.zip":
                yield f"{name}: {one.get('Code')} is not what infra/build.sh makes"
            if one.get("Architectures") not in (["arm64"], ["x86_64"]):
                yield f"{name} has no architecture"
            variables = one.get("Environment", {}).get("Variables", {})
            for variable, value in variables.items():
                if variable not in facts["variables"] and variable not in OF_THE_C_LIBRARY:
                    yield f"{name}: {variable} is not documented"
                if variable.startswith("AWS_"):
                    yield f"{name}: {variable} is Lambda's own"
                if not isinstance(value, (str, int)):
                    yield f"{name}: {variable} is no text"
            # The scenario with everything sets every parameter that there is.
            makes_events = one.get("Handler") == "capture" or "Events" not in t.template["Resources"] and one.get("Handler") == "index"
            if makes_events and "CodeKeysSecretArn" in t.parameters and t.parameters["CodeKeysSecretArn"]:
                for variable in sorted(OF_EVENTS - set(variables)):
                    yield f"{name} makes events without {variable}"
            if makes_events and "CodeKeysSecretArn" not in t.parameters:
                yield f"{name} can check no signed codes"
            for variable in ("PIXEL_CODE_KEYS", "PIXEL_TOKENS", "PIXEL_API_KEY", "PIXEL_PRIVACY_KEY"):
                value = str(variables.get(variable, ""))
                if re.search(r"arn:[\w-]+:secretsmanager", value) and not re.fullmatch(r"\{\{resolve:secretsmanager:arn:[^{}]+\}\}", value):
                    yield f"{name}: {variable} is {value}, and not what the secret holds"
            if one.get("Handler") == "manage" and not variables.get("PIXEL_PUBLIC_URL", "").startswith("https://"):
                yield f"{name} makes URLs of codes with the host that it is asked at"
            key = variables.get("PIXEL_PRIVACY_KEY", "")
            if one.get("Handler") in ("capture", "index") and not key:
                yield f"{name} has no key, so that each of its sandboxes hashes otherwise"
            generated = re.fullmatch(r"\{\{resolve:secretsmanager:<(\w+)>\}\}", key)
            if generated and t.resources.get(generated[1], {}).get("Type") != "AWS::SecretsManager::Secret":
                yield f"{name}: {key} is no secret of this stack"
            if "PIXEL_DESTINATION" not in variables and one.get("Handler") != "nobody":
                yield f"{name} has no PIXEL_DESTINATION"
        role = one.get("Role", "").strip("<>").removesuffix(".Arn")
        group = one.get("LoggingConfig", {}).get("LogGroup", "").strip("<>")
        if t.resources.get(group, {}).get("Type") != "AWS::Logs::LogGroup":
            yield f"{name} logs to a group that nobody limits"
        elif role in t.resources and not may(t, role, "logs:PutLogEvents", f"<{group}.Arn>"):
            yield f"{name} may not write its log"
        if not isinstance(one.get("Timeout"), int):
            yield f"{name} has Lambda's default time-out"
        for parameter, found in (("MemorySize", one.get("MemorySize")), ("Architecture", one.get("Architectures"))):
            if not inline and parameter in t.parameters and one.get("Handler") in ("capture", "index") and found not in (t.parameters[parameter], [t.parameters[parameter]]):
                yield f"{name} has {found}, and {parameter} is {t.parameters[parameter]}"
    watched = {
        dimension["Value"]
        for _, alarm in t.of("AWS::CloudWatch::Alarm")
        if alarm.get("MetricName") == "Errors"
        for dimension in alarm.get("Dimensions", [])
    }
    for name, one in t.of("AWS::Lambda::Function"):
        if one.get("Handler") in ("capture", "index", "manage") and f"<{name}>" not in watched:
            yield f"no alarm watches {name}'s errors"
    for name, _ in t.of("AWS::CloudFormation::CustomResource"):
        if "ServiceTimeout" not in t.resources[name]["Properties"]:
            yield f"{name} would make a stack wait for an hour"
    for name, alarm in t.of("AWS::CloudWatch::Alarm"):
        if not alarm.get("AlarmDescription") or alarm.get("TreatMissingData") is None:
            yield f"{name} does not say what it means"
        for dimension in alarm.get("Dimensions", []):
            pass
    for name, board in t.of("AWS::CloudWatch::Dashboard"):
        try:
            json.loads(board["DashboardBody"])
        except ValueError as error:
            yield f"{name} is no JSON: {error}"


def statements(t):
    """Every statement of every policy, with the name of its owner and whether it is one of identity."""
    for name, body in t.resources.items():
        properties = body["Properties"]
        if body["Type"] == "AWS::IAM::Role":
            for policy in properties.get("Policies", []):
                for one in policy["PolicyDocument"]["Statement"]:
                    yield name, name, True, one
        elif body["Type"] == "AWS::IAM::RolePolicy":
            for one in properties["PolicyDocument"]["Statement"]:
                yield name, properties["RoleName"].strip("<>"), True, one
        for key in ("AccessPolicies", "PolicyDocument"):
            policy = properties.get(key)
            if body["Type"].startswith("AWS::IAM::") or not isinstance(policy, dict):
                continue
            for one in policy["Statement"]:
                yield name, None, False, one


def listed(value):
    return value if isinstance(value, list) else [value]


def may(t, role, action, resource):
    return any(
        owner == role and one["Effect"] == "Allow" and action in listed(one["Action"]) and resource in listed(one["Resource"])
        for _, owner, _, one in statements(t)
    )


def least_privilege(t, facts, folder):
    for name, _, identity, one in statements(t):
        if one["Effect"] != "Allow":
            continue
        for key in ("NotAction", "NotResource", "NotPrincipal"):
            if key in one:
                yield f"{name}: {key} allows what nobody listed"
        actions = listed(one.get("Action", []))
        for action in actions:
            if "*" in action:
                yield f"{name}: the action {action} is more than is used"
            if action in ("iam:PassRole", "sts:AssumeRole") and identity:
                yield f"{name} may become somebody else"
        for resource in listed(one.get("Resource", [])):
            if resource == "*" and not set(actions) <= WITHOUT_RESOURCE:
                yield f"{name}: {actions} on every resource"
            below = re.search(r":domain/[^/]+(/.*)?$", resource)
            if identity and below and (below[1] in (None, "/*") or re.search(r":domain/[^/]*\*", resource)):
                yield f"{name}: {resource} is the whole domain"
            if identity and resource != "*" and re.match(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:\*?$", resource):
                yield f"{name}: {resource} is a whole service"
            if re.search(r":(stream|deliverystream|collection|log-group)[/:]\*", resource) or resource.endswith(":*") and ":sqs:" in resource:
                yield f"{name}: {resource} is every resource of the kind"
        if not identity:
            principal = one.get("Principal", {})
            if principal == "*" or "*" in listed(principal.get("AWS", [])):
                yield f"{name} admits everybody"
    for name, one in t.of("AWS::OpenSearchServerless::AccessPolicy"):
        for rule in [rule for policy in json.loads(one["Policy"]) for rule in policy["Rules"]]:
            if "aoss:*" in rule["Permission"] or any(re.search(r"/\*$|^\*$", resource) for resource in rule["Resource"]):
                yield f"{name}: {rule['Permission']} on {rule['Resource']} is more than is used"
    for name, one in t.of("AWS::OpenSearchServerless::SecurityPolicy"):
        json.loads(one["Policy"])
    for name, role in t.of("AWS::IAM::Role"):
        for policy in role.get("ManagedPolicyArns", []):
            if not policy.endswith("policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"):
                yield f"{name} has the managed policy {policy}, which is wider than what it does"
        for one in role["AssumeRolePolicyDocument"]["Statement"]:
            if set(one.get("Principal", {})) != {"Service"}:
                yield f"{name} can be taken by {one.get('Principal')}"


def encryption(t, facts, folder):
    for name, one in t.of("AWS::SQS::Queue"):
        if not one.get("SqsManagedSseEnabled") and not one.get("KmsMasterKeyId"):
            yield f"{name} is not encrypted"
    for name, one in t.of("AWS::OpenSearchService::Domain"):
        if not one.get("EncryptionAtRestOptions", {}).get("Enabled"):
            yield f"{name} is not encrypted at rest"
        if not one.get("NodeToNodeEncryptionOptions", {}).get("Enabled"):
            yield f"{name} is not encrypted between nodes"
        endpoint = one.get("DomainEndpointOptions", {})
        if not endpoint.get("EnforceHTTPS") or not endpoint.get("TLSSecurityPolicy", "").startswith("Policy-Min-TLS-1-2"):
            yield f"{name} can be reached without good TLS"
        if not one.get("AdvancedSecurityOptions", {}).get("Enabled"):
            yield f"{name} has no fine-grained access control"
        if t.template["Resources"][name].get("DeletionPolicy") != "Retain" or t.template["Resources"][name].get("UpdateReplacePolicy") != "Retain":
            yield f"{name} goes with its stack"
    for name, one in t.of("AWS::OpenSearchServerless::Collection"):
        if t.template["Resources"][name].get("DeletionPolicy") != "Retain" or t.template["Resources"][name].get("UpdateReplacePolicy") != "Retain":
            yield f"{name} goes with its stack"
        if not any(policy["Type"] == "encryption" for _, policy in t.of("AWS::OpenSearchServerless::SecurityPolicy")):
            yield f"{name} has no encryption policy"
    for name, one in t.of("AWS::ApiGateway::DomainName"):
        if one.get("SecurityPolicy") != "TLS_1_2":
            yield f"{name} can be reached with old TLS"
    for name, one in t.of("AWS::Logs::LogGroup"):
        if not one.get("RetentionInDays"):
            yield f"{name} is kept for ever"
        if "KmsKeyId" not in t.template["Resources"][name]["Properties"]:
            yield f"{name} cannot be encrypted with one's own key"


SQS_URL = re.compile(r"sqs://sqs\.eu-central-1\.amazonaws\.com/123456789012/<(\w+)\.QueueName>")
FIREHOSE_URL = re.compile(r"firehose://firehose\.eu-central-1\.amazonaws\.com/([\w.-]+)")


def destinations(t, facts, folder):
    """A function may write where its variables send events, and nowhere else; what is refused has a place of its own."""
    for name, one in t.of("AWS::Lambda::Function"):
        variables = one.get("Environment", {}).get("Variables", {})
        role = one.get("Role", "").strip("<>").removesuffix(".Arn")
        if one.get("Handler") in ("capture", "index") and "PIXEL_FALLBACK" not in variables:
            yield f"{name} has no PIXEL_FALLBACK, so what is refused is in its log at best"
        if variables.get("PIXEL_FALLBACK", "") == variables.get("PIXEL_DESTINATION"):
            yield f"{name} falls back to its destination"
        queues_of, streams = set(), set()
        for variable in ("PIXEL_DESTINATION", "PIXEL_FALLBACK"):
            url = variables.get(variable, "")
            if url.startswith("sqs:"):
                match = SQS_URL.fullmatch(url)
                if not match or t.resources.get(match[1], {}).get("Type") != "AWS::SQS::Queue":
                    yield f"{name}: {variable} is {url}, no queue of this stack"
                    continue
                queues_of.add(f"<{match[1]}.Arn>")
                if not may(t, role, "sqs:SendMessage", f"<{match[1]}.Arn>"):
                    yield f"{name} may not write to {match[1]}, its {variable}"
            if url.startswith("firehose:"):
                match = FIREHOSE_URL.fullmatch(url)
                arn = f"arn:aws:firehose:eu-central-1:123456789012:deliverystream/{match[1]}" if match else ""
                streams.add(arn)
                if not match or not may(t, role, "firehose:PutRecord", arn):
                    yield f"{name} may not write to {url}, its {variable}"
        for _, config in t.of("AWS::Lambda::EventInvokeConfig"):
            if config["FunctionName"] == f"<{name}>":
                queues_of.add(config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"))
        for _, owner, _, statement in statements(t):
            if owner != role:
                continue
            for action in listed(statement["Action"]):
                allowed = {"sqs:SendMessage": queues_of, "firehose": streams}
                allowed = allowed.get(action, allowed.get(action.split(":")[0]))
                if allowed is not None and not set(listed(statement["Resource"])) <= allowed:
                    yield f"{name} may write to {statement['Resource']}, where it has nothing to write"
                if action.startswith("firehose:") and action != "firehose:PutRecord":
                    yield f"{name} may {action}, which it does not use"
        if "PIXEL_API_KEY" in variables and not variables["PIXEL_DESTINATION"].startswith("https:"):
            yield f"{name} knows a key that it has no use for"


def queues(t, facts, folder):
    all_queues = dict(t.of("AWS::SQS::Queue"))
    read, given_up = set(), set()
    for name, one in t.of("AWS::Lambda::EventSourceMapping"):
        if one.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{name} repeats whole batches for one message"
        if one.get("BatchSize", 10) > 10 and not one.get("MaximumBatchingWindowInSeconds"):
            yield f"{name} needs a window for so large batches"
        if not one.get("ScalingConfig", {}).get("MaximumConcurrency"):
            yield f"{name} sends the index as many batches as there are"
        source = one["EventSourceArn"].strip("<>").removesuffix(".Arn")
        if source not in all_queues:
            yield f"{name} reads {source}, no queue of this stack"
            continue
        read.add(source)
        queue = all_queues[source]
        function = t.resources[one["FunctionName"].strip("<>").removesuffix(".Arn")]["Properties"]
        if function.get("Handler") != "index":
            yield f"{name} hands batches to the handler {function.get('Handler')}"
        if function.get("ReservedConcurrentExecutions") is not None:
            yield f"{name}: what a reserved concurrency refuses counts as received"
        least = 6 * function["Timeout"] + one.get("MaximumBatchingWindowInSeconds", 0)
        if queue.get("VisibilityTimeout", 30) < least:
            yield f"{name}: messages come back before {least} s are over"
        role = function["Role"].strip("<>").removesuffix(".Arn")
        for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
            if not may(t, role, action, f"<{source}.Arn>"):
                yield f"{name}: its function has no {action}"
        policy = queue.get("RedrivePolicy", {})
        if policy.get("maxReceiveCount", 0) < 5:
            yield f"{name}: a message is given up too early"
        dead = str(policy.get("deadLetterTargetArn", "")).strip("<>").removesuffix(".Arn")
        if dead not in all_queues:
            yield f"{source} has no queue for what is given up"
            continue
        given_up.add(dead)
        if all_queues[dead].get("MessageRetentionPeriod", 345600) <= queue.get("MessageRetentionPeriod", 345600):
            yield f"{dead} deletes what {source} gave up, since a message keeps its age"
    watched = {
        (alarm["MetricName"], dimension["Value"].strip("<>").removesuffix(".QueueName"))
        for _, alarm in t.of("AWS::CloudWatch::Alarm")
        if alarm.get("Namespace") == "AWS/SQS"
        for dimension in alarm.get("Dimensions", [])
    }
    for name, one in all_queues.items():
        if one.get("MessageRetentionPeriod", 345600) < 345600:
            yield f"{name} forgets within four days"
        if ("ApproximateNumberOfMessagesVisible", name) not in watched:
            yield f"no alarm watches how much is in {name}"
        if name in read | given_up and ("ApproximateAgeOfOldestMessage", name) not in watched:
            yield f"no alarm watches how long it is in {name}"
        if name in given_up and name in read:
            yield f"{name} is read by a function"


def kept(t, facts, folder):
    """Events that are in no index yet outlive the stack, under names that a new stack does not need."""
    attributes = lambda name: t.template["Resources"].get(name, {})
    holders = {}
    for name, one in t.of("AWS::Lambda::Function"):
        variables = one.get("Environment", {}).get("Variables", {})
        for variable in ("PIXEL_DESTINATION", "PIXEL_FALLBACK"):
            match = SQS_URL.fullmatch(variables.get(variable, ""))
            if match:
                holders[match[1]] = "QueueName"
        # What neither takes is logged whole, and with a journal everything is.
        if one.get("Handler") in ("capture", "index"):
            holders[one.get("LoggingConfig", {}).get("LogGroup", "").strip("<>")] = "LogGroupName"
    for _, one in t.of("AWS::Lambda::EventSourceMapping"):
        source = one["EventSourceArn"].strip("<>").removesuffix(".Arn")
        holders[source] = "QueueName"
        dead = attributes(source).get("Properties", {}).get("RedrivePolicy", {}).get("deadLetterTargetArn", {})
        holders[dead.get("Fn::GetAtt", [source])[0]] = "QueueName"
    for name, named in holders.items():
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            if attributes(name).get(policy) != "Retain":
                yield f"{name} and the events in it go with their stack: {policy}"
        if named in attributes(name).get("Properties", {}):
            yield f"{name} stays and has a name of its own, so a new stack cannot be made"


# Metrics that alarms may be about, with the dimensions they have (CloudWatch metrics of each service's developer guide).
METRICS = {
    "AWS/Lambda": ({"FunctionName"}, {"Errors", "Throttles"}),
    "AWS/ApiGateway": ({"ApiName", "Stage"}, {"5XXError", "4XXError"}),
    "AWS/SQS": ({"QueueName"}, {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"}),
    "AWS/ES": ({"DomainName", "ClientId"}, {"ClusterStatus.red", "ClusterIndexWritesBlocked", "FreeStorageSpace", "JVMMemoryPressure", "5xx"}),
}

LEAST, MOST = "GreaterThanOrEqualToThreshold", "LessThanOrEqualToThreshold"
ONE = (LEAST, 1, "Sum")
SEEN = (LEAST, 1, "Maximum")
WAITING, PILE, HALF_AN_HOUR, SIX_DAYS = "ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", 1800, 518400
# The alarms that each template must have: on what, and how much of it is too much. Where the resource is conditional, so is
# the alarm.
ALARMS = {
    "pixel.yaml": {
        ("AWS/Lambda", "Errors", "Capture"): ONE,
        ("AWS/Lambda", "Throttles", "Capture"): ONE,
        ("AWS/Lambda", "Errors", "IndexFunction"): ONE,
        ("AWS/Lambda", "Errors", "ManageFunction"): ONE,
        ("AWS/ApiGateway", "5XXError", "Stage"): ONE,
        ("Pixel", "Failed", "Capture"): ONE,
        ("Pixel", "pixel-misconfigured", "Misconfigured"): ONE,
        ("AWS/SQS", PILE, "Fallback"): SEEN,
        ("AWS/SQS", PILE, "Undelivered"): SEEN,
        ("AWS/SQS", WAITING, "Undelivered"): (LEAST, SIX_DAYS, "Maximum"),
        ("AWS/SQS", WAITING, "Events"): (LEAST, HALF_AN_HOUR, "Maximum"),
        ("AWS/SQS", PILE, "Events"): (LEAST, 100000, "Minimum"),
        ("AWS/SQS", PILE, "FailedPrunes"): SEEN,
    },
    "http-api.yaml": {
        ("AWS/Lambda", "Errors", "Capture"): ONE,
        ("AWS/Lambda", "Throttles", "Capture"): ONE,
        ("Pixel", "Failed", "Capture"): ONE,
        ("AWS/SQS", PILE, "Fallback"): SEEN,
    },
    "rest-proxy.yaml": {
        ("AWS/Lambda", "Errors", "Capture"): ONE,
        # Among them what Lambda throttles.
        ("AWS/ApiGateway", "5XXError", "Stage"): ONE,
        ("Pixel", "Failed", "Capture"): ONE,
        ("AWS/SQS", PILE, "Fallback"): SEEN,
    },
    "queue.yaml": {
        ("AWS/Lambda", "Errors", "IndexFunction"): ONE,
        ("AWS/ApiGateway", "5XXError", "Stage"): ONE,
        ("AWS/SQS", PILE, "Fallback"): SEEN,
        ("AWS/SQS", PILE, "Undelivered"): SEEN,
        ("AWS/SQS", WAITING, "Undelivered"): (LEAST, SIX_DAYS, "Maximum"),
        ("AWS/SQS", WAITING, "Hits"): (LEAST, HALF_AN_HOUR, "Maximum"),
        ("AWS/SQS", PILE, "Hits"): (LEAST, 100000, "Minimum"),
    },
    "domain.yaml": {
        ("AWS/ES", "ClusterStatus.red", "Domain"): SEEN,
        ("AWS/ES", "ClusterIndexWritesBlocked", "Domain"): SEEN,
        ("AWS/ES", "FreeStorageSpace", "Domain"): (MOST, 2048, "Minimum"),
        ("AWS/ES", "JVMMemoryPressure", "Domain"): (LEAST, 85, "Maximum"),
        ("AWS/ES", "5xx", "Domain"): (LEAST, 10, "Sum"),
    },
}


def rings(t, alarm, space, metric, of):
    """Whether an alarm is on that metric of that resource."""
    about = [one["Value"] for one in alarm.get("Dimensions", [])]
    # API Gateway counts by names: of the API, which is the stack's, and of the stage.
    wanted = ["pixel", t.parameters.get("StageName")] if of == "Stage" else [] if of == "Misconfigured" else None
    found = about == wanted if wanted is not None else f"<{of}>" in about or f"<{of}.QueueName>" in about
    return (alarm["Namespace"], alarm["MetricName"]) == (space, metric) and found


def required_alarms(t, facts, folder):
    """What must not go unnoticed has an alarm that begins in time, and tells whoever wants to be told."""
    all_alarms = t.of("AWS::CloudWatch::Alarm")
    for (space, metric, of), (operator, limit, statistic) in ALARMS[t.file].items():
        mine = [one for _, one in all_alarms if rings(t, one, space, metric, of)]
        if of in t.resources and not any(
            (one.get("ComparisonOperator"), one.get("Statistic")) == (operator, statistic)
            and (0 < one["Threshold"] <= limit if operator == LEAST else one["Threshold"] >= limit)
            and one["Period"] * one["EvaluationPeriods"] <= 900
            for one in mine
        ):
            yield f"no alarm rings for {metric} of {of} in time"
    for name, alarm in all_alarms:
        topic = t.parameters.get("AlarmTopicArn")
        if alarm.get("AlarmActions", []) != ([topic] if topic else []) or alarm.get("ActionsEnabled") is False:
            yield f"{name} tells {alarm.get('AlarmActions')}, not {topic or 'nobody'}"


def alarms(t, facts, folder):
    """Every alarm is on a metric that somebody writes."""
    filters = {
        change["MetricName"]
        for _, one in t.of("AWS::Logs::MetricFilter")
        for change in one["MetricTransformations"]
    }
    functions_of = {f"<{name}>" for name, one in t.of("AWS::Lambda::Function") if one.get("Handler") in ("capture", "index")}
    for name, alarm in t.of("AWS::CloudWatch::Alarm"):
        dimensions = {one["Name"]: one["Value"] for one in alarm.get("Dimensions", [])}
        space, metric = alarm["Namespace"], alarm["MetricName"]
        if space == facts["namespace"]:
            ours = metric in facts["metrics"] and set(dimensions) == {"Function"} and dimensions["Function"] in functions_of
            if not ours and not (metric in filters and not dimensions):
                yield f"{name}: nobody writes {metric} of {dimensions}"
        elif space not in METRICS or set(dimensions) != METRICS[space][0] or metric not in METRICS[space][1]:
            yield f"{name}: there is no {metric} of {sorted(dimensions)} in {space}"
    for _, board in t.of("AWS::CloudWatch::Dashboard"):
        for metric in re.findall(r'\["Pixel", "(\w+)", "Function"', board["DashboardBody"]):
            if metric not in facts["metrics"]:
                yield f"the dashboard shows {metric}, which nobody writes"


CHECKS = [invocation, deployment, headers, answers, constants, binary, mapping_template, gateway_responses, paths, opt_outs, permissions, stages, http_apis, outputs, asked_for,
          functions, least_privilege, encryption, destinations, queues, kept, alarms, required_alarms]


def main(arguments):
    command, *rest = arguments
    if command == "--stamp":
        for path in rest:
            Path(path).write_text(stamp(read(path)), encoding="utf-8")
        return 0
    if command == "resolve":
        values = dict(one.split("=", 1) for one in rest[1:])
        resolved = Resolved(load(read(rest[0])), values)
        paths_of = {name: path_of(resolved, name) for name, _ in resolved.of("AWS::ApiGateway::Resource")}
        print(json.dumps({"resources": resolved.resources, "paths": paths_of, "refused": resolved.refused(), "outputs": resolved.outputs}))
        return 0
    if command == "refused":
        template = load(read(rest[0]))
        cases = [dict(one.split("=", 1) for one in case) for case in json.loads(rest[1])]
        print(json.dumps([Resolved(template, values).refused() for values in cases]))
        return 0
    facts = json.loads(read(rest[0]))
    if command == "mutate":
        from mutations import run
        return run(facts, Path(rest[1]))
    found = list(unreachable(facts, [read(path) for path in rest[1:]]))
    found += [f"{path}: {problem}" for path in rest[1:] for problem in problems(read(path), facts, Path(path))]
    print("\n".join(found) or f"{len(rest) - 1} templates hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
