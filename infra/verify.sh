#!/usr/bin/env bash
# Asks a pixel that is up what no test without an account can know:
#
#     infra/verify.sh https://ID.execute-api.REGION.amazonaws.com/prod
#
# With PIXEL_DESTINATION set (and `pixel` on PATH, or PIXEL naming it), it also looks for its event in the index. What only
# API Gateway can show is asked only of API Gateway. For the event it waits a minute, or TRIES times three seconds. Each line
# says what was asked; the last one, how many failed.
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
base=${1%/}
base=${base%/pixel.gif}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0

readonly GIF=R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==
readonly PNG=iVBORw0KGgo

# ask PATH [CURL OPTION …]: status, head and body of one request.
ask() {
    local path=$1
    shift
    status=$(curl -sS --globoff --max-time 40 -o "$folder/body" -D "$folder/head" -w '%{http_code}' "$@" "$base$path") || status="none"
    body=$(base64 -w0 <"$folder/body" 2>/dev/null || true)
}

header() { sed -n "s/^$1: *//Ip" "$folder/head" | tr -d '\r' | tail -n 1; }

holds() { # WHAT ACTUAL EXPECTED
    # shellcheck disable=SC2053 # What is expected may be a pattern.
    if [[ $2 == $3 ]]; then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$1"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s: %q, not %q\n' "$1" "$2" "$3"
    fi
}

# Of queue.yaml, where no function answers: an SVG, or the way to a GIF.
sent_on() { # WHAT
    if [ "$status" = 302 ]; then
        local image
        image=$(header location)
        holds "$1: Location" "$image" 'https://*'
        holds "$1: image there" "$(curl -sS --globoff --max-time 40 "$image" | base64 -w0 | head -c 8)" R0lGODlh
    else
        svg "$1" 200
    fi
    holds "$1: Cache-Control" "$(header cache-control)" 'no-store, no-cache, max-age=0, private'
    holds "$1: X-Pixel" "$(header x-pixel)" accepted
}

image() { # WHAT MEDIA-TYPE BODY
    if [ "$queue" = yes ]; then sent_on "$1"; return; fi
    holds "$1: status" "$status" 200
    holds "$1: image" "$body" "$3"
    holds "$1: Content-Type" "$(header content-type)" "$2"
    holds "$1: Cache-Control" "$(header cache-control)" 'no-store, no-cache, max-age=0, private'
    holds "$1: Cross-Origin-Resource-Policy" "$(header cross-origin-resource-policy)" cross-origin
    holds "$1: X-Pixel" "$(header x-pixel)" accepted
}

svg() { # WHAT STATUS
    holds "$1: status" "$status" "$2"
    holds "$1: image" "$(cat "$folder/body")" '<svg *'
    holds "$1: Content-Type" "$(header content-type)" image/svg+xml
}

code=verify-$(date +%s)-$$

ask /pixel.gif
case "$status $(header content-type)" in
    302* | 200\ image/svg+xml*) queue=yes ;;
    *) queue=no ;;
esac
image 'GET /pixel.gif' image/gif "$GIF"
ask /pixel; image 'GET /pixel' image/gif "$GIF"
ask /pixel.png; image 'GET /pixel.png' image/png "$PNG*"
ask "/image/$code.png"; image 'GET /image/CODE.png' image/png "$PNG*"
ask /pixel.gif -H 'Accept:'; image 'no Accept, as Gmail asks' image/gif "$GIF"
ask /pixel.gif -H 'Accept: image/avif,image/webp,*/*;q=0.8'; image 'a browser' image/gif "$GIF"
ask /pixel.gif --head; holds 'HEAD: status' "$status" '[23]0[02]'
if [ "$queue" = no ]; then holds 'HEAD: Content-Type' "$(header content-type)" image/gif; fi

hostile='It'"'"'s "quoted" \ and <tagged>'
ask "/pixel/$code?note=It%27s%20%22quoted%22%20%5C%00%20%3Ctagged%3E%20%26%2B%25&a%22b=1" -A "$hostile\", \"source-ip\": \"6.6.6.6"
image 'hostile query and User-Agent' image/gif "$GIF"

if [ -n "$(sed -n 's/^x-amz-apigw-id: *//Ip' "$folder/head")" ]; then
    if [ "$queue" = no ] && [ "$(curl -sS --max-time 40 -o /dev/null -w '%{http_code}' "$base/opt-out")" = 200 ]; then
        ask /opt-out; holds 'the page to opt out' "$(cat "$folder/body")" '<!doctype html>*'
        ask /opt-out -X POST; holds 'opting out' "$(header set-cookie)" 'pixel-opt-out=1;*Max-Age=31536000*'
        ask '/opt-out?in=1' -X POST; holds 'opting in again' "$(header set-cookie)" 'pixel-opt-out=1;*Max-Age=0*'
        ask /.well-known/gpc.json; holds 'the promise about Sec-GPC' "$(cat "$folder/body")" '{"gpc": @(true|false),*'
    fi
    ask /nowhere/to/be; svg 'unknown path' 404
    ask /pixel.gif -X GET -H 'Content-Type: image/png' --data-binary x; svg 'a body of an unmapped type' 415
    ask /pixel.gif -X GET -H 'Content-Type: text/plain' --data-binary "it's no JSON"; image 'a body of text' image/gif "$GIF"
fi

if [ -n "${PIXEL_DESTINATION:-}" ]; then
    found=no
    # Through a queue it takes as long as a batch may wait.
    for ((tries = ${TRIES:-20}; tries > 0; tries--)); do
        if "${PIXEL:-pixel}" hits --limit 100 --json | grep -F "\"$code\"" >"$folder/event"; then found=yes; break; fi
        if [ "$tries" -gt 1 ]; then sleep 3; fi
    done
    holds 'the event is in the index' "$found" yes
    # As JSON writes it: nothing of it ended a value, a message or the document on the way.
    label='"note=It'"'"'s \"quoted\" \\\u0000 <tagged> &+%"'
    holds 'its label is the whole query' "$(grep -cF "$label" "$folder/event" || true)" 1
    holds 'its address is not the one in the User-Agent' "$(grep -c '"ip":"6.6.6' "$folder/event" || true)" 0
fi

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
