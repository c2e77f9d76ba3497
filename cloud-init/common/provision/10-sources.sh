
# Packages.

REFRESHED=0
STOPPED=()
APT=(
  # Other runs of apt hold the lock for minutes (cloud-init #2908).
  -o DPkg::Lock::Timeout=900 -o Acquire::Retries=5 -o APT::Update::Error-Mode=any
  -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)

# Of these packages those that are not installed (or not in that version: NAME=VERSION).
missing() { # PACKAGE...
  local package found
  for package in "$@"; do
    found=$(dpkg-query -W -f '${db:Status-Abbrev} ${Version}' "${package%%=*}" 2> /dev/null) || found=
    case $found in
      ?i*) [ "$package" = "${package%%=*}" ] || [ "${found##* }" = "${package#*=}" ] || echo "$package" ;;
      *) echo "$package" ;;
    esac
  done
}

refresh() {
  local try
  [ "$REFRESHED" = 0 ] || return 0
  for try in 1 2 3; do
    if apt-get -q "${APT[@]}" update; then
      REFRESHED=1
      return 0
    fi
    [ "$try" = 3 ] || sleep 10
  done
  die "apt cannot read its sources; the network, a proxy or the archive's mirror is at fault"
}

install_packages() { # PACKAGE...
  local wanted
  mapfile -t wanted < <(missing "$@")
  [ "${#wanted[@]}" -gt 0 ] || return 0
  refresh
  apt-get -q -y --no-install-recommends "${APT[@]}" install "${wanted[@]}" \
    || die "apt could not install ${wanted[*]}"
}

require_room() { # FOLDER MIB WHAT
  local left
  left=$(df --output=avail -BM "$1" | tail -n 1 | tr -dc '[:digit:]')
  [ "$left" -ge "$2" ] || die "$left MiB are free on the guest's disk; $3 wants $2"
}

# The first steps.

secure_boot() {
  local variable=$R/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
  # Four bytes of attributes, then the value.
  [ -r "$variable" ] && [ "$(od -An -tu1 -j4 -N1 "$variable" | tr -d ' ')" = 1 ]
}

locked_down() { grep -qs -e '\[integrity\]' -e '\[confidentiality\]' "$R/sys/kernel/security/lockdown"; }

step_preflight() {
  local found
  # shellcheck source=/dev/null
  found=$(. "$R/etc/os-release" && echo "$ID-$VERSION_ID")
  [ "$found" = "$GUEST" ] || die "this system is $found; the plan is for $GUEST"
  [ -n "$DRIVER" ] || return 0
  [ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m); the driver is for x86_64"
  if secure_boot || locked_down; then
    die "Secure Boot is on: this kernel refuses the module, which DKMS builds and nobody signs"
  fi
  [ -z "$(missing "${DRIVER_PACKAGES[@]}")" ] || require_room "$R/" 2048 "the driver, with its module,"
}

# The disk is found by its label. VFIO_KIT_BUNDLE names a folder in its place.
step_bundle() {
  local device=/dev/disk/by-label/VFIO-KIT bad
  BUNDLE=${VFIO_KIT_BUNDLE:-$RUN/bundle}
  if [ -z "${VFIO_KIT_BUNDLE-}" ] && ! mountpoint -q "$BUNDLE"; then
    mkdir -p "$BUNDLE"
    udevadm settle --timeout=30 || say "udev is still at work"
    [ -b "$device" ] || die "the bundle's disk is missing: no disk has the label VFIO-KIT"
    mount -o ro,nodev,nosuid -t iso9660 "$device" "$BUNDLE" || die "the bundle's disk $device cannot be mounted"
  fi
  [ -f "$BUNDLE/SHA256SUMS" ] || die "the bundle has no SHA256SUMS"
  if [ -n "${VFIO_KIT_BUNDLE-}" ] || [ ! -e "$RUN/bundle.checked" ]; then
    grep -qE '^[0-9a-f]{64} [ *](\./)?apt/Packages$' "$BUNDLE/SHA256SUMS" \
      || die "the bundle's SHA256SUMS does not list apt/Packages"
    bad=$(cd "$BUNDLE" && sha256sum --check --quiet --strict SHA256SUMS 2>&1) \
      || die "the bundle is damaged: $(head -n 3 <<< "$bad")"
    touch "$RUN/bundle.checked"
  fi
  # Its packages alone, in lists of their own: the guest's sources stay as they are, unread.
  mkdir -p "$RUN/lists/partial"
  echo "deb [trusted=yes] file:$BUNDLE/apt ./" > "$RUN/bundle.list"
  APT+=(-o "Dir::Etc::sourcelist=$RUN/bundle.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$RUN/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
}

# The timers of apt start when they like; what runs already is waited for.
quiet_apt() {
  local unit waited=0
  [ -d "$R/run/systemd/system" ] || return 0
  for unit in apt-daily.timer apt-daily-upgrade.timer; do
    ! systemctl is-active --quiet "$unit" || { systemctl stop "$unit" && STOPPED+=("$unit"); }
  done
  for unit in apt-daily.service apt-daily-upgrade.service; do
    while [ "$(systemctl show --property ActiveState --value "$unit")" = activating ] && [ "$waited" -lt 900 ]; do
      [ "$waited" -gt 0 ] || say "waiting for $unit"
      sleep 5
      waited=$((waited + 5))
    done
  done
}

# Undoes what a run changed for its own time only.
leave() {
  [ "${#STOPPED[@]}" = 0 ] || systemctl start "${STOPPED[@]}" || say "these timers did not start again: ${STOPPED[*]}"
  STOPPED=()
  ! mountpoint -q "$RUN/bundle" 2> /dev/null || umount "$RUN/bundle" || say "the bundle's disk stays mounted"
}

# Adds a component to every source that has main: to lines of .list files and to .sources files.
switch_on() { # COMPONENT
  local file
  for file in "$R"/etc/apt/sources.list "$R"/etc/apt/sources.list.d/*.list; do
    [ ! -f "$file" ] || sed -i -E "/^deb .* main( |\$)/ { / $1( |\$)/! s/ *\$/ $1/ }" "$file"
  done
  for file in "$R"/etc/apt/sources.list.d/*.sources; do
    [ ! -f "$file" ] || sed -i -E "/^Components:(.* )? ?main( |\$)/ { / $1( |\$)/! s/ *\$/ $1/ }" "$file"
  done
}

step_sources() {
  local component
  quiet_apt
  if [ -z "${BUNDLE-}" ]; then
    for component in "${COMPONENTS[@]}"; do
      switch_on "$component"
    done
  fi
  # An archive that does not answer is told here, not where its packages are missed.
  [ -z "$(missing "${DRIVER_PACKAGES[@]}" "${PACKAGES[@]}")" ] || refresh
}

# A repository of somebody else, after the driver is there: it has drivers, too
# (aws-parallelcluster-cookbook #3238). Its key is looked at before anything is believed.
add_repository() {
  local list=$R/etc/apt/sources.list.d/$REPOSITORY.list found key=$R/etc/apt/keyrings/$REPOSITORY.asc
  [ -n "$REPOSITORY" ] && [ -z "${BUNDLE-}" ] || return 0
  [ ! -f "$list" ] || return 0
  install_packages gpg ca-certificates curl
  if [ ! -f "$key" ]; then
    mkdir -p "${key%/*}"
    curl -fsSL --retry 5 -o "$key.new" "$REPOSITORY_KEY_URI" || die "the key $REPOSITORY_KEY_URI cannot be had"
    mv "$key.new" "$key"
  fi
  found=$(gpg --show-keys --with-colons "$key" | awk -F: '/^fpr:/ && !found {print $10; found = 1}')
  [ "$found" = "$REPOSITORY_FINGERPRINT" ] \
    || die "the key of $REPOSITORY has the fingerprint ${found:-(none)}, not $REPOSITORY_FINGERPRINT"
  echo "deb [signed-by=$key] $REPOSITORY_URI /" > "$list"
  REFRESHED=0
}
