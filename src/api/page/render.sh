#!/bin/sh
# Takes the pictures of the page anew, with made-up events.
set -eu
cd "$(dirname "$0")/../../.."
mkdir -p src/api/page/pictures
PAGE_PICTURES="$PWD/src/api/page/pictures" cargo test --quiet --test it server::page::the_page_has_its_pictures
ls -l src/api/page/pictures
