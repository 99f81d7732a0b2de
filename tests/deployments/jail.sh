#!/usr/bin/env bash
# Runs a command as a container would: a root file system that is read-only and holds the system, the folders named with
# --read and, writable, those named with --write; a user without rights or capabilities; a small /tmp. Needs root.
#   jail.sh [--read PATH]... [--write PATH]... -- COMMAND...
set -euo pipefail
if [ -z "${IN_JAIL:-}" ]; then exec env IN_JAIL=1 unshare --mount --propagation private "$0" "$@"; fi
root=$(mktemp -d /var/tmp/jail-XXXXXX)
mount -t tmpfs -o mode=755 tmpfs "$root"
bind() { # path, ro or rw
  mkdir -p "$root$1" 2>/dev/null || true
  [ -d "$1" ] || { rmdir "$root$1"; touch "$root$1"; }
  mount --bind "$1" "$root$1"
  mount -o "remount,bind,$2" "$root$1"
}
for folder in /usr /etc /proc /dev; do bind $folder ro; done
for link in /bin /sbin /lib /lib64; do [ -L $link ] && cp -a $link "$root/" || { [ -d $link ] && bind $link ro; }; done
mkdir "$root/tmp"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
while [ "$1" != -- ]; do
  case $1 in
    --read) bind "$2" ro ;;
    --write) bind "$2" rw ;;
  esac
  shift 2
done
shift
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"
