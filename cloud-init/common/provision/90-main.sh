
step_done() {
  rm -f "$HOOK" "$STATE_DIR/rebooted"
}

provision() {
  local code
  MAIN_SUBSHELL=$BASH_SUBSHELL
  FAILED_COMMAND=
  trap 'on_error $? $LINENO "$BASH_COMMAND"' ERR
  trap on_exit EXIT
  mkdir -p "$RUN" "$STATE_DIR"
  touch "$RUN/began"
  say "$(date -u '+%F %T') UTC, kernel $(uname -r), mode $MODE"
  for code in "${STEPS[@]}"; do
    begin_step "$code"
    "step_${code//-/_}"
  done
  put_state "done"
  say "done, $SECONDS s"
}

main() {
  local word status=0
  [ "$(id -u)" = 0 ] || { echo "vfio-kit-provision: run it as root: sudo $0" >&2; exit 2; }
  # shellcheck source=/dev/null
  . "$CONF"
  for word in "$@"; do
    case $word in
      --bake) MODE=bake ;;
      --boot) FROM_BOOT=1 ;;
      *) sed -n '2,6s/^# \?//p' "$0" >&2; exit 2 ;;
    esac
  done
  # One at a time. -o: what a package starts does not keep the lock.
  if [ -z "${VFIO_KIT_LOCKED-}" ]; then
    mkdir -p "$RUN"
    export VFIO_KIT_LOCKED=1
    flock --nonblock --conflict-exit-code 75 -o "$RUN/lock" "$BASH" "$0" "$@" || status=$?
    [ "$status" != 75 ] || echo "vfio-kit-provision: another run of it is at work" >&2
    exit "$status"
  fi
  if [ "$MODE" = bake ]; then
    mapfile -t STEPS < <(printf '%s\n' "${STEPS[@]}" | grep -vx load)
  fi
  OF=${#STEPS[@]}
  mkdir -p "${LOG%/*}"
  provision 2>&1 | tee -a "$LOG"
}

# Tests take the functions alone.
[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
