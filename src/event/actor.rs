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
    "eks:authenticator",
    "eks:az-poller",
    "eks:certificate-controller",
    "eks:cloud-controller-manager",
    "eks:cluster-event-watcher",
    "eks:coredns-autoscaler",
    "eks:fargate-manager",
    "eks:fargate-scheduler",
    "eks:k8s-metrics",
    "eks:kms-storage-migrator",
    "eks:kube-proxy-windows",
    "eks:network-policy-controller",
    "eks:node-manager",
    "eks:nodewatcher",
    "eks:pod-identity-mutating-webhook",
    "eks:service-operations-configmaps",
    "eks:tagging-controller",
    "eks:vpc-resource-controller",
    "system:addon-manager",
    "system:cluster-autoscaler",
    "system:clustermetrics",
    "system:gcp-controller-manager",
    "system:gke-common-webhooks",
    "system:gke-controller-manager",
    "system:glbc",
    "system:konnectivity-server",
    "system:l7-lb-controller",
    "system:managed-certificate-controller",
    "system:pdcsi-controller",
    "system:snapshot-controller",
    "system:storageversionmigrator",
    "system:vpa-recommender",
    "system:k3s-controller",
    "system:k3s-supervisor",
    "system:rke2-controller",
    "system:rke2-supervisor",
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
