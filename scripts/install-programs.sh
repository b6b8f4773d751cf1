#!/usr/bin/env bash
# scripts/install-programs.sh <program> ...: makes sure that programs of Debian packages of the same name are there (redis-server, ffmpeg,
# espeak-ng): from the PATH, else through apt-get as root or with sudo. Exits 1 with one sentence when neither.
set -euo pipefail
missing=()
for program in "$@"; do
  command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -eq 0 ] && exit 0
hint=
[[ " ${missing[*]} " == *" redis-server "* ]] && hint=", or set REDIS_URL to a running Redis"

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then sudo=(sudo); fi
fi
if ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && [ ${#sudo[@]} -eq 0 ]; }; then
  echo "${missing[*]} missing and not to be installed from here: install it (apt-get install ${missing[*]})$hint" >&2
  exit 1
fi
echo "setup: installing ${missing[*]} with apt-get" >&2

# Only the programs are wanted, not a service on port 6379. An existing policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq)
install() { "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; }
# A fresh image has no package lists yet.
if ! install && ! { "${apt[@]}" update >/dev/null 2>&1 && install; }; then
  echo "apt-get could not install ${missing[*]}: install it by hand$hint" >&2
  exit 1
fi
