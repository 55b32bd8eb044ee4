#!/bin/bash
mkdir -p /opt/www
head -c 60000 /dev/urandom | base64 >/opt/www/page
exec nginx -c /opt/nginx.conf
