"""Faults that break a deployed pixel. Each is seeded alone; some check must find it.

A fault is a name, a file, and what to replace (the first time, or with `all` everywhere). The deployment's name is written
anew after each, as otherwise its hash alone would find every fault in the API.
"""

import re

from check import problems
from template import read, stamp

P = "pixel.yaml"
D, H, Q, R = "domain.yaml", "http-api.yaml", "queue.yaml", "rest-proxy.yaml"
FAULTS = [
    ("Lambda invoked with the visitor's GET", P, "IntegrationHttpMethod: POST", "IntegrationHttpMethod: GET"),
    ("a role in an artefact that lacks it", P, "lambda/care.zip", "lambda/bootstrap.zip"),
    ("hits in the artefact that takes none", P, "lambda/bootstrap.zip", "lambda/care.zip"),
    ("invocation URI of another version", P, "lambda:path/2015-03-31", "lambda:path/2021-11-15"),
    ("invocation URI without /invocations", P, "${Capture.Arn}/invocations", "${Capture.Arn}"),
    ("invocation URI of the wrong function", P, "functions/${Capture.Arn}", "functions/${PruneSchedule.Arn}"),
    ("proxy integration among the others", P, "        Type: AWS\n", "        Type: AWS_PROXY\n"),
    ("a method that the deployment does not wait for", P, "      - PixelGifHead\n", ""),
    ("a gateway response that the deployment does not wait for", P, "      - Throttled\n", ""),
    ("a deployment with a fixed name", P, re.compile(r"Deployment[0-9a-f]{10}"), "Deployment", "all"),
    ("a stage of another deployment", P, re.compile(r"DeploymentId: !Ref \w+"), "DeploymentId: '1a2b3c'"),
    ("a method that depends on a parameter", P, "      HttpMethod: GET\n      AuthorizationType: NONE",
     "      HttpMethod: GET\n      ApiKeyRequired: !If [HasApiKey, true, false]\n      AuthorizationType: NONE"),
    ("a static header without quotes", P, "\"'image/gif'\"", "image/gif"),
    ("an unquoted header of a gateway response", P, "gatewayresponse.header.Content-Type: \"'image/svg+xml'\"",
     "gatewayresponse.header.Content-Type: image/svg+xml"),
    ("the wrong image type", P, "\"'image/png'\"", "\"'image/gif'\""),
    ("a header that is not declared", P, "            method.response.header.X-Pixel: true\n", ""),
    ("a status that is not declared", P, "        - StatusCode: '502'\n          ResponseModels", "        - StatusCode: '500'\n          ResponseModels"),
    ("a mistyped header key", P, "method.response.header.Cache-Control: \"", "method.response.headers.Cache-Control: \""),
    ("a cacheable pixel", P, "'no-store, no-cache, max-age=0, private'", "'max-age=3600'"),
    ("no permission for HEAD", P, "${Api}/*/HEAD/*", "${Api}/*/HEAD/nowhere"),
    ("a permission for everybody's APIs", P, re.compile(r"\n      SourceArn: !Sub arn:\S+/GET/\*"), ""),
    ("a schedule whose failures may not be kept", P, "Principal: {Service: events.amazonaws.com}", "Principal: {Service: sns.amazonaws.com}"),
    ("a queue that every schedule may write to", P, "            Condition: {ArnEquals: {'aws:SourceArn': !GetAtt PruneSchedule.Arn}}\n", ""),
    ("no permission for the schedule", P, "Principal: events.amazonaws.com", "Principal: s3.amazonaws.com"),
    ("a path twice", P, "PathPart: pixel.gif", "PathPart: pixel.png"),
    ("a path parameter of another name", P, "PathPart: '{code}'", "PathPart: '{id}'"),
    ("a misspelled gateway response", P, "DEFAULT_5XX", "DEFAULT_5xx"),
    ("the gateway response that cannot be changed", P, "ResponseType: THROTTLED", "ResponseType: REQUEST_TOO_LARGE"),
    ("a refusal that claims success", P, "StatusCode: '404'", "StatusCode: '200'"),
    ("a refusal without an image", P, "        image/svg+xml: '<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"/>'\n",
     "        application/json: '{\"message\":$context.error.messageString}'\n"),
    ("an SVG that is not one", P, '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>', "<svg/>"),
    ("binaryMediaTypes on the non-proxy API", P, "      Description: The pixel\n", "      Description: The pixel\n      BinaryMediaTypes: ['*/*']\n"),
    ("the image as base64", P, "            ContentHandling: CONVERT_TO_BINARY\n", ""),
    ("a template where the base64 is decoded", P, "            ContentHandling: CONVERT_TO_BINARY\n",
     "            ContentHandling: CONVERT_TO_BINARY\n            ResponseTemplates: {application/json: $input.body}\n"),
    ("an error decoded as an image", P, "            SelectionPattern: '(\\n|.)+'\n", "            SelectionPattern: '(\\n|.)+'\n            ContentHandling: CONVERT_TO_BINARY\n"),
    ("a pattern that misses long errors", P, "SelectionPattern: '(\\n|.)+'", "SelectionPattern: '.*Error.*'"),
    ("no answer for errors", P, "            SelectionPattern: '(\\n|.)+'\n", ""),
    ("the console's template", P, ".replaceAll(\"\\\\'\",\"'\")", ""),
    ("a character of the template", P, '"source-ip": "$util', '"source-ip" : "$util'),
    ("bodies of other types passed on", P, "PassthroughBehavior: NEVER", "PassthroughBehavior: WHEN_NO_MATCH"),
    ("no template without Content-Type", P, "          application/json: !FindInMap", "          application/xml: !FindInMap"),
    ("a variable that does not exist", P, "PIXEL_PRIVACY_IP:", "PIXEL_IP_PRIVACY:"),
    ("a variable of Lambda's own", P, "          PIXEL_REPLY:", "          AWS_REGION: eu-west-1\n          PIXEL_REPLY:"),
    ("a handler that does not exist", P, "Handler: prune", "Handler: pruning"),
    ("a runtime that does not exist", P, "provided.al2023", "provided.al2023023"),
    ("every action on the index", P, "Action: es:ESHttpPut\n            Resource: !Sub arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/${DomainName}/${Index}*/_doc*", "Action: es:*\n            Resource: !Sub arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/${DomainName}/${Index}*/_doc*"),
    ("every resource", P, re.compile(r"Resource: !Sub arn:\S+/_doc\*"), "Resource: '*'"),
    ("the whole domain", P, "domain/${DomainName}/${Index}*/_doc*", "domain/${DomainName}/*"),
    ("a role for everybody", P, "Principal: {Service: lambda.amazonaws.com}", "Principal: {AWS: '*'}"),
    ("a broad managed policy", P, "service-role/AmazonAPIGatewayPushToCloudWatchLogs", "AmazonOpenSearchServiceFullAccess"),
    ("a log that is kept for ever", P, "      RetentionInDays: !Ref LogRetentionDays\n", ""),
    ("a function that may not log", P, "[logs:CreateLogStream, logs:PutLogEvents]", "logs:CreateLogStream"),
    ("a function with a log of its own making", P, "      LoggingConfig: {LogGroup: !Ref CaptureLog}\n", ""),
    ("an execution log of another name", P, "API-Gateway-Execution-Logs_${Api}/", "API-Gateway-Execution-Logs/${Api}/"),
    ("an unencrypted queue", P, "      SqsManagedSseEnabled: true\n", ""),
    ("old TLS", P, "SecurityPolicy: TLS_1_2", "SecurityPolicy: TLS_1_0"),
    ("requests logged whole", P, "DataTraceEnabled: false", "DataTraceEnabled: true"),
    ("hits answered from a cache", P, "CachingEnabled: false", "CachingEnabled: true"),
    ("an access log line that is no JSON", P, '"status":"$context.status",', '"status":$context.status",'),
    ("visitors' addresses in the access log", P, '"$context.httpMethod"', '"$context.identity.sourceIp"'),
    ("a stage that is not throttled", P, "          ThrottlingRateLimit: !Ref ThrottlingRateLimit\n", ""),
    ("a setup that is waited for an hour", P, "      ServiceTimeout: 300\n", ""),
    ("an alarm on nothing", P, "MetricName: Errors", "MetricName: Error"),
    ("a dashboard that is no JSON", P, '{"widgets": [', '{"widgets": [,'),
    ("a parameter without a pattern", P, "    AllowedPattern: ^[A-Za-z0-9_-]{1,128}$\n", ""),
    ("a parameter that nothing uses", P, "PIXEL_REPLY: !Ref Reply", "PIXEL_REPLY: first"),
    ("a default that is refused", P, "    Default: events\n", "    Default: Events\n"),
    ("a reference to nothing", P, "!GetAtt CaptureRole.Arn", "!GetAtt CaptureRule.Arn"),
    ("a key twice", P, "      MessageRetentionPeriod: 1209600\n", "      MessageRetentionPeriod: 1209600\n      MessageRetentionPeriod: 60\n"),
    ("an alias, which CloudFormation refuses", P, "      Description: The pixel\n", "      Description: &a The pixel\n      ApiKeySourceType: *a\n"),
    ("a collection that admits more than its index", P, "index/${CollectionName}/${Index}*", "index/${CollectionName}/*"),
    ("a proxy's image as base64", R, "      BinaryMediaTypes: ['*/*']\n", ""),
    ("a list that a mail program's Accept does not meet", R, "BinaryMediaTypes: ['*/*']", "BinaryMediaTypes: [image/gif]"),
    ("a proxy that the deployment does not wait for", R, "DependsOn: [Any, ", "DependsOn: ["),
    ("values that end the message", Q, "$util.urlEncode($util", "$util.toString($util", "all"),
    ("a message of another type", Q, "\"'application/x-www-form-urlencoded'\"", "application/x-www-form-urlencoded"),
    ("a queue that API Gateway may not write to", Q, "        Credentials: !GetAtt ApiRole.Arn\n", ""),
    ("a role for every queue", Q, "                Resource: !GetAtt Hits.Arn\n", "                Resource: '*'\n"),
    ("queue's errors without an image", Q, "SelectionPattern: '[45]\\d\\d'", "SelectionPattern: '5\\d\\d'"),
    ("visitors' bodies to the queue", Q, "PassthroughBehavior: NEVER", "PassthroughBehavior: WHEN_NO_MATCH"),
    ("an HTTP API that may not call", H, "${HttpApi}/*/$default", "${HttpApi}/*/GET"),
    ("a function URL that nobody may call", H, "FunctionUrlAuthType: NONE", "FunctionUrlAuthType: AWS_IAM"),
    ("an HTTP API that is not throttled", H, "        ThrottlingBurstLimit: !Ref ThrottlingBurstLimit\n", ""),
    ("every stream", H, "Resource: !Ref KinesisFirehoseARN", "Resource: '*'"),
    ("a hash of each sandbox's own", P, "          PIXEL_PRIVACY_KEY: !If [HasGeneratedKey, !Sub '{{resolve:secretsmanager:${HashKey}}}', !Ref PrivacyKey]\n", ""),
    ("a key that is not there", P, "secretsmanager:${HashKey}", "secretsmanager:${CaptureRole}"),
    ("whole batches again for one message", P, "      FunctionResponseTypes: [ReportBatchItemFailures]\n", ""),
    ("a visibility timeout that is too short", P, "VisibilityTimeout: 420", "VisibilityTimeout: 60"),
    ("a visibility timeout that forgets the window", P, "VisibilityTimeout: 420", "VisibilityTimeout: 365"),
    ("no redrive", P, "      RedrivePolicy: {deadLetterTargetArn: !GetAtt Undelivered.Arn, maxReceiveCount: 100}\n", ""),
    ("messages given up at once", P, "maxReceiveCount: 100", "maxReceiveCount: 1"),
    ("messages given up into the queue that they come from", P, "deadLetterTargetArn: !GetAtt Undelivered.Arn", "deadLetterTargetArn: !GetAtt Events.Arn"),
    ("a queue of the given up that forgets first", P, "MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 86400", "all"),
    ("as many batches as there are", P, "      ScalingConfig: {MaximumConcurrency: !Ref MaximumConcurrency}\n", ""),
    ("large batches without a window", P, "      MaximumBatchingWindowInSeconds: !Ref BatchWindow\n", ""),
    ("batches for the wrong handler", P, "Handler: index", "Handler: capture"),
    ("a reserved concurrency behind a queue", P, "      Handler: index\n", "      Handler: index\n      ReservedConcurrentExecutions: 2\n"),
    ("a reader that may not delete", P, "[sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]", "[sqs:ReceiveMessage, sqs:GetQueueAttributes]"),
    ("a reader of every queue", P, "Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]\n                Resource: !GetAtt Events.Arn",
     "Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]\n                Resource: '*'"),
    ("a fallback without permission", P, "                Action: sqs:SendMessage\n                Resource: !GetAtt Fallback.Arn", "                Action: sqs:GetQueueUrl\n                Resource: !GetAtt Fallback.Arn"),
    ("a permission for another queue", P, "Action: sqs:SendMessage\n                Resource: !GetAtt Fallback.Arn", "Action: sqs:SendMessage\n                Resource: !GetAtt Undelivered.Arn"),
    ("a permission for every queue", P, "Action: sqs:SendMessage\n                Resource: !GetAtt Fallback.Arn",
     "Action: sqs:SendMessage\n                Resource: !Sub 'arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:*'"),
    ("no fallback", P, "          PIXEL_FALLBACK: !Sub sqs://sqs.${AWS::Region}.${AWS::URLSuffix}/${AWS::AccountId}/${Fallback.QueueName}\n", ""),
    ("a fallback that is the destination", P, "PIXEL_FALLBACK: !Sub sqs://sqs.${AWS::Region}.${AWS::URLSuffix}/${AWS::AccountId}/${Fallback.QueueName}",
     "PIXEL_FALLBACK: !Sub sqs://sqs.${AWS::Region}.${AWS::URLSuffix}/${AWS::AccountId}/${Events.QueueName}"),
    ("a queue's own URL where ours is wanted", P, "PIXEL_FALLBACK: !Sub sqs://sqs.", "PIXEL_FALLBACK: !Sub sqs://queue."),
    ("a function that may not write to its queue", P, "            Action: sqs:SendMessage\n            Resource: !GetAtt Events.Arn", "            Action: sqs:SendMessage\n            Resource: !GetAtt Undelivered.Arn"),
    ("a key where nothing is unlocked", P, "PIXEL_API_KEY: !If [HasCaptureWithApiKey,", "PIXEL_API_KEY: !If [HasApiKey,"),
    ("no alarm on the fallback", P, "Value: !GetAtt Fallback.QueueName", "Value: !GetAtt Undelivered.QueueName", "all"),
    ("no alarm on the queue's age", P, "      MetricName: ApproximateAgeOfOldestMessage\n", "      MetricName: ApproximateNumberOfMessagesVisible\n"),
    ("an alarm on a metric that is not there", P, "MetricName: ApproximateAgeOfOldestMessage", "MetricName: AgeOfOldestMessage"),
    ("an alarm on a count that no function makes", P, "MetricName: Failed", "MetricName: Lost"),
    ("an alarm on another function's count", P, "Name: Function, Value: !Ref Capture", "Name: FunctionName, Value: !Ref Capture"),
    ("a filter that nobody has", P, "MetricName: !Sub '${AWS::StackName}-misconfigured', MetricValue", "MetricName: !Sub '${AWS::StackName}-misconfiguration', MetricValue"),
    ("a dashboard of counts that no function makes", P, '["Pixel", "Indexed", "Function", "${Capture}"]', '["Pixel", "Stored", "Function", "${Capture}"]'),
    ("codes and numbers for anybody", P, "AuthorizationType: !If [HasManageByIam, AWS_IAM, NONE]", "AuthorizationType: NONE", "all"),
    ("codes and numbers that no token opens", P, re.compile(r"          PIXEL_TOKENS: .*\n"), ""),
    ("another guard without another copy", P, "DeploymentId: !If [HasManageByIam,", "DeploymentId: !If [HasManage,"),
    ("a page that may not be asked for", P, "${ManageApi}/*/GET/\n", "${ManageApi}/*/GET/page\n"),
    ("a status that asks who one is", P, "HttpMethod: GET\n      AuthorizationType: NONE\n      Integration:\n        Type: AWS_PROXY", "HttpMethod: GET\n      AuthorizationType: AWS_IAM\n      Integration:\n        Type: AWS_PROXY"),
    ("an open path that takes everything", P, "ResourceId: !Ref ManageStatusResource\n      HttpMethod: HEAD", "ResourceId: !Ref ManageStatusResource\n      HttpMethod: ANY"),
    ("an open path beside the status", P, "PathPart: status", "PathPart: stats"),
    ("no permission to answer questions", P, "${ManageApi}/*/*/v1/api/*", "${ManageApi}/*/*/v2/api/*"),
    ("a permission for another function", P, "FunctionName: !Ref ManageFunction\n      Action", "FunctionName: !Ref Capture\n      Action"),
    ("questions about the whole domain", P, "domain/${DomainName}/${Index}*/_search\n              - !Sub arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/${DomainName}/pixel-codes", "domain/${DomainName}/*\n              - !Sub arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/${DomainName}/pixel-codes"),
    ("every action for questions", P, "Action: [es:ESHttpGet, es:ESHttpPut]\n            Resource: !Sub arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/${DomainName}/pixel-codes", "Action: es:ESHttp*\n            Resource: !Sub arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/${DomainName}/pixel-codes"),
    ("a collection whose events can be written by questions", P, '["index/${CollectionName}/${Index}*"], "Permission": ["aoss:ReadDocument", "aoss:DescribeIndex"]', '["index/${CollectionName}/*"], "Permission": ["aoss:*"]'),
    ("questions to the function of visits", P, "${ManageFunction.Arn}/invocations", "${Capture.Arn}/invocations"),
    ("a call that the deployment does not wait for", P, "      - ManageCall\n", ""),
    ("a deployment of questions with a fixed name", P, re.compile(r"ManageIamDeployment[0-9a-f]{10}"), "ManageIamDeployment", "all"),
    ("a part of the questions without the rest", P, "  ManageCall:\n    Type: AWS::ApiGateway::Method\n    Condition: HasManage\n", "  ManageCall:\n    Type: AWS::ApiGateway::Method\n"),
    ("a stage of questions that is not throttled", P, "          ThrottlingRateLimit: 20\n", ""),
    ("a log of questions that is kept for ever", P, "Execution-Logs_${ManageApi}/", "Execution-Logs-${ManageApi}/"),
    ("no alarm on questions that fail", P, "Value: !Ref ManageFunction}", "Value: !Ref Capture}"),
    ("codes with the URL of the questions", P, re.compile(r"          PIXEL_PUBLIC_URL: .*\n"), ""),
    ("the name of a secret for the secret", P, "'{{resolve:secretsmanager:${CodeKeysSecretArn}}}'", "'${CodeKeysSecretArn}'"),
    ("hits without the keys of signed codes", P, re.compile(r"          PIXEL_CODE_KEYS: .*\n"), ""),
    ("a queue's hits that nobody can opt out of", Q, re.compile(r"          PIXEL_PRIVACY_OPT_OUT: .*\n"), ""),
    ("a proxy that stores what it is told not to", R, "          PIXEL_PRIVACY_RECORD: !Ref PrivacyRecord\n", ""),
    ("a cookie of another name", P, "pixel-opt-out=1; Path=/; Max-Age=31536000", "pixel-optout=1; Path=/; Max-Age=31536000"),
    ("a cookie that no other site's page sends", P, "HttpOnly; SameSite=None; Secure", "HttpOnly; SameSite=Lax"),
    ("a wish that ends at once", P, "Max-Age=31536000", "Max-Age=0"),
    ("a page in other pages' frames", P, "method.response.header.X-Frame-Options: \"'DENY'\"", "method.response.header.X-Frame-Options: \"'SAMEORIGIN'\""),
    ("a page with a script", P, "<title>Not to be counted</title>", "<title>Not to be counted</title><script src=/pixel.js></script>"),
    ("a status of the visitor's choice", P, "Type: MOCK\n        PassthroughBehavior: NEVER", "Type: MOCK\n        PassthroughBehavior: WHEN_NO_MATCH"),
    ("a signal that nobody promises to heed", P, "      Variables: {gpc: ", "      Variables: {signal: "),
    ("dashboards with every path", P, "_dashboards/api/saved_objects/_import\n", "*\n"),
    ("hits that nothing reads", Q, "EventSourceArn: !GetAtt Hits.Arn", "EventSourceArn: !GetAtt Undelivered.Arn"),
    ("hits that come back too early", Q, "VisibilityTimeout: 420", "VisibilityTimeout: 180"),
    ("hits without a redrive", Q, "      RedrivePolicy: {deadLetterTargetArn: !GetAtt Undelivered.Arn, maxReceiveCount: 100}\n", ""),
    ("an index function that may write single events", Q, "domain/${DomainName}/${Index}*/_bulk", "domain/${DomainName}/*"),
    ("a stream that the function may not write to", H, "Action: firehose:PutRecord\n", "Action: firehose:DescribeDeliveryStream\n"),
    ("another way to write to a stream", H, "Action: firehose:PutRecord\n", "Action: [firehose:PutRecord, firehose:PutRecordBatch]\n"),
    ("a stream without its service's host", H, "firehose://firehose.${AWS::Region}.${AWS::URLSuffix}/", "firehose://"),
    ("a function without a fallback", R, "                Action: sqs:SendMessage\n", "                Action: sqs:ReceiveMessage\n"),
    ("a domain without encryption at rest", D, "EncryptionAtRestOptions: {Enabled: true}", "EncryptionAtRestOptions: {Enabled: false}"),
    ("a domain without encryption between nodes", D, "NodeToNodeEncryptionOptions: {Enabled: true}", "NodeToNodeEncryptionOptions: {Enabled: false}"),
    ("a domain over HTTP", D, "EnforceHTTPS: true", "EnforceHTTPS: false"),
    ("a domain for everybody", D, "Principal: {AWS: !Sub 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root'}", "Principal: {AWS: '*'}"),
    ("a domain without access control", D, "        Enabled: true\n        InternalUser", "        Enabled: false\n        InternalUser"),
    ("a domain that goes with its stack", D, "    DeletionPolicy: Retain\n", ""),
    ("a collection that goes with its stack", D, re.compile(r"DeletionPolicy: Retain\n    UpdateReplacePolicy: Retain\n    Properties:\n      Name: !Ref Name"),
     "Properties:\n      Name: !Ref Name"),
    ("a master user that may do everything", D, "Action: es:ESHttpPut", "Action: es:ESHttp*"),
]


def seed(text, old, new, everywhere=False):
    count = 0 if everywhere else 1
    if isinstance(old, str):
        return text.replace(old, new) if everywhere else text.replace(old, new, 1)
    return old.sub(lambda _: new, text, count=count)


def run(facts, folder):
    survivors = 0
    for name, file, old, new, *everywhere in FAULTS:
        text = read(folder / file)
        mutant = seed(text, old, new, bool(everywhere))
        if mutant == text:
            found = None
        else:
            try:
                mutant = stamp(mutant)
            except Exception:  # the checks have to say so themselves
                pass
            found = problems(mutant, facts, folder, first=True)
        survivors += not found
        verdict = "NOT SEEDED" if found is None else found[0] if found else "SURVIVES"
        print(f"{file}: {name}: {verdict}", flush=True)
    print(f"{len(FAULTS) - survivors} of {len(FAULTS)} faults found")
    return 1 if survivors else 0
