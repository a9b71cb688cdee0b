#!/usr/bin/env bash
# aws cloudformation package and deploy, for those who do not want to type their options:
#
#     infra/deploy.sh infra/pixel.yaml STACK [Parameter=Value …]
#
# BUCKET names the bucket for the artefacts; without one it is pixel-ACCOUNT-REGION, which is made if it is not there.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
template=$1 stack=$2
shift 2

if [ -z "${BUCKET:-}" ]; then
    account=$(aws sts get-caller-identity --query Account --output text)
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region)}}
    BUCKET=pixel-$account-$region
    aws s3api head-bucket --bucket "$BUCKET" 2>/dev/null || aws s3 mb "s3://$BUCKET" --region "$region"
fi

packaged=$(mktemp)
trap 'rm -f "$packaged"' EXIT
aws cloudformation package --template-file "$template" --s3-bucket "$BUCKET" --s3-prefix "$stack" \
    --output-template-file "$packaged" >/dev/null
# The templates are larger than what goes without a bucket. Parameters that are not given keep the stack's values.
aws cloudformation deploy --template-file "$packaged" --s3-bucket "$BUCKET" --s3-prefix "$stack" --stack-name "$stack" \
    --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset ${1:+--parameter-overrides "$@"}
aws cloudformation describe-stacks --stack-name "$stack" --output table --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]'
