#!/bin/sh
# A gate: goes on only where every guest is fit for work.
#   gate.sh HOST...
# GATE_SECONDS   how long to wait for it (600)
# GATE_EXPECT    what must hold besides, as verify --expect takes it: gpu_count=1,driver=470
# GATE_EVIDENCE  the folder for what was found: verify.txt, verify.xml (gate-evidence)
# Exit status: that of vfio-kit: 0 open, 3 a guest is not healthy, 6 one was not checked.
set -u

[ "$#" -gt 0 ] || { echo "usage: $0 HOST..." >&2; exit 2; }
evidence=${GATE_EVIDENCE:-gate-evidence}
mkdir -p "$evidence" || exit 4

for host; do printf '%s\n' "$host"; done > "$evidence/hosts"
set -- --hosts "$evidence/hosts" --until healthy --for "${GATE_SECONDS:-600}" \
  --junit "$evidence/verify.xml"
[ -z "${GATE_EXPECT:-}" ] || set -- "$@" --expect "$GATE_EXPECT"

vfio-kit verify "$@" > "$evidence/verify.txt"
status=$?
cat "$evidence/verify.txt"
case $status in
  0) echo "gate: open" ;;
  3) echo "gate: closed, a guest is not healthy; the remedies stand above" >&2 ;;
  6) echo "gate: closed, a guest could not be checked: the network, SSH or its host key" >&2 ;;
  *) echo "gate: closed, nothing was checked: vfio-kit ended with status $status" >&2 ;;
esac
exit "$status"
