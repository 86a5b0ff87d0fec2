"""What deploy/check asks of rendered manifests beyond their syntax.

usage: checks.py SCHEMAS SCRATCH RENDERED…

Each document is held against Kubernetes' schema, each pod against the Pod Security Standard `restricted`, the pods of Helm
against those of kustomize, and the metrics that alert rules and the dashboard name against those that src/metrics declares.
The configurations found are written to SCRATCH/config-*.yaml, for auditwatch to read.
"""

import json
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
problems = []


def wrong(where, what):
    problems.append(f"{where}: {what}")


def pod_of(document):
    spec = document.get("spec", {})
    return spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec")


def schema(name, document, version):
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(str(part) for part in error.path)
        wrong(name, f"{document['kind']} {document['metadata']['name']}: {path}: {error.message}")


def pod_security(name, pod, may):
    """The standard's list, control by control; `may` names those that this pod may break, and must."""
    container_contexts = [container.get("securityContext", {}) for container in pod["containers"]]
    context = pod.get("securityContext", {})
    volumes = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    broken = set()
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        broken.add("host namespaces")
    if volumes - allowed:
        broken.add("volumes")
    if context.get("runAsUser") == 0 or any(c.get("runAsUser") == 0 for c in container_contexts):
        broken.add("root")
    if not all(c.get("runAsNonRoot", context.get("runAsNonRoot")) for c in container_contexts):
        broken.add("root")
    for own in container_contexts:
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            broken.add("privileges")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
            broken.add("capabilities")
        if own.get("seccompProfile", context.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            broken.add("seccomp")
        # Ours, not the standard's.
        if not own.get("readOnlyRootFilesystem"):
            broken.add("writable root")
    if broken != may:
        wrong(name, f"Pod Security: breaks {sorted(broken)}, and should break {sorted(may)}")


def references(name, documents, pod):
    """What a pod names is there; selectors find it."""
    maps = {d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"}
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    accounts = {d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for volume in pod.get("volumes", []):
        if "configMap" in volume and volume["configMap"]["name"] not in maps:
            wrong(name, f"there is no ConfigMap {volume['configMap']['name']}")
        if "persistentVolumeClaim" in volume and volume["persistentVolumeClaim"]["claimName"] not in claims:
            wrong(name, "there is no such PersistentVolumeClaim")
    mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
    if mounted != volumes:
        wrong(name, f"volumes {sorted(volumes)}, mounts {sorted(mounted)}")
    if pod["serviceAccountName"] not in accounts:
        wrong(name, f"there is no ServiceAccount {pod['serviceAccountName']}")
    ports = {port["name"] for container in pod["containers"] for port in container["ports"]}
    labels = next(d["spec"]["template"]["metadata"]["labels"] for d in documents if pod_of(d) is pod)
    for document in documents:
        spec = document.get("spec", {})
        selector = {
            "Service": lambda: spec["selector"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "DaemonSet": lambda: spec["selector"]["matchLabels"],
            "Deployment": lambda: spec["selector"]["matchLabels"],
        }.get(document["kind"], lambda: None)()
        if selector is not None and (not selector or not selector.items() <= labels.items()):
            wrong(name, f"{document['kind']} {document['metadata']['name']} does not select the pod")
        named = [port["targetPort"] for port in spec.get("ports", [])] if document["kind"] == "Service" else []
        if document["kind"] == "NetworkPolicy":
            named = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
            if sorted(spec["policyTypes"]) != ["Egress", "Ingress"]:
                wrong(name, "NetworkPolicy: it must bound both ways")
        if set(named) - ports:
            wrong(name, f"{document['kind']}: the pod has no port {sorted(set(named) - ports)}")


def essence(documents):
    """What Helm and kustomize must agree on: the pod but for names, the configuration, and the network."""
    pod = next(pod_of(d) for d in documents if pod_of(d))
    pod = json.loads(json.dumps(pod))
    for volume in pod["volumes"]:
        if "configMap" in volume:
            volume["configMap"] = {}
    for spread in pod.get("topologySpreadConstraints", []):
        del spread["labelSelector"]
    config = next(d["data"]["auditwatch.yaml"] for d in documents if d["kind"] == "ConfigMap")
    network = next(d["spec"] for d in documents if d["kind"] == "NetworkPolicy")
    owner = next(d for d in documents if pod_of(d))
    how = {key: owner["spec"].get(key) for key in ("replicas", "strategy", "updateStrategy")}
    return {
        "pod": pod,
        "configuration": yaml.safe_load(config),
        "ingress": network["ingress"],
        "egress": network["egress"],
        "how": how,
    }


def rendered(path, version, scratch):
    name = path.stem
    documents = [d for d in yaml.safe_load_all(path.read_text()) if d]
    for document in documents:
        schema(name, document, version)
    pods = [pod_of(d) for d in documents if pod_of(d)]
    if len(pods) != 1:
        return wrong(name, f"{len(pods)} pods")
    if name == "kubeadm":
        # The API server's own container is kubeadm's matter.
        pods[0]["containers"] = [c for c in pods[0]["containers"] if c["name"] == "auditwatch"]
        pod_security(name, pods[0], {"volumes", "root", "host namespaces"})
        return None
    tail = "tail" in name
    root = tail and "everything" not in name
    pod_security(name, pods[0], ({"volumes"} if tail else set()) | ({"root"} if root else set()))
    for namespace in (d for d in documents if d["kind"] == "Namespace"):
        expected = "privileged" if tail else "restricted"
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != expected:
            wrong(name, f"the namespace must be {expected}")
    references(name, documents, pods[0])
    for document in (d for d in documents if d["kind"] == "ConfigMap"):
        for key, text in document["data"].items():
            if key == "auditwatch.yaml":
                (scratch / f"config-{name}.yaml").write_text(text)
            elif key == "site.yaml":
                (scratch / "site.yaml").write_text(text)
            else:
                (scratch / "rules").mkdir(exist_ok=True)
                (scratch / "rules" / key).write_text(text)
    return documents


def metrics():
    """Names in alert rules and dashboard, against those declared."""
    sources = [HERE.parent / "src" / "metrics.rs", *(HERE.parent / "src" / "metrics").glob("**/*.rs")]
    text = "".join(source.read_text() for source in sources if source.exists())
    declared = set(re.findall(r'"(auditwatch_[a-z0-9_]+)"', text))
    if len(declared) < 20:
        wrong("src/metrics.rs", f"only {len(declared)} metrics were found there")
    known = declared | {f"{name}_{part}" for name in declared for part in ("bucket", "sum", "count")}
    for path in (HERE / "prometheus" / "auditwatch.rules.yml", HERE / "grafana" / "auditwatch.json"):
        named = set(re.findall(r"\bauditwatch_[a-z0-9_]+", path.read_text())) - {"auditwatch_id"}
        if not named:
            wrong(path.name, "names no metric")
        for name in sorted(named - known):
            wrong(path.name, f"{name} is no metric of auditwatch")
    return declared


def dashboard():
    board = json.loads((HERE / "grafana" / "auditwatch.json").read_text())
    panels = board["panels"]
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        wrong("grafana", "two panels have the same id")
    taken = {}
    for panel in panels:
        at = panel["gridPos"]
        if at["x"] + at["w"] > 24:
            wrong("grafana", f"{panel['title']} leaves the grid")
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if (x, y) in taken:
                    wrong("grafana", f"{panel['title']} lies on {taken[x, y]}")
                taken[x, y] = panel["title"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    # As promtool will read them: a variable stands for a value.
    filled = [re.sub(r"\$__rate_interval|\$__range", "5m", expr) for expr in expressions]
    filled = [re.sub(r"\$\{?[a-z_]+\}?", "x", expr) for expr in filled]
    return {"groups": [{"name": "dashboard", "rules": [
        {"record": f"dashboard:panel:{n}", "expr": expr} for n, expr in enumerate(filled)
    ]}]}


def main():
    version, scratch, *paths = sys.argv[1:]
    version, scratch = version.rsplit(".", 1)[0], Path(scratch)
    documents = {Path(path).stem: rendered(Path(path), version, scratch) for path in paths}
    for mode in ("tail", "webhook", "kafka"):
        helm, kustomize = documents.get(f"helm-{mode}"), documents.get(f"kustomize-{mode}")
        if helm and kustomize:
            helm, kustomize = essence(helm), essence(kustomize)
            for part in helm:
                if helm[part] != kustomize[part]:
                    both = f"\n  helm:      {json.dumps(helm[part], sort_keys=True)}\n  kustomize: {json.dumps(kustomize[part], sort_keys=True)}"
                    wrong(mode, f"Helm and kustomize differ in {part}:{both}")
    declared = metrics()
    (scratch / "dashboard.yml").write_text(json.dumps(dashboard()))
    policy = yaml.safe_load((HERE / "audit" / "policy.yaml").read_text())
    if policy["rules"][-1] != {"level": "Metadata"} or "ResponseStarted" in policy["omitStages"]:
        wrong("audit/policy.yaml", "it must log everything else at Metadata, and ResponseStarted")
    for problem in problems:
        print(problem, file=sys.stderr)
    count = sum(len(list(yaml.safe_load_all(Path(path).read_text()))) for path in paths)
    print(f"{count} documents in {len(paths)} sets, {len(declared)} metrics declared, {len(problems)} problems")
    sys.exit(bool(problems))


main()
