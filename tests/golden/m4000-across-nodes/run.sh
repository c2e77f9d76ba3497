#!/bin/bash
# gpu-vm: the machine that vfio-kit would define in libvirt, as plain QEMU.
# Root runs it. The overlay and the seed are made beforehand:
#   qemu-img create -f qcow2 -F qcow2 -b /var/lib/libvirt/images/jammy-server-cloudimg-amd64.img /var/lib/libvirt/images/gpu-vm.qcow2 20G
#   vfio-kit render … --output cloud-init -o seed
#   xorriso -as mkisofs -V cidata -J -r -o /var/lib/libvirt/images/gpu-vm-seed.iso seed/user-data seed/meta-data seed/network-config
# Its memory takes 1024 hugepages, which are made so, and given back with - for +:
#   pool=/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
#   echo $(($(cat $pool) + 1024)) > $pool
# Its memory takes 3072 hugepages, which are made so, and given back with - for +:
#   pool=/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
#   echo $(($(cat $pool) + 3072)) > $pool
# Extra arguments go to QEMU. SSH_PORT (default 2222) on 127.0.0.1 leads to the guest's port 22.
set -euo pipefail

# Plain QEMU does not rebind drivers. By address, never by id, so that a twin card keeps its driver:
#   driverctl --nosave set-override 0000:01:00.0 vfio-pci
#   driverctl --nosave set-override 0000:01:00.1 vfio-pci
# and afterwards:
#   driverctl --nosave unset-override 0000:01:00.0
#   driverctl --nosave unset-override 0000:01:00.1
devices=(0000:01:00.0 0000:01:00.1)
for device in "${devices[@]}"; do
  driver=$(basename "$(readlink "/sys/bus/pci/devices/$device/driver" || true)")
  if [ "$driver" != vfio-pci ]; then
    echo "$device is bound to ${driver:-no driver}, not to vfio-pci; run:" >&2
    echo "  driverctl --nosave set-override $device vfio-pci" >&2
    exit 4
  fi
done

: "${SSH_PORT:=2222}"

# VFIO locks all of the guest's memory. root may, without limit; QEMU of another user needs this.
limit=$(ulimit -l)
if [ "$limit" != unlimited ] && [ "$limit" -lt 9437184 ]; then
  ulimit -l 9437184
fi

# QEMU pins nothing by itself, but names its threads: as soon as those of the vCPUs are all there,
# each is moved to the CPUs of its own. Until then they are where QEMU's other threads stay.
vcpu_cpus=("2-3,12" "2-3,12" "2-3,12" "2-3,12")
pin_vcpus() {
  local named thread name
  while kill -0 "$1" 2> /dev/null; do
    named=$(grep -lsx 'CPU [0-9]*/KVM' "/proc/$1/task/"*/comm | wc -l) || true
    [ "$named" -lt 4 ] || break
    sleep 0.2
  done
  for thread in "/proc/$1/task/"*; do
    read -r name 2> /dev/null < "$thread/comm" || continue
    if [[ $name =~ ^CPU\ ([0-9]+)/KVM$ ]]; then
      taskset -pc "${vcpu_cpus[BASH_REMATCH[1]]}" "${thread##*/}" > /dev/null
    fi
  done
}

# In a shell of its own, whose PID is QEMU's in the end.
(
qemu=$BASHPID
(pin_vcpus "$qemu" &)
exec qemu-system-x86_64 \
  -name guest=gpu-vm,debug-threads=on \
  -uuid ff2c847a-d129-5966-afd6-af569b5dba80 \
  -machine q35,accel=kvm,usb=off,dump-guest-core=off,memory-backend=pc.ram \
  -cpu host \
  -smp 4,sockets=1,cores=4,threads=1 \
  -m size=8192M \
  -object '{"qom-type":"thread-context","id":"tc-pc.ram","node-affinity":[0,1]}' \
  -object '{"qom-type":"memory-backend-memfd","id":"pc.ram","hugetlb":true,"hugetlbsize":2097152,"share":true,"prealloc":true,"prealloc-threads":4,"size":8589934592,"host-nodes":[0,1],"policy":"bind","prealloc-context":"tc-pc.ram"}' \
  -nodefaults \
  -no-user-config \
  -display none \
  -serial mon:stdio \
  -device '{"driver":"pcie-root-port","port":8,"chassis":1,"id":"pci.1","bus":"pcie.0","addr":"0x8"}' \
  -blockdev '{"driver":"qcow2","node-name":"disk","read-only":false,"discard":"unmap","file":{"driver":"file","filename":"/var/lib/libvirt/images/gpu-vm.qcow2","discard":"unmap"}}' \
  -device '{"driver":"virtio-blk-pci","bus":"pcie.0","addr":"0x4","drive":"disk","id":"virtio-disk0","bootindex":1}' \
  -blockdev '{"driver":"raw","node-name":"seed","read-only":true,"discard":"unmap","file":{"driver":"file","filename":"/var/lib/libvirt/images/gpu-vm-seed.iso","discard":"unmap"}}' \
  -device '{"driver":"virtio-blk-pci","bus":"pcie.0","addr":"0x5","drive":"seed","id":"virtio-disk1"}' \
  -netdev "user,id=hostnet0,hostfwd=tcp:127.0.0.1:${SSH_PORT}-:22" \
  -device '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:52:71:3a","bus":"pcie.0","addr":"0x3","rombar":0}' \
  -device '{"driver":"vfio-pci","host":"0000:01:00.0","id":"hostdev0","bus":"pci.1","addr":"0x0","rombar":0,"multifunction":true}' \
  -device '{"driver":"vfio-pci","host":"0000:01:00.1","id":"hostdev1","bus":"pci.1","addr":"0x0.0x1","rombar":0}' \
  "$@"
)
