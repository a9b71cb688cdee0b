#!/bin/sh
# Draws the pictures of the dashboards anew: from kibana/source, with made-up events in a real OpenSearch.
set -eu
cd "$(dirname "$0")/.."
DASHBOARD_PICTURES="$PWD/kibana/pictures" cargo test --quiet --test it dashboards::pictures::every_dashboard_has_its_picture
ls -l kibana/pictures
