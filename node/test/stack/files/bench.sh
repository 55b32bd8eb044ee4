#!/bin/bash
# bench.sh db HOST | redis HOST: load in waves: two minutes busy, one minute calm.
export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
case $1 in
  db)
    until psql -h "$2" -U postgres -c 'select 1' >/dev/null 2>&1; do sleep 1; done
    pgbench -h "$2" -U postgres -i -s 25 -q postgres
    while :; do
      pgbench -h "$2" -U postgres -c 4 -R 60 -T 120 postgres
      psql -h "$2" -U postgres -c 'vacuum analyze'
      sleep 60
    done
    ;;
  redis)
    until redis-cli -h "$2" ping >/dev/null 2>&1; do sleep 1; done
    while :; do
      for _ in $(seq 24); do
        redis-benchmark -h "$2" -q -n 8000 -c 8 -r 60000 -d 1024 -t set,get
        sleep 4
      done
      redis-cli -h "$2" bgsave
      redis-benchmark -h "$2" -q -n 20000 -c 8 -r 60000 -d 1024 -t set
      sleep 60
    done
    ;;
esac
