#!/bin/bash
# Seals an image that was baked: afterwards nothing in it tells of this machine, and whoever boots
# it has a first boot. Run as root, with the user to take away; the machine powers off by itself.
set -Eeuo pipefail
shopt -s nullglob dotglob
USER_TO_GO=$1
export LC_ALL=C

trap 'echo "seal: line $LINENO: $BASH_COMMAND ended with exit status $?" >&2' ERR

# Whoever writes at its end, or by itself, ends first.
for unit in apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service rsyslog.service \
  syslog.socket systemd-random-seed.service; do
  systemctl stop "$unit" 2> /dev/null || true # it is not there
done
journalctl --relinquish-var

# cloud-init: what it knows of this instance, and what it wrote for it.
cloud-init clean --logs --seed
rm -f /etc/netplan/*cloud-init*.yaml /etc/network/interfaces.d/*cloud-init* \
  /etc/systemd/network/*cloud-init* /etc/NetworkManager/system-connections/cloud-init* \
  /etc/ssh/sshd_config.d/*cloud-init.conf /etc/sudoers.d/*cloud-init-users
echo localhost > /etc/hostname

# Who it is: a first boot makes these anew.
: > /etc/machine-id
[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/lib/systemd/random-seed \
  /var/lib/systemd/credential.secret /etc/udev/rules.d/70-persistent-net.rules
rm -rf /var/lib/dhcp/* /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key

# Who was here.
rm -f /root/.ssh/authorized_keys /root/.bash_history /home/*/.bash_history
if getent passwd "$USER_TO_GO" > /dev/null; then
  userdel --force --remove "$USER_TO_GO" 2> /dev/null || [ $? = 6 ] || [ $? = 12 ]
  ! getent passwd "$USER_TO_GO" > /dev/null || { echo "seal: $USER_TO_GO stays" >&2; exit 1; }
fi
rm -f /etc/{passwd,shadow,group,gshadow,subuid,subgid}-

# What can be had again, or tells of this boot alone.
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/journal/* /tmp/* /var/tmp/* /var/crash/*
mkdir -p /var/lib/apt/lists/partial
find /var/log -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' -o -name '*.xz' \) -delete
find /var/log -type f -exec truncate --size=0 {} +

# The caches are of the packages that are there: the next boot has no cause to make them anew.
[ ! -x /lib/systemd/systemd-update-done ] || /lib/systemd/systemd-update-done

sync
fstrim --all 2> /dev/null || echo "seal: the disk takes no discards; the image will be larger" >&2

# No service is stopped in order, for each would write once more; file systems are unmounted.
systemd-run --quiet --on-active=1s --timer-property=AccuracySec=100ms \
  systemctl poweroff --force
echo sealed
