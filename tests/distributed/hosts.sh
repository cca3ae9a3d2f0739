#!/usr/bin/env bash
# Hosts of a test: network namespaces of this machine, with addresses of their own, joined by a bridge.
#   hosts.sh up COUNT [DELAY]    makes nst1 (10.77.0.1), nst2, ...; a delay, such as 50ms, holds for each message
#   hosts.sh down COUNT
set -euo pipefail
case $1 in
up)
  ip link add nstbridge type bridge
  ip link set nstbridge up
  for i in $(seq "$2"); do
    ip netns add "nst$i"
    ip link add "nstv$i" type veth peer name eth0 netns "nst$i"
    ip link set "nstv$i" master nstbridge up
    ip -n "nst$i" addr add "10.77.0.$i/24" dev eth0
    ip -n "nst$i" link set eth0 up
    ip -n "nst$i" link set lo up
    [ -z "${3:-}" ] || ip netns exec "nst$i" tc qdisc add dev eth0 root netem delay "$3"
  done
  ;;
down)
  for i in $(seq "$2"); do ip netns del "nst$i" 2>/dev/null || true; done
  ip link del nstbridge 2>/dev/null || true
  ;;
esac
