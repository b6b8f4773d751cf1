#!/usr/bin/env bash
# Makes sure that there is a redis-server: from the PATH, else through apt-get as root or with sudo. Exits 1 with one sentence when neither.
set -euo pipefail
command -v redis-server >/dev/null && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then sudo=(sudo); fi
fi
if ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && [ ${#sudo[@]} -eq 0 ]; }; then
  echo "redis-server is missing and cannot be installed from here: install it (apt-get install redis-server), or set REDIS_URL to a running one" >&2
  exit 1
fi
echo "setup: installing redis-server with apt-get" >&2

# Only the program is wanted, not a service on port 6379. An existing policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
install() { "${apt[@]}" install -y --no-install-recommends redis-server >/dev/null 2>&1; }
# A fresh image has no package lists yet.
if ! install && ! { "${apt[@]}" update >/dev/null 2>&1 && install; }; then
  echo "apt-get could not install redis-server: install it by hand, or set REDIS_URL to a running one" >&2
  exit 1
fi
