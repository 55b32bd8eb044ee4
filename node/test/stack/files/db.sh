#!/bin/bash
# PostgreSQL as its own user, reachable without a password on the test's network.
set -e
chown postgres: /proc/self/fd/1 2>/dev/null || true
exec setpriv --reuid postgres --regid postgres --clear-groups bash -c '
  export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGDATA=/tmp/data
  [ -f $PGDATA/PG_VERSION ] || { initdb -D $PGDATA >/dev/null && echo "host all all all trust" >>$PGDATA/pg_hba.conf; }
  exec postgres -D $PGDATA -c listen_addresses="*"'
