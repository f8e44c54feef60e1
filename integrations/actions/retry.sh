#!/bin/sh
# Answers an alert of an agent that met a limit or errors that pass: tries its task again when that may help, and no more than a few times.
#
#   [actions]
#   limit_reached = ["/path/to/retry.sh", "{attempt_id}", "{task_id}", "{resets_at}"]
#   failed_session_transient_errors = ["/path/to/retry.sh", "{attempt_id}", "{task_id}"]
#
# RETRY_AGENT   what works on the task whose id it is given as $1, as in `my-orchestrator start`
# RETRY_AFTER_S the wait before the first try, doubled with each one, where no alert says when the limit is reset [300]
# RETRY_MOST    tries for one task in six hours [3]
# RETRY_STATE   a directory in which the tries are counted [.cache/agent-retries]
#
# The wait and the agent go on in the background when this script is done; `agentwatch exec` records the agent.
set -eu
attempt=$1
task=${2:-$1}
resets_at=${3:-}
: "${RETRY_AGENT:?say what tries again}"
case $task in */* | .*) echo "no name of a file: $task" && exit 2 ;; esac
state=${RETRY_STATE:-.cache/agent-retries}
mkdir -p "$state"
find "$state" -type f -mmin +360 -exec rm -f {} +
count=$(find "$state" -type f -name "$task.*" | wc -l)
if [ "$count" -ge "${RETRY_MOST:-3}" ]; then
    echo "$count tries did not help: a person should look at $task"
    exit 1
fi
touch "$state/$task.$count"
wait_s=${RETRY_AFTER_S:-300}
for _ in $(seq "$count"); do wait_s=$((wait_s * 2)); done
if [ -n "$resets_at" ]; then
    wait_s=$(($(date -d "$resets_at" +%s) - $(date +%s)))
    [ "$wait_s" -gt 0 ] || wait_s=0
fi
next="$attempt-retry-$((count + 1))"
nohup sh -c 'sleep "$1" && exec agentwatch exec --attempt "$2" --task "$3" -- sh -c "$RETRY_AGENT \"\$1\"" retry "$3"' retry "$wait_s" "$next" "$task" > /dev/null 2>&1 &
echo "$next starts in $wait_s s"
