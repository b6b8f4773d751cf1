#!/usr/bin/env bash
# Brings a real Kubernetes control plane for scripts/verify-kubernetes.ts: API server, controller manager and scheduler 1.20, the only version whose
# whole source a Debian release carries (bookworm), built by Debian's Go 1.19, and Debian's etcd. The first build takes 15 to 30 minutes on two cores and
# leaves 4 programs in .cache/control-plane; does nothing where they are. Nothing is installed on the machine. Prints one line.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
into="$root/.cache/control-plane"
if [ -e "$into/.built" ]; then
  echo "control plane: present"
  exit 0
fi
for program in apt-get dpkg make rsync gcc; do
  command -v "$program" >/dev/null || { echo "control plane: $program is missing; install it (apt-get install make rsync gcc)" >&2; exit 1; }
done

work=$(mktemp -d)
log="$work/log"
trap 'status=$?; [ $status -eq 0 ] || { tail -n 5 "$log" >&2; cp "$log" "$root/.cache/control-plane.log"; echo "control plane: not built; the whole output is in .cache/control-plane.log" >&2; }; chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/src" "$work/go" "$work/etcd" "$into"
chmod 755 "$work"
# The mirror that this machine takes its own packages from.
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "control plane: apt knows no mirror; give it one in /etc/apt/sources.list" | tee "$log" >&2; exit 1; }
printf "%s $mirror bookworm main\\n" deb deb-src >"$work/apt/list"
apt=(apt-get -o "Dir::Etc::SourceList=$work/apt/list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/apt/lists"
  -o "Dir::Cache::Archives=$work/apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
{
  "${apt[@]}" update
  (cd "$work/src" && "${apt[@]}" source --download-only kubernetes && tar xzf kubernetes_*.orig.tar.gz --strip-components 1)
  (cd "$work/apt" && "${apt[@]}" download golang-1.19-go golang-1.19-src etcd-server)
  for package in "$work"/apt/golang*.deb; do dpkg -x "$package" "$work/go"; done
  dpkg -x "$work"/apt/etcd*.deb "$work/etcd"

  # What git would say of the version.
  printf "KUBE_GIT_%s='%s'\n" COMMIT debian TREE_STATE archive VERSION v1.20.2 MAJOR 1 MINOR 20 >"$work/version"
  cd "$work/src"
  env "PATH=$work/go/usr/lib/go-1.19/bin:$PATH" "KUBE_GIT_VERSION_FILE=$work/version" CGO_ENABLED=0 \
    "GOCACHE=${GOCACHE:-$work/cache}" nice make WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler"
  cp _output/local/go/bin/kube-{apiserver,controller-manager,scheduler} "$work/etcd/usr/bin/etcd" "$into"
} >"$log" 2>&1
touch "$into/.built"
echo "control plane: built in .cache/control-plane"
