#!/bin/bash
# Docker Engine 20.10 accepts a network that does not exist for a stopped
# container, and the container then cannot start.
#
# Version: Docker Engine 20.10.24 (Debian 12, package docker.io). Asserted for
# every 20.10.x; for another version the script prints what it sees and exits 0.
#
# Behaviour:
#  - POST /networks/NAME/connect with a NAME that no network has answers 200 when
#    the container is stopped, and `docker network connect` exits 0. The same
#    request for a running container answers 404 "network NAME not found".
#  - The Engine creates no such network, but records it for the container:
#    inspect lists it under NetworkSettings.Networks, with an empty NetworkID.
#  - POST /containers/ID/start then answers 404 "network NAME not found", although
#    the container exists. Each later start answers the same.
#  - Disconnecting the missing network (200) removes the record; start answers 204.
#
# Consequence: a client must check that a network exists before it connects a
# container that does not run, and must not read every 404 of start as "the
# container was removed".
#
# Observed on 20.10.24+dfsg1:
#   docker network connect, stopped container: exit 0
#   connect, stopped container: 200
#   inspect of the container: recorded, NetworkID ""
#   the network exists: no
#   start of a, of b, and of b again: 404 {"message":"network NAME not found"}
#   connect, running container: 404 {"message":"network NAME not found"}
#   disconnect: 200
#   start after disconnect: 204
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
missing=$name-missing

cleanup() {
  timeout 20 docker rm -f "$name-a" "$name-b" "$name-c" >/dev/null 2>&1 || true
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

func main() { time.Sleep(time.Minute) }
GO
(cd "$tmp" && CGO_ENABLED=0 timeout 60 go build -o pause main.go)
tar -C "$tmp" -c pause | timeout 30 docker import -c 'CMD ["/pause"]' - "$name:1" >/dev/null
for part in a b c; do
  timeout 20 docker create --name "$name-$part" "$name:1" >/dev/null
done
timeout 20 docker start "$name-c" >/dev/null
if timeout 15 docker network inspect "$missing" >/dev/null 2>&1; then cannot "a network named $missing exists"; fi
not_found="{\"message\":\"network $missing not found\"}"

# The command.
status=0
timeout 20 docker network connect "$missing" "$name-a" || status=$?
expect "docker network connect, stopped container: exit" 0 "$status"

# The API.
api POST "/networks/$missing/connect" "{\"Container\":\"$name-b\"}"
expect "connect, stopped container" 200 "$code" "$body"
format="{{with index .NetworkSettings.Networks \"$missing\"}}recorded, NetworkID \"{{.NetworkID}}\"{{end}}"
recorded=$(timeout 15 docker inspect -f "$format" "$name-b")
expect "inspect of the container" 'recorded, NetworkID ""' "$recorded"
exists=no
timeout 15 docker network inspect "$missing" >/dev/null 2>&1 && exists=yes
expect "the network exists" no "$exists"
for part in a b b; do
  api POST "/containers/$name-$part/start"
  expect "start of $part" "404 $not_found" "$code $body"
done
api POST "/networks/$missing/connect" "{\"Container\":\"$name-c\"}"
expect "connect, running container" "404 $not_found" "$code $body"
api POST "/networks/$missing/disconnect" "{\"Container\":\"$name-b\"}"
expect "disconnect" 200 "$code" "$body"
api POST "/containers/$name-b/start"
expect "start after disconnect" 204 "$code" "$body"

case $version in
20.10.*) ;;
*)
  echo "Not 20.10.x: nothing is asserted."
  exit 0
  ;;
esac
[ "$failed" = 0 ] || { echo "The behaviour differs from the description."; exit 1; }
echo "As described."
