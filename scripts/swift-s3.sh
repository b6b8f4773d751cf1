#!/usr/bin/env bash
# A private OpenStack Swift with s3api on loopback: a real S3 server for the tests.
#   swift-s3.sh start DIR PORT...   PORT... are five free ports: S3, account, container, object, memcached.
#                                   Prints "S3 on http://127.0.0.1:<first port>" once all listen; pids in DIR/run/*.pid.
#   swift-s3.sh stop DIR            Ends the processes that `start` began, by pid; the data stay in DIR.
# Access key test:tester, secret key testing, region us-east-1, path style.
# Not supported by Swift 2.30: aws-chunked bodies, If-None-Match on PUT.
# Needs the Debian packages swift swift-proxy swift-account swift-container swift-object memcached (scripts/install-test-deps.sh).
set -euo pipefail

usage() {
  sed -n '2,8p' "$0" >&2
  exit 2
}

[ $# -ge 2 ] || usage
command=$1
root=$(mkdir -p "$2" && cd "$2" && pwd)

stop_all() {
  local file pid pids=()
  for file in "$root"/run/*.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || true
    # A stopped process (chaos tests) acts on the signal only when it goes on.
    kill -CONT "$pid" 2>/dev/null || true
    pids+=("$pid")
    rm -f "$file"
  done
  # Open keep-alive connections hold the servers for some seconds: not worth waiting for.
  for _ in 1 2 3 4 5; do
    [ ${#pids[@]} -gt 0 ] && kill -0 "${pids[@]}" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2>/dev/null || true
}

case "$command" in
  stop)
    stop_all
    exit 0
    ;;
  start) [ $# -eq 7 ] || usage ;;
  *) usage ;;
esac

for program in swift-ring-builder swift-proxy-server swift-account-server swift-container-server swift-object-server memcached; do
  command -v "$program" >/dev/null || {
    echo "swift-s3: $program is not installed; run scripts/install-test-deps.sh" >&2
    exit 1
  }
done

s3_port=$3 account_port=$4 container_port=$5 object_port=$6 memcached_port=$7
user=$(id -un)
etc=$root/etc
mkdir -p "$etc" "$root/node/d1" "$root/run"

cat > "$etc/swift.conf" <<X
[swift-hash]
swift_hash_path_prefix = dryapi
swift_hash_path_suffix = tests
[storage-policy:0]
name = single
default = yes
policy_type = replication
X

defaults() {
  cat <<X
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $1
workers = 0
user = $user
swift_dir = $etc
log_level = WARNING
log_address = $root/run/no-syslog
X
}

storage_server() {
  local name=$1 port=$2
  # Rings of one replica on one "disk"; kept over restarts of the same folder, as the data are.
  if [ ! -f "$etc/$name.ring.gz" ]; then
    swift-ring-builder "$etc/$name.builder" create 6 1 1 >/dev/null
    swift-ring-builder "$etc/$name.builder" add "r1z1-127.0.0.1:$port/d1" 1 >/dev/null
    swift-ring-builder "$etc/$name.builder" rebalance >/dev/null
  fi
  {
    defaults "$port"
    cat <<X
devices = $root/node
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = $name-server
[app:$name-server]
use = egg:swift#$name
X
  } > "$etc/$name-server.conf"
}
storage_server account "$account_port"
storage_server container "$container_port"
storage_server object "$object_port"

{
  defaults "$s3_port"
  cat <<X
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache s3api tempauth slo dlo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
# The proxy may answer before the servers behind it do: else a handful of such errors makes it refuse everything for a minute.
error_suppression_limit = 1000000
error_suppression_interval = 0
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$memcached_port
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
dns_compliant_bucket_names = false
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
X
  for filter in catch_errors gatekeeper healthcheck slo dlo; do printf '[filter:%s]\nuse = egg:swift#%s\n' "$filter" "$filter"; done
} > "$etc/proxy-server.conf"

cd "$root"
launch() {
  local name=$1
  shift
  "$@" >"$root/run/$name.log" 2>&1 </dev/null &
  echo $! >"$root/run/$name.pid"
}
launch memcached memcached -u "$user" -l 127.0.0.1 -p "$memcached_port" -U 0 -m 32
for name in account container object; do launch "$name" "swift-$name-server" "$etc/$name-server.conf"; done

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# The proxy last: what it cannot reach yet it answers for in ways that say nothing about S3.
for _ in $(seq 300); do
  listens "$account_port" && listens "$container_port" && listens "$object_port" && break
  sleep 0.1
done
launch proxy swift-proxy-server "$etc/proxy-server.conf"
for _ in $(seq 600); do
  if listens "$s3_port" && listens "$account_port" && listens "$container_port" && listens "$object_port" && listens "$memcached_port"; then
    echo "S3 on http://127.0.0.1:$s3_port"
    exit 0
  fi
  sleep 0.1
done
tail -n 3 "$root"/run/*.log >&2
stop_all
echo "swift-s3: the servers did not come up within 60 s; their logs are in $root/run" >&2
exit 1
