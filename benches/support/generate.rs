//! Audit logs of any size out of a seed, for measuring: the mix of requests, the sizes of their bodies, the answers and the
//! rate at which names grow are those of a real log of a busy API server (Kubernetes 1.36: 106,032 events, 260 MB, with
//! bodies for writes). Volume and shape, not attacks: a detection that fires on it fires by chance.

use std::fmt::Write;

use auditwatch::event::time::format_micros;

/// 2026-11-23T12:00:00Z in microseconds.
const START_US: i64 = 1_795_435_200_000_000;

/// A small generator of numbers (SplitMix64): the same ones everywhere for the same seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Who {
    Person,
    Robot,
    Controller,
    Node,
}

/// A kind of request: how many of 10,000, who makes it, verb, API group, resource, subresource, and how many bytes the
/// bodies of request and response have (0: none is logged).
type Kind = (u16, Who, &'static str, &'static str, &'static str, &'static str, usize, usize);

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    // Metadata: a fifth of the bytes, not quite half of the lines.
    (467, Who::Robot,      "get",    "apps",                "deployments",    "",        0, 0),
    (538, Who::Person,     "create", "",                    "configmaps",     "",        0, 0),
    (347, Who::Robot,      "get",    "",                    "secrets",        "",        0, 0),
    (297, Who::Node,       "create", "",                    "serviceaccounts", "token",  0, 0),
    (218, Who::Person,     "list",   "",                    "pods",           "",        0, 0),
    (215, Who::Controller, "delete", "",                    "configmaps",     "",        0, 0),
    (192, Who::Controller, "get",    "coordination.k8s.io", "leases",         "",        0, 0),
    (191, Who::Controller, "update", "coordination.k8s.io", "leases",         "",        0, 0),
    (281, Who::Controller, "get",    "batch",               "jobs",           "",        0, 0),
    (249, Who::Node,       "get",    "",                    "pods",           "",        0, 0),
    (273, Who::Person,     "list",   "apps",                "deployments",    "",        0, 0),
    (271, Who::Person,     "list",   "",                    "services",       "",        0, 0),
    (261, Who::Person,     "list",   "",                    "secrets",        "",        0, 0),
    (252, Who::Person,     "list",   "",                    "namespaces",     "",        0, 0),
    (209, Who::Controller, "create", "discovery.k8s.io",    "endpointslices", "",        0, 0),
    (200, Who::Controller, "watch",  "apps",                "replicasets",    "",        0, 0),
    (139, Who::Person,     "get",    "",                    "pods",           "log",     0, 0),
    ( 12, Who::Person,     "get",    "",                    "pods",           "exec",    0, 0),
    // Bodies.
    (590, Who::Person,     "create", "apps",                "deployments",    "",     1100, 1400),
    (474, Who::Robot,      "patch",  "apps",                "deployments",    "",      300, 1950),
    (441, Who::Controller, "update", "apps",                "replicasets",    "status", 2300, 2350),
    (428, Who::Controller, "update", "apps",                "deployments",    "status", 2000, 2050),
    (340, Who::Node,       "patch",  "",                    "pods",           "status", 1100, 3200),
    (328, Who::Controller, "delete", "",                    "pods",           "",       60, 3150),
    (323, Who::Controller, "update", "batch",               "jobs",           "status", 1900, 1950),
    (240, Who::Controller, "create", "",                    "pods",           "",     1600, 2550),
    (235, Who::Controller, "create", "",                    "pods",           "binding", 250, 120),
    (230, Who::Robot,      "patch",  "apps",                "deployments",    "scale",   60, 180),
    (230, Who::Controller, "create", "batch",               "jobs",           "",      900, 1200),
    (260, Who::Controller, "create", "networking.k8s.io",   "ipaddresses",    "",      200, 300),
    (260, Who::Person,     "create", "",                    "services",       "",      250, 420),
    (190, Who::Controller, "create", "apps",                "replicasets",    "",     2000, 2300),
    (220, Who::Controller, "delete", "",                    "endpoints",      "",       60, 600),
    (150, Who::Person,     "create", "authorization.k8s.io", "selfsubjectaccessreviews", "", 150, 0),
    (130, Who::Robot,      "patch",  "",                    "pods",           "",      250, 2900),
    (130, Who::Person,     "delete", "apps",                "deployments",    "",       60, 150),
    (130, Who::Controller, "delete", "batch",               "jobs",           "",       60, 850),
    (109, Who::Controller, "create", "",                    "endpoints",      "",      300, 400),
    (200, Who::Person,     "get",    "",                    "nodes",          "",        0, 0),
];

const NAMESPACES: &[&str] = &["shop", "payments", "shop-staging", "data", "ingress-nginx", "monitoring", "kube-system"];
const APPS: &[&str] = &["checkout", "web", "catalogue", "search", "billing", "ledger", "mailer", "worker", "gateway"];
const PEOPLE: &[&str] = &["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"];
const ROBOTS: &[(&str, &str)] = &[
    ("system:serviceaccount:gitops:application-controller", "okhttp/4.12.0"),
    ("system:serviceaccount:ci:runner", "Helm/3.18.6"),
    ("system:serviceaccount:ci:terraform", "Terraform/1.13.1 terraform-provider-kubernetes/2.38.0"),
    ("system:serviceaccount:tools:janitor", "python-requests/2.32.3"),
];

/// A log that never ends, line by line.
#[derive(Debug, Clone)]
pub struct Generator {
    random: Random,
    now_us: i64,
    made: usize,
    /// Leave bodies out, as a policy of level Metadata does.
    metadata_only: bool,
}

impl Generator {
    /// The log of this seed; with `metadata_only` no bodies are in it.
    pub fn new(seed: u64, metadata_only: bool) -> Self {
        Generator { random: Random(seed), now_us: START_US, made: 0, metadata_only }
    }

    /// Whole lines, of at least so many bytes together.
    pub fn log(mut self, bytes: usize) -> Vec<u8> {
        let mut out = String::with_capacity(bytes + 16_384);
        while out.len() < bytes {
            self.line(&mut out);
        }
        out.into_bytes()
    }

    /// Adds the next event, with its newline.
    pub fn line(&mut self, out: &mut String) {
        self.made += 1;
        self.now_us += 1_000 + self.random.below(18_000) as i64;
        let kind = self.kind();
        let (_, who, verb, group, resource, sub, asked, answered) = kind;
        let bodies = asked > 0 && !self.metadata_only;
        let level = match (bodies, answered) {
            (false, _) => "Metadata",
            (true, 0) => "Request",
            (true, _) => "RequestResponse",
        };
        let (namespace, name) = (self.namespace(resource), self.name(verb, resource));
        let path = path(verb, group, resource, sub, namespace, &name);
        let stage = if verb == "watch" || sub == "exec" { "ResponseStarted" } else { "ResponseComplete" };
        let id = self.uuid();
        let _ = write!(
            out,
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"{level}","auditID":"{id}","stage":"{stage}","requestURI":"{path}","verb":"{verb}","#
        );
        self.actor(who, resource, out);
        let _ = write!(out, r#""objectRef":{{"resource":"{resource}","#);
        for (key, value) in [("namespace", namespace), ("name", &name), ("apiGroup", group)] {
            if !value.is_empty() {
                let _ = write!(out, r#""{key}":"{value}","#);
            }
        }
        let _ = write!(
            out,
            r#""apiVersion":"v1"{}}},"#,
            if sub.is_empty() { String::new() } else { format!(r#","subresource":"{sub}""#) }
        );
        let code = self.code(verb, sub);
        let _ = match code {
            200..=299 | 101 => write!(out, r#""responseStatus":{{"metadata":{{}},"code":{code}}},"#),
            _ => write!(
                out,
                r#""responseStatus":{{"metadata":{{}},"status":"Failure","message":"{resource} \"{name}\" {}","reason":"{}","details":{{"name":"{name}","kind":"{resource}"}},"code":{code}}},"#,
                reason(code).1,
                reason(code).0
            ),
        };
        if bodies {
            self.body("requestObject", resource, namespace, &name, asked, out);
        }
        if bodies && answered > 0 && code < 300 {
            self.body("responseObject", resource, namespace, &name, answered, out);
        }
        let received = format_micros(self.now_us - 500 - self.random.below(9_000) as i64);
        let _ = writeln!(
            out,
            r#""requestReceivedTimestamp":"{received}","stageTimestamp":"{}","annotations":{{"authorization.k8s.io/decision":"{}","authorization.k8s.io/reason":"RBAC: allowed by ClusterRoleBinding \"{resource}-editors\" of ClusterRole \"{resource}-editor\" to Group \"platform\""}}}}"#,
            format_micros(self.now_us),
            if code == 403 { "forbid" } else { "allow" }
        );
    }

    fn kind(&mut self) -> Kind {
        let all: usize = KINDS.iter().map(|kind| usize::from(kind.0)).sum();
        let mut at = self.random.below(all);
        for kind in KINDS {
            match at.checked_sub(usize::from(kind.0)) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        KINDS[0]
    }

    fn namespace(&mut self, resource: &str) -> &'static str {
        match resource {
            "nodes" | "namespaces" | "ipaddresses" | "selfsubjectaccessreviews" => "",
            // Four of them have nearly all that happens.
            _ if self.random.below(10) < 9 => NAMESPACES[self.random.below(4)],
            _ => self.random.pick::<&str>(NAMESPACES),
        }
    }

    /// Names of pods, jobs and the like are ever new; others come again.
    fn name(&mut self, verb: &str, resource: &str) -> String {
        let app = *self.random.pick(APPS);
        match (verb, resource) {
            ("list" | "watch", _) | (_, "selfsubjectaccessreviews") => String::new(),
            (_, "pods" | "replicasets" | "jobs" | "endpointslices") => {
                format!("{app}-{:x}-{:05x}", self.made / 400, self.random.below(1 << 20))
            }
            (_, "nodes") => format!("node-{}", self.random.below(5)),
            (_, "ipaddresses") => format!("10.96.{}.{}", self.random.below(256), self.random.below(256)),
            _ => format!("{app}-{}", self.random.below(40)),
        }
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.random.below(usize::MAX), self.random.below(usize::MAX));
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a as u32,
            (a >> 32) as u16,
            b & 0xfff,
            (b >> 12) & 0xfff,
            (b >> 24) & 0xffff_ffff_ffff
        )
    }

    fn actor(&mut self, who: Who, resource: &str, out: &mut String) {
        let address =
            format!("127.{}.{}.{}", 10 + self.random.below(4), self.random.below(8), 1 + self.random.below(40));
        let (name, groups, agent) = match who {
            Who::Person => {
                let person = *self.random.pick(PEOPLE);
                let agent = *self.random.pick(&[
                    "kubectl/v1.36.3 (linux/amd64) kubernetes/0000000",
                    "k9s/v0.50.9 (linux/amd64) kubernetes/0000000",
                ]);
                (person.to_owned(), r#""platform","system:authenticated""#.to_owned(), agent.to_owned())
            }
            Who::Robot => {
                let (robot, agent) = *self.random.pick(ROBOTS);
                (robot.to_owned(), service_account_groups(robot), agent.to_owned())
            }
            Who::Controller => {
                let controller = controller_of(resource);
                let name = format!("system:serviceaccount:kube-system:{controller}");
                let groups = service_account_groups(&name);
                let agent = "kube-controller-manager/v1.36.3 (linux/amd64) kubernetes/0000000/system:serviceaccount:kube-system";
                (name, groups, format!("{agent}:{controller}"))
            }
            Who::Node => {
                let name = format!("system:node:node-{}", self.random.below(5));
                let agent = "kubelet/v1.36.3 (linux/amd64) kubernetes/0000000";
                (name, r#""system:nodes","system:authenticated""#.to_owned(), agent.to_owned())
            }
        };
        let uid = self.uuid();
        let _ = write!(
            out,
            r#""user":{{"username":"{name}","uid":"{uid}","groups":[{groups}],"extra":{{"authentication.kubernetes.io/credential-id":["JTI={uid}"]}}}},"sourceIPs":["{address}"],"userAgent":"{agent}","#
        );
    }

    /// Of a hundred requests, nine meet a conflict, five nothing, two are forbidden.
    fn code(&mut self, verb: &str, sub: &str) -> u16 {
        match (self.random.below(1000), verb) {
            (0..3, _) => 401,
            (3..20, _) => 403,
            (20..70, "get" | "delete" | "patch") => 404,
            (20..220, "create" | "update" | "patch") => 409,
            (_, "create") => 201,
            _ if sub == "exec" => 101,
            _ => 200,
        }
    }

    /// A body of about so many bytes: what an object of its kind begins with, then as many variables and conditions.
    fn body(&mut self, member: &str, resource: &str, namespace: &str, name: &str, bytes: usize, out: &mut String) {
        let from = out.len();
        let kind = kind_of(resource);
        let _ = write!(out, r#""{member}":{{"kind":"{kind}","apiVersion":"v1""#);
        if bytes < 120 {
            out.push_str(r#","propagationPolicy":"Background"},"#);
            return;
        }
        let uid = self.uuid();
        let time = format_micros(self.now_us);
        let _ = write!(
            out,
            r#","metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{}","creationTimestamp":"{time}","labels":{{"app.kubernetes.io/name":"{}","pod-template-hash":"{:x}"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"owner","uid":"{uid}","controller":true}}]}}"#,
            100_000 + self.made,
            *self.random.pick(APPS),
            self.random.below(1 << 32)
        );
        if bytes > 500 {
            let app = *self.random.pick(APPS);
            let _ = write!(
                out,
                r#","spec":{{"replicas":3,"template":{{"spec":{{"containers":[{{"name":"{app}","image":"registry.example/{app}:1.{}","ports":[{{"containerPort":8080,"protocol":"TCP"}}],"resources":{{"limits":{{"cpu":"500m","memory":"256Mi"}}}},"securityContext":{{"allowPrivilegeEscalation":false,"runAsNonRoot":true,"capabilities":{{"drop":["ALL"]}},"seccompProfile":{{"type":"RuntimeDefault"}}}},"env":["#,
                self.random.below(90)
            );
            let mut comma = "";
            while out.len() - from + 400 < bytes {
                let _ = write!(
                    out,
                    r#"{comma}{{"name":"SETTING_{:X}","value":"https://{app}.example/v1/{:x}?retry=3"}}"#,
                    self.random.below(1 << 16),
                    self.random.below(1 << 40)
                );
                comma = ",";
            }
            let _ = write!(
                out,
                r#"]}}],"restartPolicy":"Always","serviceAccountName":"{app}"}}}}}},"status":{{"observedGeneration":2,"conditions":[{{"type":"Available","status":"True","lastTransitionTime":"{time}","reason":"MinimumReplicasAvailable","message":"{kind} has minimum availability."}}]}}"#
            );
        }
        out.push_str("},");
    }
}

fn service_account_groups(name: &str) -> String {
    let namespace = name.split(':').nth(2).unwrap_or_default();
    format!(r#""system:serviceaccounts","system:serviceaccounts:{namespace}","system:authenticated""#)
}

fn controller_of(resource: &str) -> &'static str {
    match resource {
        "pods" => "replicaset-controller",
        "deployments" | "replicasets" => "deployment-controller",
        "jobs" => "job-controller",
        "endpoints" => "endpoint-controller",
        "endpointslices" => "endpointslice-controller",
        "ipaddresses" => "service-controller",
        _ => "generic-garbage-collector",
    }
}

fn kind_of(resource: &str) -> &'static str {
    match resource {
        "pods" => "Pod",
        "deployments" => "Deployment",
        "replicasets" => "ReplicaSet",
        "jobs" => "Job",
        "services" => "Service",
        "endpoints" => "Endpoints",
        _ => "Object",
    }
}

fn reason(code: u16) -> (&'static str, &'static str) {
    match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "is forbidden: User cannot do that"),
        404 => ("NotFound", "not found"),
        _ => {
            ("Conflict", "the object has been modified; please apply your changes to the latest version and try again")
        }
    }
}

fn path(verb: &str, group: &str, resource: &str, sub: &str, namespace: &str, name: &str) -> String {
    let mut path = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
    if !namespace.is_empty() {
        let _ = write!(path, "/namespaces/{namespace}");
    }
    let _ = write!(path, "/{resource}");
    if !name.is_empty() && verb != "create" || !sub.is_empty() {
        let _ = write!(path, "/{name}");
    }
    if !sub.is_empty() {
        let _ = write!(path, "/{sub}");
    }
    path + match (verb, sub) {
        ("list", _) => "?limit=500",
        ("watch", _) => "?allowWatchBookmarks=true&watch=true",
        (_, "exec") => "?command=ls&container=web&stdout=true",
        ("patch" | "update" | "create", _) => "?fieldManager=controller",
        _ => "",
    }
}

/// So many Sigma rules, each different, of shapes that rule collections have: most about a deed on a resource, some about
/// a person, a word of a user agent, or a value in a body.
pub fn rules(count: usize, seed: u64) -> String {
    let mut random = Random(seed);
    let mut out = String::new();
    for n in 0..count {
        let (_, _, verb, _, resource, ..) = KINDS[random.below(KINDS.len())];
        let name = format!("{}-{}", *random.pick(APPS), random.below(5000));
        let condition = match random.below(5) {
            0 => format!("verb: {verb}\n    objectRef.resource: {resource}\n    objectRef.name|startswith: '{name}'"),
            1 => format!(
                "objectRef.resource: {resource}\n    user.username|endswith: ':{name}'\n    responseStatus.code: 403"
            ),
            2 => format!("verb: [create, patch]\n    objectRef.resource: {resource}\n    userAgent|contains: '{name}'"),
            3 => format!("objectRef.namespace: '{name}'\n    objectRef.resource: {resource}\n    verb: {verb}"),
            _ => format!(
                "objectRef.resource: {resource}\n    requestObject.spec.template.spec.containers.image|contains: '/{name}:'"
            ),
        };
        let _ = write!(
            out,
            "---\ntitle: Generated {n}\nid: 00000000-0000-4000-8000-{n:012}\nlogsource: {{product: kubernetes, service: audit}}\nlevel: low\ndetection:\n  selection:\n    {condition}\n  condition: selection\n"
        );
    }
    out
}
