#!/usr/bin/env python3
"""Holds what a Zipkin server shows to what was asked of the gateway: shows.py URL {curls|traces|links}"""
import json
import sys
import time
import urllib.request

SERVICES = ["feed", "http", "profile", "topic"]
LINKS = {"http->feed", "http->profile", "profile->feed", "http->topic"}
# The root span of each request of run.sh, and how many spans its trace has. The README's three curls come first.
CURLS = [("put /api/feed/create_feed", 3), ("put /api/feed/create_feed", 3), ("get /api/feed/get_feeds", 3)]
TRACES = CURLS + [
    ("put /api/profile/create_profile", 3), ("get /api/profile/get_profile", 5),
    ("put /api/topic/create_topic", 3), ("get /api/topic/view", 3),
]


def ask(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def same(what, wanted, got):
    if wanted != got:
        sys.exit(f"{what}: wanted {wanted}, got {got}")


def kept(api):
    def root(trace):
        return next((span["name"] for span in trace if "parentId" not in span), "none")

    return sorted((root(trace), len(trace)) for trace in ask(f"{api}/traces?limit=100"))


def curls(api):
    same("traces", sorted(CURLS), kept(api))


def traces(api):
    same("traces", sorted(TRACES), kept(api))
    same("services", SERVICES, sorted(ask(f"{api}/services")))
    same("spans of topic", ["topic.topic/createtopic", "topic.topic/gettopic"], sorted(ask(f"{api}/spans?serviceName=topic")))
    same("found by tag", 1, len(ask(f"{api}/traces?serviceName=http&annotationQuery=http.method%3DGET&spanName=get%20/api/topic/view")))


def links(api):
    now = int(time.time() * 1000)
    got = {link["parent"] + "->" + link["child"] for link in ask(f"{api}/dependencies?endTs={now}&lookback=86400000")}
    same("links", LINKS, got)


{"curls": curls, "traces": traces, "links": links}[sys.argv[2]](sys.argv[1] + "/api/v2")
