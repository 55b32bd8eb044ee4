#!/bin/bash
# Node.js 18 gives its heap a limit above the container's memory limit when that is
# small: 259 MiB under every limit from 32 to 512 MiB (cgroup v1).
#
# Version: Node.js 18.20.4 of Debian 12 (nodejs 18.20.4+dfsg-1~deb12u2, libuv1
# 1.44.2), in containers of Docker Engine 20.10.24. Asserted for Node.js 18 on cgroup
# v1; elsewhere the script prints what it sees and exits 0.
#
# Behaviour:
#  - heap_size_limit is about half of the container's limit from 768 MiB on, and 2096
#    MiB from 4 GiB on.
#  - Below, it does not fall under 259 MiB: also at a limit of 128, 64 and 32 MiB.
#
# Consequence: under a limit of 256 MiB or less the collector sees no reason to collect
# hard before the kernel kills the process; --max-old-space-size has to be set. From 512
# MiB on the process runs out of its own heap first, and a limit that is raised while it
# runs does not help: the heap is sized at the start.
#
# Observed (container's limit in MiB: heap_size_limit in MiB):
#   32: 259   64: 259   128: 259   256: 259   512: 259
#   768: 396   1024: 524   2048: 1048   4096: 2096   8192: 2096
#
# Needs root, apt (Debian 12), docker and a local Engine. Exit: 0 as described, 1 the
# behaviour differs, 2 it cannot run here.
set -euo pipefail

cannot() {
  echo "cannot run: $*" >&2
  exit 2
}

for tool in apt-get apt-cache dpkg-deb docker tar; do
  command -v "$tool" >/dev/null || cannot "$tool is not installed"
done
timeout 15 docker version --format 'Docker Engine {{.Server.Version}}' 2>/dev/null || cannot "no Docker Engine answers"
cgroups=$(docker info --format '{{.CgroupVersion}}')

tmp=$(mktemp -d)
image=finding-$$-$RANDOM:1
cleanup() {
  timeout 20 docker rmi -f "$image" >/dev/null 2>&1 || true
  rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

pinned=18.20.4+dfsg-1~deb12u2
apt-cache madison nodejs | grep -qF " $pinned " || cannot "apt has no nodejs $pinned"
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
  --no-enhances libnode108 | grep -E '^[a-z0-9]' | grep -vE '^(debconf|cdebconf|perl|dpkg|python|install-info)')
mkdir "$tmp/debs" "$tmp/root"
for p in "nodejs=$pinned" $packages; do
  (cd "$tmp/debs" && apt-get -qq -o APT::Sandbox::User=root download "$p") >/dev/null 2>&1 || true # virtual packages
done
for deb in "$tmp"/debs/*.deb; do dpkg-deb -x "$deb" "$tmp/root"; done
tar -C "$tmp/root" -c . | timeout 300 docker import - "$image" >/dev/null
version=$(timeout 60 docker run --rm "$image" /usr/bin/node --version)
echo "Node.js $version, cgroup v$cgroups"

failed=0
for pair in 32:259 64:259 128:259 256:259 512:259 768:396 1024:524 2048:1048 4096:2096 8192:2096; do
  limit=${pair%:*} want=${pair#*:}
  got=$(timeout 60 docker run --rm --network none -m "${limit}m" "$image" /usr/bin/node -p \
    'Math.round(require("v8").getHeapStatistics().heap_size_limit / 1048576)')
  echo "limit $limit MiB: heap_size_limit $got MiB"
  [ "$got" = "$want" ] || { echo "  differs: expected $want"; failed=1; }
done

case $version:$cgroups in
v18.*:1) ;;
*)
  echo "Not Node.js 18 on cgroup v1: nothing is asserted."
  exit 0
  ;;
esac
[ "$failed" = 0 ] || { echo "The behaviour differs from the description."; exit 1; }
echo "As described."
