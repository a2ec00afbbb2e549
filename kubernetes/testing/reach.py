#!/usr/bin/python3
"""Who can reach whom, by the network policies of rendered manifests: the arrows below, each of them, and no other.

    reach.py RENDERED
"""

import sys

import yaml

OURS = "microservice-app"
with open(sys.argv[1]) as rendered:
    objects = [one for one in yaml.safe_load_all(rendered) if one]
of = lambda kind: [one for one in objects if one["kind"] == kind]
policies = [one["spec"] for one in of("NetworkPolicy")]

# Everybody there is: the namespace, the labels, and ports as name, number and protocol.
parties = {
    "anywhere": (None, {}, [("etcd", 2379, "TCP"), ("postgres", 5432, "TCP"), ("https", 443, "TCP")]),
    "somebody": ("elsewhere", {}, [("http", 80, "TCP")]),
    "a stranger": (OURS, {}, [("http", 80, "TCP")]),
    "dns": ("kube-system", {"k8s-app": "kube-dns"}, [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")]),
    "monitoring": ("monitoring", {}, [("zipkin", 9411, "TCP"), ("http", 80, "TCP")]),
}
for one in of("Deployment") + of("StatefulSet"):
    template = one["spec"]["template"]
    ports = [(port["name"], port["containerPort"], "TCP") for port in template["spec"]["containers"][0]["ports"]]
    parties[one["metadata"]["name"]] = (OURS, template["metadata"]["labels"], ports)


def selects(selector, labels):
    known = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return known and all(
        {"In": labels.get(one["key"]) in one["values"]}[one["operator"]] for one in selector.get("matchExpressions", [])
    )


def is_peer(peer, party):
    namespace, labels, _ = parties[party]
    if "ipBlock" in peer or namespace is None:
        return "ipBlock" in peer and namespace is None
    here = {"kubernetes.io/metadata.name": namespace}
    of_namespace = selects(peer["namespaceSelector"], here) if "namespaceSelector" in peer else namespace == OURS
    return of_namespace and selects(peer.get("podSelector", {}), labels)


def allows(rule, side, party, port):
    """A rule that names no peers is for all of them; likewise with ports."""
    name, number, protocol = port
    of_port = [one["port"] in (name, number) and one.get("protocol", "TCP") == protocol for one in rule.get("ports", [])]
    of_peer = [is_peer(peer, party) for peer in rule.get(side, [])]
    return (any(of_port) or not of_port) and (any(of_peer) or not of_peer)


def lets(direction, side, whose, party, port):
    """Whether the policies at one end of a connection let it through; those of other namespaces are not ours."""
    namespace, labels, _ = parties[whose]
    mine = [one for one in policies if direction in one["policyTypes"] and selects(one["podSelector"], labels)]
    rules = [rule for one in mine for rule in one.get(direction.lower(), [])]
    return namespace != OURS or not mine or any(allows(rule, side, party, port) for rule in rules)


four = {one["metadata"]["name"] for one in of("Deployment")}
services = four - {"apigateway"}
pods = {name for name, (namespace, _, _) in parties.items() if namespace == OURS}
expected = {(one, "apigateway", "http") for one in set(parties) - pods}
expected |= {("apigateway", one, "grpc") for one in services} | {("profile", "feed", "grpc")}
expected |= {(one, "dns", port) for one in pods for port in ("dns", "dns-tcp")}
if of("StatefulSet"):
    expected |= {(one, "etcd", "client") for one in four} | {(one, "postgres", "postgres") for one in services}
else:
    expected |= {(one, "anywhere", "etcd") for one in four} | {(one, "anywhere", "postgres") for one in services}
if of("ServiceMonitor"):
    expected |= {("monitoring", one, "debug") for one in four} | {(one, "monitoring", "zipkin") for one in four}
found = {
    (source, target, port[0])
    for source in parties
    for target, (_, _, ports) in parties.items()
    for port in ports
    if {source, target} & pods and lets("Egress", "to", source, target, port) and lets("Ingress", "from", target, source, port)
}
for source, target, port in sorted(expected - found):
    print(f"{source} cannot reach {target}'s port {port}", file=sys.stderr)
for source, target, port in sorted(found - expected):
    print(f"{source} can reach {target}'s port {port}, and must not", file=sys.stderr)
print(f"{len(found)} arrows")
sys.exit(found != expected)
