#!/bin/bash
# The inspect of a container whose image's entrypoint was cleared, sent back to Docker
# Engine 20.10 as it came, creates a container that runs the image's entrypoint.
#
# Version: Docker Engine 20.10.24 (Debian 12, package docker.io). Asserted for
# every 20.10.x; for another version the script prints what it sees and exits 0.
#
# Behaviour, with an image that has an ENTRYPOINT:
#  - A container created with "Entrypoint": [""] (docker create --entrypoint "") and a
#    command runs the command itself: Path is the command.
#  - Its inspect has "Entrypoint": null, as that of a container whose image has none.
#  - POST /containers/create with that Config and HostConfig, unchanged, gives a container
#    that runs the image's entrypoint, with the command as its arguments.
#  - With "Entrypoint": [""] in place of the null it is like the first one.
#
# Consequence: a program that creates a container like another one has to send [""] for a
# null. For an image without an entrypoint that changes nothing.
#
# Observed on 20.10.24+dfsg1:
#   first container: null, path /pause
#   same Config sent again: ["/entry"], path /entry
#   null replaced by [""]: null, path /pause
#   image without entrypoint, [""]: null, path /pause
#
# Needs go, docker, curl, python3 and a local Engine. Exit: 0 as described, 1 the behaviour
# differs, 2 it cannot run here.
set -euo pipefail

cannot() {
  echo "cannot run: $*" >&2
  exit 2
}

for tool in go docker curl python3 tar; do
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
  timeout 20 docker rm -f "$name-a" "$name-b" "$name-c" "$name-d" >/dev/null 2>&1 || true
  timeout 20 docker rmi -f "$name:with" "$name:without" >/dev/null 2>&1 || true
  rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

failed=0
# expect WHAT WANT CONTAINER: prints the entrypoint and the path of a container.
expect() {
  local got
  got=$(timeout 15 docker inspect -f '{{json .Config.Entrypoint}}, path {{.Path}}' "$3")
  printf '%s: %s\n' "$1" "$got"
  if [ "$2" != "$got" ]; then
    echo "  differs: expected $2"
    failed=1
  fi
}

# create NAME: sends the body on standard input.
create() {
  curl -sS --max-time 15 --unix-socket "$socket" -o "$tmp/answer" -w '%{http_code}' -H 'Content-Type: application/json' \
    -d @- "http://localhost/containers/create?name=$1" >"$tmp/code"
  [ "$(cat "$tmp/code")" = 201 ] || cannot "create $1: $(cat "$tmp/code" "$tmp/answer")"
}

version=$(timeout 15 docker version --format '{{.Server.Version}}' 2>/dev/null) ||
  cannot "no Docker Engine answers at $host"
echo "Docker Engine $version"

cat >"$tmp/main.go" <<'GO'
package main

import "time"

func main() { time.Sleep(time.Hour) }
GO
(cd "$tmp" && CGO_ENABLED=0 timeout 60 go build -o pause main.go && cp pause entry)
tar -C "$tmp" -c pause entry | timeout 30 docker import -c 'ENTRYPOINT ["/entry"]' - "$name:with" >/dev/null
tar -C "$tmp" -c pause entry | timeout 30 docker import - "$name:without" >/dev/null

create "$name-a" <<<"{\"Image\":\"$name:with\",\"Entrypoint\":[\"\"],\"Cmd\":[\"/pause\"]}"
expect "first container" 'null, path /pause' "$name-a"

timeout 15 docker inspect "$name-a" >"$tmp/inspect"
body() {
  python3 - "$tmp/inspect" "$1" <<'PY'
import json, sys
inspect = json.load(open(sys.argv[1]))[0]
body = inspect["Config"]
if sys.argv[2] == "cleared":
    body["Entrypoint"] = [""]
body["HostConfig"] = inspect["HostConfig"]
print(json.dumps(body))
PY
}
body same | create "$name-b"
expect "same Config sent again" '["/entry"], path /entry' "$name-b"
body cleared | create "$name-c"
expect 'null replaced by [""]' 'null, path /pause' "$name-c"
create "$name-d" <<<"{\"Image\":\"$name:without\",\"Entrypoint\":[\"\"],\"Cmd\":[\"/pause\"]}"
expect 'image without entrypoint, [""]' 'null, path /pause' "$name-d"

case $version in
20.10.*) ;;
*)
  echo "Not 20.10.x: nothing is asserted."
  exit 0
  ;;
esac
[ "$failed" = 0 ] || { echo "The behaviour differs from the description."; exit 1; }
echo "As described."
