#!/bin/sh
# A plugin for Nagios, Icinga and the like: check_vfio_kit.sh WORDS-OF-VERIFY...
#   check_vfio_kit.sh --host ops@gpu-01 --expect gpu_count=1
# There 1 is a warning, 2 critical and 3 unknown; of vfio-kit 3 is "not healthy" and 6 "not checked".
set -u

said=$(vfio-kit verify "$@" 2>&1)
status=$?
# The last line is the verdict, where there is one; a bar would begin the performance data.
error=$(printf '%s\n' "$said" | grep '^error: ' | head -n 1)
verdict=$(printf '%s\n' "${error:-$said}" | tail -n 1 | tr '|' '/')
case $status in
  0)
    if printf '%s\n' "$said" | grep -q 'healthy.*, with a warning: '; then code=1 word=WARNING; else code=0 word=OK; fi
    ;;
  3) code=2 word=CRITICAL ;;
  *) code=3 word=UNKNOWN ;;
esac
printf 'VFIO-KIT %s - %s\n' "$word" "$verdict"
printf '%s\n' "$said" | tr '|' '/'
exit "$code"
