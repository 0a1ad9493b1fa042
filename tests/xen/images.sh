# shellcheck shell=bash
# The images that real Xen is booted from, made of Debian's packages and kept in a cache. Sourced by
# run.sh, never run.
#
#   xen.elf           the hypervisor, unpacked: QEMU's multiboot loader takes no gzip
#   vmlinux           the kernel of domain 0 and of the guests, unpacked: emulated, that takes a
#                     minute at each start of a domain
#   dom0-initrd.cpio  finds the disk: virtio and ext4 are modules
#   dom0.img          domain 0: Debian with Xen's tools, QEMU and Python
#   guest-base.cpio   the guests' initramfs without xenlane: busybox, modules, socat, xenstore tools
#   guest-systemd.cpio  goes on top of that for a guest with systemd, udev and qemu-ga
#
# The cache's key is what goes into them: this file, domain 0's first program, every package's
# version. xenlane and the guests' programs are not part of them; run.sh lays these in at each run.

image_suite=bookworm
# The archive that this machine itself installs from, unless another is named.
image_mirror=${XENLANE_XEN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 2>/dev/null | head -n 1 || true)}

# On this machine: to make the images and to run them. The tools that go into the guests are copied
# from here too, with the libraries they need.
machine_packages=(
  qemu-system-x86 debootstrap busybox-static cpio e2fsprogs kmod xz-utils socat xenstore-utils
  xen-utils-4.17 binutils python3 systemd udev
)
dom0_packages=(xen-utils-4.17 xenstore-utils qemu-system-xen kmod python3 socat)

dom0_boot_modules=(virtio_pci virtio_blk ext4)
dom0_modules=(
  virtio_pci virtio_blk ext4 9pnet_virtio 9p
  xen-evtchn xen-gntdev xen-gntalloc xenfs xen-privcmd
)
guest_modules=(xen-evtchn xen-gntdev xen-gntalloc xenfs xen-privcmd)
# vchan-socket-proxy is not in PATH.
guest_programs=(
  /usr/bin/socat /usr/lib/xen-4.17/bin/vchan-socket-proxy
  /usr/bin/xenstore-{chmod,exists,list,ls,read,rm,write}
)

# Of systemd and udev a guest gets what it takes to come up and to follow devices; the rest of their
# units would only cost time.
guest_systemd_programs=(
  /lib/systemd/systemd /lib/systemd/systemd-journald /bin/systemctl /bin/journalctl /bin/udevadm
  /bin/systemd-tmpfiles /sbin/agetty
)
guest_systemd_wants=(
  systemd-udevd.service systemd-udev-trigger.service systemd-journald.service
  systemd-tmpfiles-setup-dev.service
)

kernel_package() {
  apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' |
    head -n 1
}

image_key() {
  local packages=("${machine_packages[@]}" "${dom0_packages[@]}" xen-hypervisor-4.17-amd64
    qemu-guest-agent "$(kernel_package)")
  {
    cat "$xen_tests/images.sh" "$xen_tests/dom0/initrd-init"
    echo "$image_mirror"
    apt-cache policy "${packages[@]}" | grep -E '^[^ ]|Candidate'
  } | sha256sum | cut -c 1-16
}

# copy_with_libraries ROOT PROGRAM...: programs go to ROOT/bin, libraries keep their paths.
copy_with_libraries() {
  local root=$1 program library
  shift
  mkdir -p "$root/bin"
  for program in "$@"; do
    install -m 755 "$program" "$root/bin/"
    # libgcc_s is opened by name when a thread is cancelled; nothing is linked to it.
    for library in $(ldd "$program" | grep -o '/[^ ]*') \
      /lib/x86_64-linux-gnu/libgcc_s.so.1; do
      [[ -e $root$library ]] || install -D -m 755 "$library" "$root$library"
    done
  done
}

# pack FOLDER FILE: an initramfs. Nothing in it depends on when or by whom it was made. It is not
# compressed: emulated, to unpack it takes longer than to read it.
pack() {
  (cd "$1" && find . -print0 | LC_ALL=C sort -z |
    cpio --quiet --null --create --format=newc --owner=0:0) >"$2"
}

# copy_modules ROOT MODULE...: with what they need, listed in ROOT/modules in the order to load.
copy_modules() {
  local root=$1 module file
  shift
  : >"$root/modules"
  for module in "$@"; do
    modprobe --dirname "$packages_root" --set-version "$kernel_version" --show-depends "$module"
  done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' | while read -r file; do
    install -D -m 644 "$file" "$root/lib/modules/${file##*/}"
    echo "/lib/modules/${file##*/}" >>"$root/modules"
  done
}

build_dom0_disk() {
  local root=$1/dom0
  debootstrap --variant=minbase --include="$(
    IFS=,
    echo "${dom0_packages[*]}"
  )" "$image_suite" "$root" "$image_mirror"
  rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/usr/share/{doc,man,locale}
  copy_modules "$root" "${dom0_modules[@]}"
  mkdir -p "$root/xen-test"
  truncate -s 1500M "$1/dom0.img"
  mkfs.ext4 -q -d "$root" "$1/dom0.img"
  rm -rf "$root"
}

build_initrds() {
  local root=$1/dom0-initrd
  mkdir -p "$root"/{bin,proc,sys,dev,root}
  install -m 755 /bin/busybox "$root/bin/"
  install -m 755 "$xen_tests/dom0/initrd-init" "$root/init"
  copy_modules "$root" "${dom0_boot_modules[@]}"
  pack "$root" "$1/dom0-initrd.cpio"

  root=$1/guest-base
  mkdir -p "$root"/{bin,proc,sys,dev,run,tmp}
  install -m 755 /bin/busybox "$root/bin/"
  copy_with_libraries "$root" "${guest_programs[@]}"
  copy_modules "$root" "${guest_modules[@]}"
  pack "$root" "$1/guest-base.cpio"
  rm -rf "$1/dom0-initrd" "$1/guest-base"
}

# Real systemd and udev, copied from this machine, and qemu-ga, that is not installed here.
build_guest_systemd() {
  local root=$1/guest-systemd unit applet
  mkdir -p "$root"/{bin,sbin,etc,lib/systemd,lib/udev/rules.d,root,var}
  # One tree: busybox has made /bin, and nothing else is in /usr.
  ln -s . "$root/usr"
  ln -s /run "$root/var/run"
  copy_with_libraries "$root" "${guest_systemd_programs[@]}" \
    "$packages_root/usr/sbin/qemu-ga"
  mv "$root"/bin/{agetty,qemu-ga} "$root/sbin/"
  for applet in $(busybox --list); do
    [[ $applet == busybox || -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
  done
  mv "$root"/bin/systemd{,-journald} "$root/lib/systemd/"
  ln -s ../../bin/udevadm "$root/lib/systemd/systemd-udevd"
  dpkg-query -L systemd udev | grep '^/lib/systemd/system' |
    tar -c -C / --no-recursion -T - 2>/dev/null | tar -x -C "$root"
  find "$root/lib/systemd/system-generators" -type f ! -name systemd-getty-generator -delete
  for unit in "$root"/lib/systemd/system/sysinit.target.wants/*; do
    [[ " ${guest_systemd_wants[*]} " == *" ${unit##*/} "* ]] || rm "$unit"
  done
  rm -r "$root"/lib/systemd/system/{getty,timers,multi-user}.target.wants
  cp /lib/udev/rules.d/99-systemd.rules "$root/lib/udev/rules.d/"
  printf '%s\n' root:x:0:0::/root:/bin/sh >"$root/etc/passwd"
  printf '%s\n' root:x:0: tty:x:5: >"$root/etc/group"
  echo 00000000000000000000000000000001 >"$root/etc/machine-id"
  pack "$root" "$1/guest-systemd.cpio"
  rm -rf "$root"
}

# unpack_kernel BZIMAGE: the ELF file inside, that the boot protocol's header points to.
unpack_kernel() {
  number_at() { od -A n -j "$2" -N "$3" -t "u$3" "$1" | tr -d ' '; }
  local begin length
  begin=$((($(number_at "$1" 497 1) + 1) * 512 + $(number_at "$1" 584 4)))
  # The last four bytes are the unpacked size.
  length=$(($(number_at "$1" 588 4) - 4))
  head -c "$((begin + length))" "$1" | tail -c "$length" | xz -dc
}

# Xen, the kernel and qemu-ga, taken out of their packages without installing any.
unpack_boot_packages() {
  local package
  mkdir -p "$1/packages" "$packages_root"
  (cd "$1/packages" && apt-get download -q xen-hypervisor-4.17-amd64 qemu-guest-agent \
    "$(kernel_package)")
  for package in "$1"/packages/*.deb; do dpkg-deb -x "$package" "$packages_root"; done
  kernel_version=$(basename "$packages_root"/lib/modules/*)
  depmod --basedir "$packages_root" "$kernel_version"
  gunzip -c "$packages_root"/boot/xen-4.17-amd64.gz >"$1/xen.elf"
  unpack_kernel "$packages_root/boot/vmlinuz-$kernel_version" >"$1/vmlinux"
}

# Makes the images in the given folder.
build_images() (
  set -euo pipefail
  local packages_root=$1/unpacked kernel_version
  unpack_boot_packages "$1"
  build_initrds "$1"
  build_guest_systemd "$1"
  build_dom0_disk "$1"
  rm -rf "$1/packages" "$packages_root"
)
