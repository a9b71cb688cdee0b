"""Prints the corpora as lines of JSON: [corpus, agent, expected name, its major version], or [corpus, agent, what it is, ""]."""

import glob
import importlib.util
import json
import os
import re
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

# Agents by what they are: those of Matomo's suite, which a port of it carries, and the reference's devices.
KINDS = {
    "phones": "smartphone phablet feature_phone clienthints",
    "tablets": "tablet",
    "desktops": "desktop",
    "televisions": "tv peripheral",
    "consoles": "console",
    "cars": "car_browser",
    "wearables": "wearable smart_speaker smart_display camera",
    "players": "portable_media_player mediaplayer",
    "podcasts": "podcasting",
    "apps": "mobile_apps clienthints-app feed_reader",
    "robots": "bots",
}
CORPORA = {name: corpus for corpus, names in KINDS.items() for name in names.split()}
# It is not run, so what it needs is not installed.
detector = importlib.util.find_spec("device_detector").submodule_search_locations[0]
folder = os.path.join(detector, "tests", "fixtures", "upstream")
for path in sorted(glob.glob(os.path.join(folder, "*.yml"))):
    name = re.sub(r"-[0-9]+$", "", os.path.basename(path).removesuffix(".yml"))
    with open(path, encoding="utf-8") as file:
        for case in yaml.load(file, LOADER):
            corpus, client = CORPORA.get(name), case.get("client") or {}
            library = isinstance(client, dict) and client.get("type") == "library"
            if corpus and not library:
                line("robots" if case.get("bot") else corpus, case["user_agent"], name, "")

with open(os.path.join(suite, "tests/test_device.yaml"), encoding="utf-8") as file:
    for case in yaml.load(file, LOADER)["test_cases"]:
        if case["family"] != "Spider":
            line("devices", case["user_agent_string"], case["family"], "")
