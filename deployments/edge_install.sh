#!/usr/bin/env bash
# The edge software of a device: installed beside the version that runs, tried, switched to, and gone back from by itself
# when the collector does not come up well.
#
#   edge_install.sh install BUNDLE    set up, or upgrade to, the version in a bundle (made by edge_bundle.sh)
#   edge_install.sh rollback          the version before, again
#   edge_install.sh list              versions on this device
#
# Files: $ROOT/versions/<version>/venv, $ROOT/current and $ROOT/previous (links). The spool and its state are never touched.
set -euo pipefail
ROOT=${EDGELOOP_ROOT:-/opt/edgeloop}
DEVICE=${EDGELOOP_DEVICE:-/etc/edgeloop/device.yaml}
RESTART=${EDGELOOP_RESTART:-systemctl restart edgeloop-edge}   # how the service is started anew
RUN_AS=${EDGELOOP_RUN_AS-runuser -u edgeloop --}               # who tries the new version: never root
HEALTHY_WITHIN=${EDGELOOP_HEALTHY_WITHIN:-120}                 # seconds until it has to be well
PYTHON=${PYTHON:-python3}
ONNXRUNTIME=${EDGELOOP_ONNXRUNTIME:-}                          # a wheel of your own in place of the CPU one
KEEP=3                                                         # versions that stay on the disk

say() { printf 'edgeloop: %s\n' "$*" >&2; }
stop() { say "$*"; exit 2; }

version_of() { basename "$(readlink "$ROOT/$1" 2>/dev/null || true)"; }

switch_to() { # the link is replaced in one step: at any moment it leads to a whole version
  ln -sfn "versions/$1" "$ROOT/.next" && mv -T "$ROOT/.next" "$ROOT/$2"
  sync -f "$ROOT"
}

is_well() { # $1: seconds. Well twice, five seconds apart, so that a collector that dies at once does not count
  local deadline=$((SECONDS + $1)) before=""
  while [ $SECONDS -lt $deadline ]; do
    if (cd "$(state_folder)" && "$ROOT/current/venv/bin/edgeloop" edge health --device "$DEVICE") 2>"$ROOT/.health"; then
      [ -n "$before" ] && [ $((SECONDS - before)) -ge 5 ] && return 0
      before=${before:-$SECONDS}
    else
      before=""
    fi
    sleep 1
  done
  return 1
}

state_folder() { [ -d /var/lib/edgeloop ] && [ "$ROOT" = /opt/edgeloop ] && echo /var/lib/edgeloop || echo "$ROOT"; }

make_version() { # $1: the bundle, $2: the version
  local folder=$ROOT/versions/$2 bundle=$1 source=()
  rm -rf "$folder.making" "$folder"
  mkdir -p "$folder.making/share"
  "$PYTHON" -m venv "$folder.making/venv"
  local pip=("$folder.making/venv/bin/python" -m pip --disable-pip-version-check --quiet install)
  [ -d "$bundle/wheels" ] && source=(--no-index --find-links "$bundle/wheels")
  "${pip[@]}" ${source[@]+"${source[@]}"} --require-hashes -r "$bundle/uv.txt"
  local uv=("$folder.making/venv/bin/uv" pip install --quiet --python "$folder.making/venv/bin/python" --no-deps)
  "${uv[@]}" ${source[@]+"${source[@]}"} --require-hashes -r "$bundle/edge.txt"
  "${uv[@]}" --no-index --find-links "$bundle" "edgeloop==$2"
  if [ -n "$ONNXRUNTIME" ]; then
    say "ONNX Runtime from $ONNXRUNTIME"
    "$folder.making/venv/bin/uv" pip uninstall --quiet --python "$folder.making/venv/bin/python" onnxruntime
    "${uv[@]}" "$ONNXRUNTIME"
  fi
  cp "$bundle/FIRST_BOOT.md" "$bundle/edgeloop-edge.service" "$folder.making/share/"
  # Scripts name the interpreter by its path, which is the final one from here on.
  grep -rlI "^#!$folder.making/venv/bin/python" "$folder.making/venv/bin" | xargs -r sed -i "1s|$folder.making/|$folder/|"
  sync -f "$folder.making"
  mv -T "$folder.making" "$folder"
}

forget_old() {
  local kept current previous
  current=$(version_of current) previous=$(version_of previous) kept=0
  for folder in $(ls -1dt "$ROOT"/versions/*/ 2>/dev/null); do
    folder=${folder%/}
    case $(basename "$folder") in "$current" | "$previous") continue ;; esac
    kept=$((kept + 1))
    [ $kept -le $((KEEP - 2)) ] || rm -rf "$folder"
  done
}

install() {
  local bundle=$1 wheel version before
  [ -d "$bundle" ] || stop "$bundle: there is no such folder: name a bundle"
  (cd "$bundle" && sha256sum --quiet --check SHA256SUMS) >&2 || stop "$bundle: is damaged: copy it again"
  wheel=$(ls "$bundle"/edgeloop-*.whl 2>/dev/null | head -n 1) || true
  [ -n "$wheel" ] || stop "$bundle: holds no edgeloop wheel: make it with edge_bundle.sh"
  version=$(basename "$wheel" | cut -d- -f2)
  before=$(version_of current)
  [ "$version" != "$before" ] || stop "version $version runs already: give a new version a new number"
  mkdir -p "$ROOT/versions"
  say "installing $version${before:+ beside $before}"
  make_version "$bundle" "$version" || { rm -rf "$ROOT/versions/$version.making"; stop "$version: cannot be installed; $before goes on"; }
  if [ -e "$DEVICE" ]; then
    (cd "$(state_folder)" && $RUN_AS "$ROOT/versions/$version/venv/bin/edgeloop" edge check --device "$DEVICE") >&2 ||
      { rm -rf "$ROOT/versions/$version"; stop "$version: does not work on this device; ${before:-nothing} goes on"; }
  else
    say "$DEVICE is not there yet: write it, then start the service (share/FIRST_BOOT.md)"
  fi
  [ -z "$before" ] || switch_to "$before" previous
  switch_to "$version" current
  [ -e "$DEVICE" ] || return 0
  $RESTART || true
  if is_well "$HEALTHY_WITHIN"; then
    say "$version runs"
    forget_old
    return 0
  fi
  say "$version is not well within $HEALTHY_WITHIN s: $(tail -n 1 "$ROOT/.health" 2>/dev/null)"
  [ -n "$before" ] || stop "there is no version to go back to"
  switch_to "$before" current
  $RESTART || true
  is_well $((4 * HEALTHY_WITHIN)) || stop "went back to $before, which is not well either: see its log"
  stop "went back to $before, which runs"
}

rollback() {
  local now before
  now=$(version_of current) before=$(version_of previous)
  [ -n "$before" ] && [ -d "$ROOT/versions/$before" ] || stop "there is no version to go back to"
  switch_to "$before" current
  switch_to "$now" previous
  $RESTART || true
  is_well "$HEALTHY_WITHIN" || stop "$before is not well: $(tail -n 1 "$ROOT/.health" 2>/dev/null)"
  say "$before runs; $now is kept"
}

list() {
  local folder name
  for folder in "$ROOT"/versions/*/; do
    [ -d "$folder" ] || continue
    name=$(basename "$folder")
    [ "$name" = "$(version_of current)" ] && echo "$name runs" && continue
    [ "$name" = "$(version_of previous)" ] && echo "$name before it" && continue
    echo "$name"
  done
}

case ${1:-} in
  install) [ $# = 2 ] || stop "install takes a bundle"; install "${2%/}" ;;
  rollback) rollback ;;
  list) list ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
