#!/usr/bin/env bash
# A real S3 server for tests: one-node Ceph (monitor, one OSD on a sparse file, RADOS gateway) on loopback.
#   ceph.sh fresh|start|stop|kill FOLDER GATEWAY_PORT MONITOR_PORT      (the monitor takes the port after its own, too)
# Debian: ceph-mon ceph-osd radosgw ceph-common
set -euo pipefail
COMMAND=$1 D=$2 PORT=$3 MON=$4
export CEPH_CONF=$D/ceph.conf

wait_for() {
  for _ in $(seq 1 600); do if eval "$1" >/dev/null 2>&1; then return 0; fi; sleep 0.1; done
  echo "not within 60 s: $1" >&2
  return 1
}
start_monitor() { ceph-mon -i a --pid-file "$D/mon.pid" >>"$D/mon.out" 2>&1; }
start_osd() { ceph-osd -i 0 --pid-file "$D/osd.pid" >>"$D/osd.out" 2>&1; }
start_gateway() { radosgw -n client.rgw.a --pid-file "$D/rgw.pid" >>"$D/rgw.out" 2>&1; }
answers() { wait_for "(exec 3<>/dev/tcp/127.0.0.1/$PORT)"; }
signal_all() {
  for daemon in rgw osd mon; do
    if [ -s "$D/$daemon.pid" ]; then kill "-$1" "$(cat "$D/$daemon.pid")" 2>/dev/null || true; fi
    rm -f "$D/$daemon.pid" # the number may soon be another process's
  done
}

case $COMMAND in
stop) signal_all TERM; exit 0 ;;
kill) signal_all KILL; exit 0 ;;
start) start_monitor; start_osd; start_gateway; answers; exit 0 ;;
esac

mkdir -p "$D/mon" "$D/osd" "$D/rgw"
FSID=$(cat /proc/sys/kernel/random/uuid)
cat >"$CEPH_CONF" <<C
[global]
fsid = $FSID
mon host = [v2:127.0.0.1:$MON/0,v1:127.0.0.1:$((MON + 1))/0]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $D/keyring
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 500
run dir = $D
admin socket = $D/\$name.asok
log file = $D/\$name.log
debug ms = 0
ms bind ipv6 = false
[mon]
mon data = $D/mon
mon data avail crit = 1
mon data avail warn = 2
mon pg warn min per osd = 0
mon warn on insecure global id reclaim allowed = false
[osd]
osd data = $D/osd
osd objectstore = bluestore
bluestore block size = 10737418240
bluestore block create = true
osd memory target = 939524096
osd op num shards = 2
bluestore fsck on mount = false
bluestore fsck on umount = false
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:$PORT
rgw dns name = localhost
rgw data = $D/rgw
keyring = $D/keyring
rgw thread pool size = 32
rgw enable usage log = false
rgw gc obj min wait = 10
rgw user quota bucket sync interval = 1
rgw bucket quota ttl = 0
C
monmaptool --create --fsid "$FSID" --addv a "[v2:127.0.0.1:$MON,v1:127.0.0.1:$((MON + 1))]" "$D/monmap" >/dev/null
ceph-authtool --create-keyring "$D/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool "$D/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool "$D/keyring" --gen-key -n client.rgw.a --cap mon 'allow rwx' --cap osd 'allow rwx'
ceph-authtool "$D/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
ceph-mon --mkfs -i a --keyring "$D/keyring" --monmap "$D/monmap" >>"$D/mon.out" 2>&1
start_monitor
wait_for "timeout 5 ceph -s"
cat /proc/sys/kernel/random/uuid >"$D/osd.uuid"
ceph osd new "$(cat "$D/osd.uuid")" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$(cat "$D/osd.uuid")" >>"$D/osd.out" 2>&1
ceph osd crush add osd.0 1.0 host="$(hostname -s)" root=default >/dev/null 2>&1
start_osd
wait_for "ceph osd stat | grep -q '1 up'"
start_gateway
answers
