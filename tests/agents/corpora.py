"""Prints the corpora as lines of JSON: [corpus, agent, expected name, its major version]."""

import glob
import json
import os
import sys

import crawleruseragents
import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def line(*members):
    print(json.dumps(members))


folder = os.path.dirname(crawleruseragents.__file__)
files = glob.glob(os.path.join(folder, "**", "crawler-user-agents.json"), recursive=True)
for entry in json.load(open(files[0], encoding="utf-8")):
    for agent in entry["instances"]:
        line("crawlers", agent, entry["pattern"], "")

suite = sys.argv[1]
for corpus, path in [
    ("browsers", "tests/test_ua.yaml"),
    ("browsers", "test_resources/firefox_user_agent_strings.yaml"),
    ("browsers", "test_resources/opera_mini_user_agent_strings.yaml"),
    ("systems", "tests/test_os.yaml"),
]:
    with open(os.path.join(suite, path), encoding="utf-8") as file:
        for case in yaml.load(file, LOADER)["test_cases"]:
            line(corpus, case["user_agent_string"], case["family"], case.get("major") or "")
