#!/bin/bash
# Docker Engine 20.10 accepts an update of a running container to a memory limit below
# its memory reservation; after a stop the container cannot be started.
#
# Version: Docker Engine 20.10.24 (Debian 12, package docker.io). Asserted for
# every 20.10.x; for another version the script prints what it sees and exits 0.
#
# Behaviour:
#  - POST /containers/create with Memory below MemoryReservation answers 400 "Minimum
#    memory limit can not be less than memory reservation limit".
#  - POST /containers/ID/update of a container that was created with a reservation, to a
#    Memory below that reservation, answers 200, for a running and for a stopped one.
#    The kernel takes the limit, and the container runs on.
#  - POST /containers/ID/start of it answers 400 with the message of create, each time.
#  - An update to a limit above the reservation (200) makes it start again (204).
#
# Consequence: a program that changes limits must compare them with the reservation
# itself. The fault shows at the next restart of the container or of the host, with a
# restart policy in place too.
#
# Observed on 20.10.24+dfsg1:
#   create below the reservation: 400
#   update below the reservation, running: 200
#   the kernel's limit: 33554432
#   still running: true
#   first start: 400, second start: 400
#   update above the reservation: 200
#   start: 204
#
# Needs go, docker, curl and a local Engine. Exit: 0 as described, 1 the behaviour
# differs, 2 it cannot run here.
set -euo pipefail

cannot() {
  echo "cannot run: $*" >&2
  exit 2
}

for tool in go docker curl tar; do
  command -v "$tool" >/dev/null || cannot "$tool is not installed"
done
host=${DOCKER_HOST:-unix:///var/run/docker.sock}
case $host in
unix://*) socket=${host#unix://} ;;
*) cannot "the Engine's address is no Unix socket: $host" ;;
esac
export DOCKER_HOST=$host

tmp=$(mktemp -d)
name=finding-$$-$RANDOM

cleanup() {
  timeout 20 docker rm -f "$name-a" >/dev/null 2>&1 || true
  timeout 20 docker rmi -f "$name:1" >/dev/null 2>&1 || true
  rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# api METHOD PATH [BODY]: sets code and body to the answer's.
api() {
  code=$(curl -sS --max-time 15 --unix-socket "$socket" -o "$tmp/body" -w '%{http_code}' -X "$1" \
    -H 'Content-Type: application/json' ${3:+-d "$3"} "http://localhost$2") || cannot "no answer to $1 $2"
  body=$(cat "$tmp/body")
}

failed=0
# expect WHAT WANT GOT [DETAIL]: prints GOT, and counts a difference.
expect() {
  printf '%s: %s\n' "$1" "$3${4:+ $4}"
  if [ "$2" != "$3" ]; then
    echo "  differs: expected $2"
    failed=1
  fi
}

version=$(timeout 15 docker version --format '{{.Server.Version}}' 2>/dev/null) ||
  cannot "no Docker Engine answers at $host"
echo "Docker Engine $version"

cat >"$tmp/main.go" <<'GO'
package main

import "time"

func main() { time.Sleep(time.Hour) }
GO
(cd "$tmp" && CGO_ENABLED=0 timeout 60 go build -o pause main.go)
tar -C "$tmp" -c pause | timeout 30 docker import -c 'CMD ["/pause"]' - "$name:1" >/dev/null

reservation=$((64 << 20)) low=$((32 << 20)) high=$((128 << 20))
refused='{"message":"Minimum memory limit can not be less than memory reservation limit, see usage"}'

api POST "/containers/create?name=$name-b" \
  "{\"Image\":\"$name:1\",\"HostConfig\":{\"Memory\":$low,\"MemoryReservation\":$reservation}}"
expect "create below the reservation" "400 $refused" "$code $body"

api POST "/containers/create?name=$name-a" \
  "{\"Image\":\"$name:1\",\"HostConfig\":{\"Memory\":$high,\"MemorySwap\":$high,\"MemoryReservation\":$reservation}}"
[ "$code" = 201 ] || cannot "create: $code $body"
api POST "/containers/$name-a/start"
expect "start" 204 "$code" "$body"
pid=$(timeout 15 docker inspect -f '{{.State.Pid}}' "$name-a")

api POST "/containers/$name-a/update" "{\"Memory\":$low,\"MemorySwap\":$low}"
expect "update below the reservation, running" 200 "$code" "$body"
cgroup=$(awk -F: '$2 == "memory" || $1 == 0 && $2 == "" {print $3; exit}' "/proc/$pid/cgroup")
for file in "/sys/fs/cgroup/memory$cgroup/memory.limit_in_bytes" "/sys/fs/cgroup$cgroup/memory.max"; do
  [ ! -r "$file" ] || { expect "the kernel's limit" "$low" "$(cat "$file")"; break; }
done
expect "still running" true "$(timeout 15 docker inspect -f '{{.State.Running}}' "$name-a")"

timeout 30 docker stop -t 1 "$name-a" >/dev/null
for attempt in first second; do
  api POST "/containers/$name-a/start"
  expect "$attempt start" "400 $refused" "$code $body"
done
api POST "/containers/$name-a/update" "{\"Memory\":$high,\"MemorySwap\":$high}"
expect "update above the reservation" 200 "$code" "$body"
api POST "/containers/$name-a/start"
expect "start" 204 "$code" "$body"

case $version in
20.10.*) ;;
*)
  echo "Not 20.10.x: nothing is asserted."
  exit 0
  ;;
esac
[ "$failed" = 0 ] || { echo "The behaviour differs from the description."; exit 1; }
echo "As described."
