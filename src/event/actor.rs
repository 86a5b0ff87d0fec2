//! Who acts, by name.

/// Users that the control plane's components have (kube-apiserver v1.36, kubeadm's certificates).
const CONTROL_PLANE: &[&str] = &[
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:cloud-controller-manager",
    "system:kube-proxy",
];

/// Identities of managed services (CATALOGUE E4); a name alone proves nothing, rules add a second condition.
const MANAGED: &[&str] = &[
    "eks:addon-manager",
    "eks:kms-storage-migrator",
    "eks:node-manager",
    "eks:vpc-resource-controller",
    "system:addon-manager",
    "system:gke-controller-manager",
    "aksService",
    "acsService",
    "nodeclient",
    "hcpService",
];

/// Identities under which proxies of providers act for people.
const PROXIES: &[&str] = &[
    "system:serviceaccount:azure-arc:azure-arc-kube-aad-proxy-sa",
    "system:serviceaccount:gke-connect:connect-agent-sa",
    "system:serviceaccount:cattle-system:rancher",
    "system:serviceaccount:cattle-impersonation-system:cattle",
    "system:serviceaccount:teleport:teleport",
];

/// What kind of actor a username stands for (`k8s.actor.kind`).
pub(super) fn kind(name: &str) -> &'static str {
    match name {
        "" => "unauthenticated",
        "system:anonymous" => "anonymous",
        _ if CONTROL_PLANE.contains(&name) => "control-plane",
        _ if PROXIES.contains(&name) => "proxy",
        _ if MANAGED.contains(&name) => "managed",
        _ if name.starts_with("system:serviceaccount:") => "serviceaccount",
        _ if name.starts_with("system:node:") => "node",
        _ => "human",
    }
}
