#!/usr/bin/env bash
# Installs the Debian packages that the tests need: redis-server and OpenStack Swift (the S3 server), ffmpeg and espeak-ng, and chromium to look at the console.
# Does nothing where they are present; needs root or sudo otherwise. Prints one line, exits 1 with one sentence when it cannot.
set -euo pipefail

packages=(redis-server chromium curl ffmpeg espeak-ng memcached swift swift-proxy swift-account swift-container swift-object)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "test servers: present"
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
