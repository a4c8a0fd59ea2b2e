# Fetches the kernel that the meta package $BANGER_KERNEL depends on. Installing the meta package
# would bring an initramfs generator and most of a system. apt checks the one package against the
# signed index like any other.
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
package=$(apt-cache depends "$BANGER_KERNEL" |
    sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
if test -z "$package"; then
    echo "E: $BANGER_KERNEL depends on no kernel" >&2
    exit 1
fi
cd "$1/var/cache/apt/archives"
apt-get download "$package"
find . -type f ! -name "${package}_*.deb" -delete
