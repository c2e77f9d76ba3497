
has_gpu() {
  local device
  for device in "$R"/sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor" 2> /dev/null)" = 0x10de ] || continue
    case $(cat "$device/class") in 0x03*) return 0 ;; esac
  done
  return 1
}

# Once: what is not mended by a reboot is not mended by a second one.
want_reboot() { # REASON
  local before
  before=$(cat "$STATE_DIR/rebooted" 2> /dev/null) || before=
  [ -z "$before" ] || [ "$before" = "$(boot_id)" ] \
    || die "after a reboot still: $1 (where the host hands over the kernel, a direct boot, it must be the image's own)"
  boot_id > "$STATE_DIR/rebooted"
  put_state reboot "$1"
  say "the guest must reboot: $1; then it goes on by itself"
  if [ "$FROM_BOOT" = 1 ]; then
    # After cloud-init has ended and said so, not in the middle of it.
    systemd-run --no-block --quiet --unit vfio-kit-reboot --property After=cloud-final.service \
      systemctl reboot || shutdown -r +1
  fi
  exit 0
}

save_kernel_log() { dmesg > "$KERNEL_LOG" || say "the kernel's log cannot be read"; }

load() { # MODULE
  timeout 120 modprobe "$1" && return 0
  save_kernel_log
  die "$1 $VERSION does not load: $(grep -E 'NVRM|nvidia' "$KERNEL_LOG" | tail -n 1)"
}

step_load() {
  local running loaded
  running=$(uname -r)
  has_gpu || die "this guest has no NVIDIA GPU"
  [ "$running" = "$TARGET" ] || want_reboot "the kernel $running runs, and the driver is built for $TARGET"
  if [ -d "$R/sys/module/nouveau" ]; then
    timeout 60 modprobe -r nouveau || want_reboot "nouveau holds the card"
  fi
  load nvidia
  loaded=$(cat "$R/sys/module/nvidia/version")
  [ "$loaded" = "$VERSION" ] || want_reboot "the module that runs is of driver $loaded, the installed one of $VERSION"
  load nvidia-uvm
  # /dev/nvidia*: programs of others than root cannot make them.
  ! command -v nvidia-modprobe > /dev/null || nvidia-modprobe -c 0 -u || say "nvidia-modprobe made no device nodes"
}
