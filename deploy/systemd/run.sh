#!/bin/sh
# Starts `dryapi ARGUMENTS` for a unit: finds Node 24 and becomes it, so that systemd's main process is the program itself whatever Node
# stands first in the PATH. Looks for `node` in the PATH, then for the one that came as an npm package beside dryapi-worker.
set -u
# A drop-in may have set a PATH of Node's folder alone.
PATH="${PATH:-}:/usr/local/bin:/usr/bin:/bin"
needed=24
# Without links: a program that runs keeps its version while /opt/dryapi-worker is pointed at the next one.
root=$(cd "$(dirname "$0")/../.." && pwd -P) || exit 2
found=
for node in "$(command -v node)" "$root"/node_modules/node-linux-*/bin/node "$root"/../node-linux-*/bin/node; do
  [ -x "$node" ] || continue
  # One for another processor fails here and is passed over.
  version=$("$node" --version 2>/dev/null) || continue
  major=${version#v}
  major=${major%%.*}
  if [ "$major" -ge "$needed" ] 2>/dev/null; then
    exec "$node" "$root/scripts/dryapi.mjs" "$@"
  fi
  found="$found $node is $version;"
done
echo "dryapi: no Node $needed or newer:${found:- there is none at all;} looked in PATH=$PATH, $root/node_modules/node-linux-*/bin and $root/../node-linux-*/bin. Install dryapi-worker with its optional packages, or put Node $needed into the unit's PATH: \`systemctl edit\` the unit, then [Service] and Environment=PATH=/folder/of/node:/usr/local/bin:/usr/bin:/bin" >&2
exit 2
