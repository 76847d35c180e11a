#!/bin/sh
# Makes servers one Cluster of primaries, and ends when it works: cluster.sh HOST:PORT HOST:PORT HOST:PORT
#
# May be repeated. Containers that were made anew may have other addresses than their nodes.conf says, so nodes that are
# a Cluster already are introduced to each other again.
set -eu
ask() { valkey-cli -h "${1%:*}" -p "${1#*:}" cluster "$2" ${3:+"$3" "$4"}; }

if ask "$1" info | grep -q cluster_slots_assigned:16384; then
    for node in "$@"; do
        ask "$1" meet "$(getent hosts "${node%:*}" | awk '{ print $1; exit }')" "${node#*:}"
    done
else
    valkey-cli --cluster create "$@" --cluster-replicas 0 --cluster-yes
fi
for node in "$@"; do
    until ask "$node" info | grep -q cluster_state:ok; do sleep 0.5; done
done
