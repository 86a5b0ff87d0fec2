#!/bin/sh
# A real kube-apiserver with auditwatch beside its log and behind its audit webhook at the same time: both must store the
# same alerts. Needs build.sh's programs, openssl, curl and jq; everything listens on loopback. Takes a minute or two.
#
# usage: run.sh [AUDITWATCH]    (default: target/release/auditwatch)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
auditwatch=$(realpath "${1:-$here/../../target/release/auditwatch}")
dir=${E2E_DIR:-$here/../../target/e2e}
bin=$(cd "$dir/bin" && pwd)
run=$dir/run
port=${E2E_PORT:-16443}
hook=$((port + 1)) etcd=$((port + 2)) peer=$((port + 3))

rm -rf "$run"
mkdir -p "$run"
cd "$run"
pids=
stop() {
  # The API server first, which would wait for etcd.
  for pid in $pids; do
    kill "$pid" 2> /dev/null || continue
    until_true 10 gone "$pid" || kill -9 "$pid"
    wait "$pid" 2> /dev/null || true
  done
}
gone() {
  ! kill -0 "$1"
}
trap stop EXIT
fail() {
  echo "FAILED: $*" >&2
  tail -n 5 ./*.err >&2
  exit 1
}
start() {
  name=$1
  shift
  "$@" > "$name.out" 2> "$name.err" &
  pids="$! $pids"
}
# until N COMMAND: tries once a second.
until_true() {
  tries=$1
  shift
  while [ "$tries" -gt 0 ]; do
    if "$@" > /dev/null 2>&1; then return 0; fi
    tries=$((tries - 1))
    sleep 1
  done
  return 1
}

# certificate NAME SUBJECT PURPOSE: signed by ca.
certificate() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2> openssl.err
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n' "$3" > ext
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out "$1.crt" 2> openssl.err
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=e2e 2> openssl.err
certificate server /CN=kube-apiserver serverAuth
certificate hook /CN=auditwatch serverAuth
certificate apiserver /CN=kube-apiserver-audit clientAuth
certificate admin /O=system:masters/CN=admin clientAuth
certificate mallory /O=developers/CN=mallory clientAuth
openssl genrsa -out sa.key 2048 2> openssl.err
openssl rsa -in sa.key -pubout -out sa.pub 2> openssl.err

for side in tail hook; do
  case $side in
    tail) source="{type: file, paths: [\"$run/audit.log\"]}" ;;
    hook) source="{type: webhook, listen: '127.0.0.1:$hook', tls: {cert_file: hook.crt, key_file: hook.key, client_ca_file: ca.crt}}" ;;
  esac
  mkdir "$side"
  printf 'sources: [%s]\nstore: {path: "%s/state.db"}\nlateness: 4s\n' "$source" "$run/$side" > "$side.yaml"
  start "$side" "$auditwatch" run -c "$side.yaml"
done
"$auditwatch" webhook kubeconfig --server "https://127.0.0.1:$hook/" --ca-file "$run/ca.crt" \
  --client-cert-file "$run/apiserver.crt" --client-key-file "$run/apiserver.key" > hook.kubeconfig

start etcd "$bin/etcd" --data-dir "$run/etcd" --listen-client-urls "http://127.0.0.1:$etcd" \
  --advertise-client-urls "http://127.0.0.1:$etcd" --listen-peer-urls "http://127.0.0.1:$peer" \
  --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" --log-level error
start apiserver "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd" --bind-address 127.0.0.1 --secure-port "$port" \
  --advertise-address 10.10.0.100 --service-cluster-ip-range 10.96.0.0/16 --authorization-mode Node,RBAC \
  --client-ca-file ca.crt --tls-cert-file server.crt --tls-private-key-file server.key --allow-privileged=true \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file sa.pub \
  --service-account-signing-key-file sa.key --audit-policy-file "$here/policy.yaml" --audit-log-path "$run/audit.log" \
  --audit-log-maxsize 1 --audit-webhook-config-file hook.kubeconfig --audit-webhook-batch-max-wait 1s

api() {
  who=$1 method=$2 path=$3
  shift 3
  curl -s -o /dev/null --cacert ca.crt --cert "$who.crt" --key "$who.key" -X "$method" "https://127.0.0.1:$port$path" "$@"
}
create() {
  api "$1" POST "$2" -H 'Content-Type: application/json' -d "$3"
}
kill -0 "${pids%% *}" 2> /dev/null || fail "kube-apiserver did not start"
until_true 90 sh -c "curl -sk https://127.0.0.1:$port/readyz | grep -qx ok" || fail "kube-apiserver did not become ready"

# What an attacker does who found an administrator's certificate, after some knocking.
for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
  curl -sk -o /dev/null -H "Authorization: Bearer wrong$n" "https://127.0.0.1:$port/api/v1/secrets"
  api mallory GET "/api/v1/namespaces/default/secrets/s$n"
done
api admin GET /api/v1/secrets
create admin /apis/rbac.authorization.k8s.io/v1/clusterrolebindings '{"metadata":{"name":"e2e"},
  "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},
  "subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"mallory"}]}'
create admin /apis/rbac.authorization.k8s.io/v1/clusterroles \
  '{"metadata":{"name":"all"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}'
until_true 20 sh -c "curl -sf -o /dev/null --cacert ca.crt --cert mallory.crt --key mallory.key https://127.0.0.1:$port/api/v1/namespaces/kube-system/secrets" ||
  fail "the binding has no effect"
create mallory /api/v1/namespaces/default/serviceaccounts '{"metadata":{"name":"x"}}'
create mallory /api/v1/namespaces/default/pods '{"metadata":{"name":"p"},"spec":{"hostPID":true,"serviceAccountName":"x",
  "automountServiceAccountToken":false,"containers":[{"name":"c","image":"e2e","securityContext":{"privileged":true}}]}}'
api mallory POST '/api/v1/namespaces/default/pods/p/exec?command=sh&container=c&stdout=true'
create mallory /api/v1/namespaces/kube-system/serviceaccounts/clusterrole-aggregation-controller/token '{"spec":{}}'
api mallory DELETE /api/v1/namespaces/default/networkpolicies
# Enough to have the log rotated.
for n in $(seq 1 150); do
  create admin /api/v1/namespaces/default/configmaps "{\"metadata\":{\"name\":\"c$n\"},\"data\":{\"x\":\"$(head -c 4000 /dev/zero | tr '\0' x)\"}}"
done
api admin DELETE /api/v1/namespaces/default/configmaps

# Correlations are told when nothing earlier can come.
ids() {
  "$auditwatch" alerts --store "$1/state.db" --format json | jq -r .id | sort
}
same() {
  ids tail > tail.ids
  ids hook > hook.ids
  "$auditwatch" replay -q --format json audit*.log --lateness 4s | jq -r .id | sort > replay.ids
  [ -s tail.ids ] && cmp -s tail.ids hook.ids && cmp -s tail.ids replay.ids
}
until_true 60 same || {
  wc -l tail.ids hook.ids replay.ids >&2
  for pair in "tail hook" "tail replay"; do
    # shellcheck disable=SC2086
    set -- $pair
    comm -3 "$1.ids" "$2.ids" | sed "s/^/$1|$2 /" >&2
  done
  fail "the log, the webhook and a replay do not tell the same"
}
set -- audit*.log
[ $# -gt 1 ] || fail "the log was not rotated"
echo "the same $(wc -l < tail.ids) alerts from the log ($# files), from the webhook and from a replay:"
"$auditwatch" alerts --store tail/state.db --format json | jq -r '"\(.rule.level)\t\(.rule.ref // .rule.id)\t\(.rule.title)"' | sort | uniq -c
