#!/bin/sh
# Builds etcd and kube-apiserver from their Go modules into the folder named by E2E_DIR (default: target/e2e).
# Needs Go 1.26 or later and a Go module proxy; 10 to 25 minutes on two cores, once. KUBERNETES names another version.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=${E2E_DIR:-$here/../../target/e2e}
kubernetes=${KUBERNETES:-v1.36.3}
minor=${kubernetes#v1.}

mkdir -p "$dir/bin" "$dir/module"
cd "$dir/module"

# Kubernetes' own libraries live in its repository; a program outside it has to name their published versions.
if [ ! -e go.sum ] || ! grep -q "k8s.io/kubernetes $kubernetes\$" go.mod; then
  rm -f go.mod go.sum
  # shellcheck disable=SC2016
  staged=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | awk -F'"' '$2 == "GoMod" { print $4 }')
  {
    echo 'module e2e'
    awk '$1 == "go" { print; exit }' "$staged"
    awk '$1 == "godebug" || in_block { print; in_block = ($0 !~ /^\)/) } $1 == "godebug" && $2 != "(" { in_block = 0 }' "$staged"
    echo "require k8s.io/kubernetes $kubernetes"
    awk -v v="v0.$minor" '$1 ~ /^k8s\.io\// && $2 == "v0.0.0" { print "replace " $1 " => " $1 " " v }' "$staged" | sort -u
  } > go.mod
  cat > programs.go <<'GO'
//go:build programs

package e2e

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
GO
  go mod tidy
fi

v=k8s.io/component-base/version
ld="-s -w -X $v.gitVersion=$kubernetes -X $v.gitMajor=1 -X $v.gitMinor=${minor%%.*} -X $v.buildDate=2026-01-01T00:00:00Z"
for program in go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/kube-apiserver; do
  case $program in */v3) name=etcd ;; *) name=${program##*/} ;; esac
  if [ ! -x "$dir/bin/$name" ]; then
    echo "building $name (minutes)"
    CGO_ENABLED=0 go build -trimpath -ldflags "$ld" -o "$dir/bin/$name" "$program"
  fi
done
ls -l "$dir/bin"
