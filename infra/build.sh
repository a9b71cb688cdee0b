#!/usr/bin/env bash
# Builds the function's zip for arm64 and x86_64 (or only those that are named), without Docker.
#
#     infra/build.sh [arm64] [x86_64]
#
# Needs Rust with rustup and Python 3 with venv. Zig links for the glibc of Amazon Linux 2023 whatever this machine
# has, and is the C compiler that `ring` needs for the other architecture. The same source and the same toolchain give
# the same bytes in any folder. target/lambda/bootstrap.zip, which the templates name, is that of the first architecture.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GLIBC=2.34                 # Amazon Linux 2023's
readonly MAX_BYTES=$((2000 * 1000)) # of a zip

out=$PWD/target/lambda
mkdir -p "$out"
built=${CARGO_TARGET_DIR:-target}/zig

die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

install_tools() {
    local folder=$out/tools wanted=infra/build-requirements.txt
    if ! cmp -s "$wanted" "$folder/complete"; then
        rm -rf "$folder"
        python3 -m venv "$folder" || die 'python3 cannot make a venv (on Debian: apt-get install python3-venv)'
        "$folder/bin/pip" install --quiet --requirement "$wanted"
        cp "$wanted" "$folder/complete"
    fi
    PATH=$folder/bin:$PATH
}

build() { # TARGET
    local home=${CARGO_HOME:-$HOME/.cargo}
    rustup target list --installed | grep -qx "$1" || rustup target add "$1"
    # Panics name their source file; the name must not depend on this machine's folders.
    local flags="--remap-path-prefix=$home=/cargo"$'\x1f'"--remap-path-prefix=$PWD=/pixel"
    CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$flags \
        cargo zigbuild --quiet --locked --release --no-default-features --features lambda --bin bootstrap \
        --target "$1.$GLIBC" --target-dir "$built"
}

check() { # ARCHITECTURE FILE
    local machine needs wanted=62
    if [ "$1" = arm64 ]; then wanted=183; fi
    machine=$(od -An -j18 -N2 -tu2 "$2" | tr -d ' ')
    [ "$machine" = "$wanted" ] || die "$2 is for ELF machine $machine, not $wanted ($1)"
    needs=$(grep -aoE 'GLIBC_[0-9]+(\.[0-9]+)+' "$2" | sort -uV | tail -n 1)
    [ "$(printf 'GLIBC_%s\n%s\n' "$GLIBC" "$needs" | sort -V | tail -n 1)" = "GLIBC_$GLIBC" ] \
        || die "$2 needs $needs, and Lambda has $GLIBC"
    printf '%s: glibc needed %s, ' "$1" "${needs#GLIBC_}"
    run "$1" "$2"
}

# An unknown handler is refused before anything else: the program loads and runs.
run() { # ARCHITECTURE FILE
    local emulator=() output
    if [ "$(uname -m)" != "${1/arm64/aarch64}" ]; then
        local root=${QEMU_LD_PREFIX:-/usr/aarch64-linux-gnu}
        if [ "$1" != arm64 ] || ! command -v qemu-aarch64 >/dev/null || [ ! -e "$root/lib/ld-linux-aarch64.so.1" ]; then
            printf 'not run (to run it here: qemu-aarch64, and libc6-arm64-cross or QEMU_LD_PREFIX)\n'
            return
        fi
        emulator=(qemu-aarch64 -L "$root")
    fi
    output=$(_HANDLER=none AWS_LAMBDA_RUNTIME_API=127.0.0.1:9 timeout 60 "${emulator[@]}" "$2" 2>&1) || true
    [[ $output == *"set \`Handler\` to one of"* ]] || die "$2 does not run: $output"
    printf 'runs\n'
}

pack() { # ARCHITECTURE FILE
    local size
    mkdir -p "$out/$1"
    # Time and mode are fixed, so that the same program gives the same zip; Zopfli is a twentieth smaller than zlib.
    "$out/tools/bin/python" - "$2" "$out/$1/bootstrap.zip" <<'PYTHON'
import sys, zipfile, zopfli
entry = zipfile.ZipInfo("bootstrap")
entry.create_system, entry.external_attr = 3, 0o100755 << 16  # made on Unix, a file that anyone may run
entry.compress_type = zipfile.ZIP_DEFLATED
with open(sys.argv[1], "rb") as program, zopfli.ZipFile(sys.argv[2], "w", iterations=5) as archive:
    archive.writestr(entry, program.read())
PYTHON
    size=$(wc -c <"$out/$1/bootstrap.zip")
    [ "$size" -le "$MAX_BYTES" ] || die "$out/$1/bootstrap.zip has $size bytes, more than $MAX_BYTES"
    printf '%s: bootstrap.zip %d bytes, unpacked %d\n' "$1" "$size" "$(wc -c <"$2")"
    (cd "$out" && sha256sum "$1/bootstrap.zip")
}

[ $# -gt 0 ] || set -- arm64 x86_64
for architecture; do
    case $architecture in
        arm64) target=aarch64-unknown-linux-gnu ;;
        x86_64) target=x86_64-unknown-linux-gnu ;;
        *) die "\`$architecture\` is not an architecture of Lambda; give arm64 or x86_64" ;;
    esac
    install_tools
    build "$target"
    check "$architecture" "$built/$target/release/bootstrap"
    pack "$architecture" "$built/$target/release/bootstrap"
done
cp "$out/$1/bootstrap.zip" "$out/"
