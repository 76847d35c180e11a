#!/bin/sh
# One Sentinel for the service `hub`: sentinel.sh PRIMARY PORT OWN-NAME [OWN-PORT]
#
# It keeps what it learns (who is the primary now) in its file, so the file is written only where there is none yet.
# Names instead of addresses everywhere: a container that is made anew may have another address.
set -eu
file=$PWD/sentinel.conf
test -s "$file" || cat >"$file" <<END
port ${4:-26379}
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $3
sentinel monitor hub $1 $2 2
sentinel down-after-milliseconds hub 5000
sentinel failover-timeout hub 30000
END
# The image's own entry point gives the folder to its unprivileged user, and goes on as that one.
exec docker-entrypoint.sh valkey-server "$file" --sentinel
