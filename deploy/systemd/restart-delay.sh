#!/bin/sh
# The growing pause between starts that fail one after the other: 1, 2, 4, 8, 16, 32 s, then 60 s for ever. A unit is never given up.
#   restart-delay.sh wait   as ExecStartPre: pauses for as long as the failures in a row ask for
#   restart-delay.sh note   as ExecStopPost: counts how it ended; an end without fault, or after five good minutes, begins anew
# The count lies in the unit's RuntimeDirectory, which `systemctl stop` removes. systemd has RestartSteps= for this from 254 on, but that
# counts the restarts of months together: a daemon that was killed once a week would wait the longest pause each time.
set -u
PATH="${PATH:-}:/usr/bin:/bin"
[ -n "${RUNTIME_DIRECTORY:-}" ] || exit 0
failures="$RUNTIME_DIRECTORY/failures"
started="$RUNTIME_DIRECTORY/started"
longest=60
quick=300

read -r uptime _ </proc/uptime
now=${uptime%.*}
count=0
[ -r "$failures" ] && read -r count <"$failures"

case "${1:-}" in
  wait)
    if [ "$count" -gt 0 ]; then
      pause=$longest
      [ "$count" -le 6 ] && pause=$((1 << (count - 1)))
      echo "dryapi: failed $count times in a row, the next start is in $pause s; systemctl restart starts at once" >&2
      # A stop meanwhile is no failure; systemd ends the sleep that is left.
      trap 'exit 0' TERM
      sleep "$pause" &
      wait
      read -r uptime _ </proc/uptime
      now=${uptime%.*}
    fi
    echo "$now" >"$started"
    ;;
  note)
    if [ "${SERVICE_RESULT:-}" = success ]; then
      rm -f "$failures"
    else
      since=$now
      [ -r "$started" ] && read -r since <"$started"
      [ $((now - since)) -lt "$quick" ] || count=0
      echo $((count + 1)) >"$failures"
    fi
    ;;
  *)
    echo "restart-delay.sh: expected wait or note, got '${1:-}'" >&2
    exit 2
    ;;
esac
