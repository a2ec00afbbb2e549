#!/usr/bin/python3
"""Holds rendered manifests to what no schema says: that names meet, that times suffice, that the binaries take the flags,
that each pod is asked how it is, held to its share, spread, scaled and spared. Who can reach whom is reach.py's.

    fits.py RENDERED BINARIES
"""

import re
import subprocess
import sys

import yaml

with open(sys.argv[1]) as rendered:
    objects = [one for one in yaml.safe_load_all(rendered) if one]
binaries = sys.argv[2]
of = lambda kind: [one for one in objects if one["kind"] == kind]
names = lambda kind: {one["metadata"]["name"] for one in of(kind)}
wrong = []


def must(condition, what):
    if not condition:
        wrong.append(what)


def selected(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


pods = {one["metadata"]["name"]: one["spec"]["template"] for one in of("Deployment") + of("StatefulSet")}
ports = {name: {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]} for name, pod in pods.items()}
services = ["feed", "profile", "topic"]
must({*services, "apigateway"} == names("Deployment"), "the four are there")
must(all(one["metadata"].get("namespace") == "microservice-app" for one in objects if one["kind"] != "Namespace"), "one namespace")

for service in of("Service"):
    name, spec = service["metadata"]["name"], service["spec"]
    behind = [pod for pod, template in pods.items() if selected(spec["selector"], template["metadata"]["labels"])]
    must(len(behind) == 1, f"service {name} selects one kind of pod, not {behind}")
    for port in spec["ports"]:
        must(all(port["targetPort"] in ports[pod] for pod in behind), f"service {name}: port {port['targetPort']} is one of its pods'")

for policy in of("NetworkPolicy"):
    for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
        for port in rule.get("ports", []):
            known = isinstance(port["port"], int) or any(port["port"] in of_pod for of_pod in ports.values())
            must(known, f"policy {policy['metadata']['name']}: some pod has port {port['port']}")

for name, template in pods.items():
    for what in ("requests", "limits"):
        given = template["spec"]["containers"][0].get("resources", {}).get(what, {})
        must(set(given) == {"cpu", "memory"}, f"{name}: {what} of processor and memory, not {given}")

for deployment in of("Deployment"):
    name, spec = deployment["metadata"]["name"], deployment["spec"]
    pod, container = spec["template"]["spec"], spec["template"]["spec"]["containers"][0]
    # None goes before a new one counts; and a new one counts when gateways have had time to find it.
    must(spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, f"{name}: a new pod first")
    must(spec.get("minReadySeconds", 0) >= 5, f"{name}: a new pod has time to be found")
    # Life by gRPC where it is served, readiness by HTTP; where a probe asks is one of the pod's ports.
    life = {"grpc": {"port": ports[name].get("grpc")}} if name in services else {"httpGet": {"path": "/healthz", "port": "http"}}
    ready = {"httpGet": {"path": "/readyz", "port": "debug" if name in services else "http"}}
    for kind, handler in (("startup", life), ("liveness", life), ("readiness", ready)):
        probe = container.get(f"{kind}Probe", {})
        asks = {key: value for key, value in probe.items() if key in ("grpc", "httpGet", "tcpSocket", "exec")}
        must(asks == handler, f"{name}: its {kind} probe is {handler}, not {asks}")
    spread = {one["topologyKey"] for one in pod.get("topologySpreadConstraints", [])
              if selected(one["labelSelector"]["matchLabels"], spec["template"]["metadata"]["labels"])
              and "app.kubernetes.io/name" in one["matchLabelKeys"] and one["maxSkew"] == 1}
    must(spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, f"{name}: spread over nodes and zones, not {spread}")

    must("replicas" not in spec, f"{name}: how many there are is for its HorizontalPodAutoscaler to say")
    scaled = [one["spec"] for one in of("HorizontalPodAutoscaler")
              if one["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}]
    must(len(scaled) == 1, f"{name}: one HorizontalPodAutoscaler, not {len(scaled)}")
    for one in scaled:
        must(2 <= one["minReplicas"] < one["maxReplicas"], f"{name}: two pods at least, and more when there is more to do")
        must([metric["resource"]["name"] for metric in one["metrics"]] == ["cpu"], f"{name} is scaled by its processor time")
        slow = one["behavior"]["scaleDown"]["stabilizationWindowSeconds"] > one["behavior"]["scaleUp"]["stabilizationWindowSeconds"]
        must(slow, f"{name}: up at once, down slowly")
    spared = [one["spec"] for one in of("PodDisruptionBudget")
              if selected(one["spec"]["selector"]["matchLabels"], spec["template"]["metadata"]["labels"])]
    must(len(spared) == 1, f"{name}: one PodDisruptionBudget, not {len(spared)}")
    # With two pods or more one may go, so that a node can be drained.
    must([one.get("maxUnavailable") for one in spared] == [1], f"{name}: one pod may be taken away at a time")
    must([one.get("unhealthyPodEvictionPolicy") for one in spared] == ["AlwaysAllow"], f"{name}: a sick pod holds no node up")

    for source in [one["valueFrom"] for one in container["env"]]:
        if "configMapKeyRef" in source:
            must(source["configMapKeyRef"]["name"] in names("ConfigMap"), f"{name}: its settings are there")
    # What ends a pod: the hook, leaving the registry (1 s) and notice (0.3 s), the drain, spans and logs (2.2 s).
    hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    must((hook >= 5) == (name == "apigateway"), f"{name}: the gateway waits in its preStop hook, a service does not: {hook} s")
    drain = next(int(arg.split("=")[1].removesuffix("s")) for arg in container["args"] if arg.startswith("-drain.timeout="))
    must(pod["terminationGracePeriodSeconds"] >= hook + 1.3 + drain + 2.2, f"{name}: the grace period is enough to drain")
    # The binary takes the flags: told to ask where nobody is, it parses all before it says so.
    values = {"POD_IP": "10.0.0.1", "ETCD_ADDR": "http://etcd:2379", "ZIPKIN_ADDR": "", "STORE_URL": "memory:"}
    args = [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], arg) for arg in container["args"]]
    asked = subprocess.run([f"{binaries}/{name}", *args, "-debug.addr=127.0.0.1:1", "-healthcheck"], capture_output=True, text=True)
    must(asked.returncode == 1 and "cannot be asked" in asked.stderr, f"{name} takes its flags: {asked.stderr}")
    listens = {int(arg.rsplit(":", 1)[1]) for arg in args if re.match(r"-(http\.|debug\.)?addr=", arg)}
    must(listens == set(ports[name].values()), f"{name} listens on its ports: {listens} {ports[name]}")

for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget"):
    must(len(of(kind)) == len(of("Deployment")), f"no {kind} is nobody's: {names(kind)}")

for monitor in of("ServiceMonitor"):
    found = [one["metadata"]["name"] for one in of("Service") if selected(monitor["spec"]["selector"]["matchLabels"], one["metadata"]["labels"])
             and any(port["name"] == "debug" for port in one["spec"]["ports"])]
    must(sorted(found) == sorted(["apigateway-debug", *services]), f"the ServiceMonitor finds them all: {found}")

for what in wrong:
    print(what, file=sys.stderr)
sys.exit(bool(wrong))
