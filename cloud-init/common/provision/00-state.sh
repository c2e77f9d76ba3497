#!/bin/bash
# vfio-kit-provision: installs what /etc/vfio-kit/provision.conf names, proves it and holds it.
#   (nothing)          what is left to do; harmless and quick where all is done
#   --bake             without a GPU: nothing is loaded, and no reboot is wanted
#   --boot             as cloud-init runs it: the guest reboots by itself where it must
# It says where it is in /var/lib/vfio-kit/provision.state; exit status 0 for done and reboot, else 1.
set -Eeuo pipefail
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
# needrestart would ask, or restart sshd and cloud-init below our feet.
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l

# Where the system is: another root than / is for tests.
R=${VFIO_KIT_ROOT:-}
CONF=$R/etc/vfio-kit/provision.conf
STATE_DIR=$R/var/lib/vfio-kit
STATE=$STATE_DIR/provision.state
LOG=$R/var/log/vfio-kit-provision.log
KERNEL_LOG=$R/var/log/vfio-kit-kernel.log
RUN=$R/run/vfio-kit
HOOK=$R/var/lib/cloud/scripts/per-boot/vfio-kit-provision

MODE=guest
FROM_BOOT=0
STEP=preflight
NUMBER=0
OF=0

say() { echo "vfio-kit: $*"; }

die() { # REASON
  put_state failed "$1" "$(culprit)"
  echo "vfio-kit: FAILED: $1" >&2
  exit 1
}

boot_id() { cat "$R/proc/sys/kernel/random/boot_id"; }

# As a whole, or not at all: somebody may be reading it.
put_state() { # STATE [REASON [CULPRIT]]
  local reason
  reason=$(printf %s "${2-}" | tr -s '[:space:][:cntrl:]' ' ')
  mkdir -p "$STATE_DIR"
  chmod 755 "$STATE_DIR"
  {
    echo "state=$1"
    echo "step=$STEP"
    echo "title=${TITLES[$STEP]}"
    echo "number=$NUMBER"
    echo "of=$OF"
    echo "boot=$(boot_id)"
    echo "time=$(date +%s)"
    echo "mode=$MODE"
    echo "reason=${reason:0:500}"
    echo "log=${LOG#"$R"}"
    echo "culprit=${3-}"
  } > "$STATE.new"
  chmod 644 "$STATE.new"
  mv -f "$STATE.new" "$STATE"
}

# The first kind of file that tells why this step failed, the newest of its kind, if it was written
# in this run: an old one tells of something else.
culprit() {
  local pattern file newest=$RUN/began
  for pattern in ${CULPRITS[$STEP]-}; do
    for file in "$R"$pattern; do
      if [ "$file" -nt "$newest" ]; then newest=$file; fi
    done
    if [ "$newest" != "$RUN/began" ]; then
      echo "${newest#"$R"}"
      return
    fi
  done
}

# What fails without a word of its own: the command is the reason.
on_error() { # STATUS LINE COMMAND
  [ "$BASH_SUBSHELL" -gt "$MAIN_SUBSHELL" ] || FAILED_COMMAND="$3 (line $2) ended with exit status $1"
}

on_exit() {
  local status=$?
  leave
  [ "$status" = 0 ] || grep -qx 'state=failed' "$STATE" \
    || put_state failed "${FAILED_COMMAND:-the script was ended with exit status $status}" "$(culprit)"
  exit "$status"
}

begin_step() { # CODE
  STEP=$1
  NUMBER=$((NUMBER + 1))
  put_state running
  say "[$NUMBER/$OF] ${TITLES[$1]}"
}
