#!/usr/bin/env bash
# The Debian packages that some tests use. As root they are installed; otherwise the tests that need them skip, named here.
set -u
PATH=$PATH:/usr/sbin:/sbin
missing=()
need() { # command, package...
  command -v "$1" >/dev/null || missing+=("${@:2}")
}
need chromium chromium
need ip iproute2
need nft nftables
need mkfs.ext4 e2fsprogs
need mount mount
need gcc gcc libc6-dev
need curl curl
need ceph-mon ceph-mon ceph-osd ceph-mgr ceph-common radosgw
need mosquitto mosquitto
need openssl openssl
[ -e /usr/lib/x86_64-linux-gnu/girepository-1.0/GstRtspServer-1.0.typelib ] || [ -e /usr/lib/aarch64-linux-gnu/girepository-1.0/GstRtspServer-1.0.typelib ] ||
  missing+=(gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing for the tests: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
fi
echo "not installed: ${missing[*]}; the tests that need them skip (install them, or run make test as root)"
