#!/usr/bin/python3
"""Applies rendered manifests to an API server with dry-run, and creates a pod from each template so that pod security has
its say. Only what everything else stands on is made for real: the namespace, its accounts, the definition.

    dryrun.py URL TOKEN RENDERED [DEFINITION]    DEFINITION is of the kinds that Kubernetes itself has not
"""

import copy
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

import yaml

url, token, rendered, *definitions = sys.argv[1:]
context = ssl._create_unverified_context()  # its certificate was made a moment ago
with open(rendered) as text:
    objects = [one for one in yaml.safe_load_all(text) if one]
wrong = []


def call(method, path, body=None, kind="application/json"):
    """(status, body, warnings); a body that is not JSON, which a server says of paths it does not serve (yet), as a message"""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    request = urllib.request.Request(url + path, method=method, headers=headers, data=body and json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, json.load(answer), answer.headers.get_all("Warning") or []
    except urllib.error.HTTPError as error:
        body = error.read().decode(errors="replace")
        is_json = error.headers.get_content_type() == "application/json"
        return error.code, json.loads(body) if is_json else {"message": body.strip()}, []


def path(one):
    version = one["apiVersion"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    resources = call("GET", base)[1].get("resources", [])
    resource = next((r for r in resources if r["kind"] == one["kind"] and "/" not in r["name"]), None)
    if resource is None:
        raise LookupError(f"the server does not know {version} {one['kind']}")
    namespace = f"/namespaces/{one['metadata']['namespace']}" if resource["namespaced"] else ""
    return f"{base}{namespace}/{resource['name']}"


def apply(one, dry=True):
    query = "fieldManager=test&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry else "")
    target = f"{path(one)}/{one['metadata']['name']}?{query}"
    judge(one, call("PATCH", target, one, "application/apply-patch+yaml"))


def judge(one, answer):
    status, body, warnings = answer
    if status not in (200, 201) or warnings:
        wrong.append(f"{one['kind']} {one['metadata']['name']}: {status} {body.get('message', '')} {warnings}")


def pod(one):
    template = copy.deepcopy(one["spec"]["template"])
    claims = one["spec"].get("volumeClaimTemplates", [])
    template["spec"].setdefault("volumes", []).extend({"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claims)
    metadata = {**template["metadata"], "name": one["metadata"]["name"], "namespace": one["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


namespace = next(one for one in objects if one["kind"] == "Namespace")
apply(namespace, dry=False)
default = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace["metadata"]["name"]}}
for account in [one for one in objects if one["kind"] == "ServiceAccount"] + [default]:
    apply(account, dry=False)
for definition in definitions:
    with open(definition) as text:
        crd = yaml.safe_load(text)
    apply(crd, dry=False)
    deadline = time.monotonic() + 30
    while call("GET", f"/apis/{crd['spec']['group']}/v1")[0] != 200:
        if time.monotonic() > deadline:
            sys.exit("the server does not serve the definition it was given, not in 30 s")
        time.sleep(0.1)

for one in objects:
    apply(one)
makers = [one for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
for one in makers:
    judge(one, call("POST", f"{path(pod(one))}?dryRun=All&fieldValidation=Strict", pod(one)))

# A server that lets everything in proves nothing.
greedy = pod(makers[0])
greedy["spec"]["containers"][0]["securityContext"]["privileged"] = True
greedy["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
status, body, _ = call("POST", f"{path(greedy)}?dryRun=All", greedy)
if status != 403 or "PodSecurity" not in body["message"]:
    wrong.append(f"a privileged pod was not refused by pod security: {status} {body.get('message')}")
misspelt = copy.deepcopy(makers[0])
misspelt["spec"]["minReadySecond"] = 1
if call("PATCH", f"{path(misspelt)}/other?fieldManager=test&dryRun=All&fieldValidation=Strict", {**misspelt, "metadata": {**misspelt["metadata"], "name": "other"}}, "application/apply-patch+yaml")[0] < 400:
    wrong.append("a misspelt field was let in")

print(f"{len(objects)} objects and {len(makers)} pods")
for what in wrong:
    print(what, file=sys.stderr)
sys.exit(bool(wrong))
