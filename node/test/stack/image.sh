#!/bin/bash
# image.sh IMAGE: builds a container image of real software, without a registry:
# a Debian root file system with nginx, Node.js, Python, PostgreSQL, Redis and a JDK,
# and the programs in files/ at /opt. Needs root, debootstrap and a Docker Engine.
# Suite, mirror and proxy come from the configuration of apt on this machine.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 IMAGE" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
work=$(mktemp -d) root=$work/root
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(CODENAME) $(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk -v s="$suite" '$1==s && $2=="Debian" && $3=="main" && !n++ {print $4}')
[ -n "$mirror" ] || { echo "apt names no Debian mirror for $suite: run apt-get update" >&2; exit 1; }
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
for v in http_proxy https_proxy; do [ -z "${!v:-}" ] || export "${v?}"; done

# policy-rc.d keeps packages from starting services; the PID namespace keeps their
# scripts from seeing a process of this machine.
mkdir -p "$root/usr/sbin" "$root/usr/share/man/man1"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
unshare --mount --pid --fork --kill-child --propagation private debootstrap --variant=minbase "$suite" "$root" "$mirror" \
  >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
install -m 755 "$here"/files/* "$root/opt/"
cat >"$work/packages" <<'PACKAGES'
nginx-light nodejs python3 postgresql postgresql-contrib redis-server openjdk-17-jdk-headless
PACKAGES
unshare --mount --pid --fork --kill-child --propagation private chroot "$root" bash -c "
  mount -t proc proc /proc
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -qq -y --no-install-recommends $(cat "$work/packages") && javac -d /opt /opt/App.java" \
  >"$work/log" 2>&1 </dev/null || { tail -20 "$work/log" >&2; exit 1; }
rm -rf "$root"/usr/sbin/policy-rc.d "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/*
tar -C "$root" -c . | docker import - "$1" >/dev/null
echo "$1: $(docker run --rm "$1" bash -c '
  nginx -v 2>&1; echo "node $(node --version)"; python3 --version; ls /usr/lib/postgresql | sed "s/^/postgres /"
  redis-server --version | cut -d" " -f1-3; java --version | head -1' | tr '\n' ';')"
