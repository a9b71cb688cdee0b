#!/usr/bin/env bash
# Builds the function's artefacts for arm64 and x86_64 (or only those that are named), without Docker: bootstrap.zip with the
# roles that hits go through (`capture`, `index`), care.zip with the others (`setup`, `prune`, `manage`).
#
#     infra/build.sh [arm64] [x86_64]
#
# Needs Rust with rustup and Python 3 with venv. Zig links for the glibc of Amazon Linux 2023 whatever this machine
# has, and is the C compiler that `ring` needs for the other architecture. The same source and the same toolchain give
# the same bytes, in whatever folder. The zips in target/lambda, which the templates name, are the first one's.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GLIBC=2.34               # Amazon Linux 2023's
readonly LARGEST=$((1600 * 1000)) # bytes of a zip; a larger one starts more slowly

out=$PWD/target/lambda
mkdir -p "$out"
built=${CARGO_TARGET_DIR:-target}/zig

die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

tools() {
    local folder=$out/tools wanted=infra/build-requirements.txt
    if ! cmp -s "$wanted" "$folder/complete"; then
        rm -rf "$folder"
        python3 -m venv "$folder" || die 'python3 cannot make a venv (on Debian: apt-get install python3-venv)'
        "$folder/bin/pip" install --quiet --requirement "$wanted"
        cp "$wanted" "$folder/complete"
    fi
    PATH=$folder/bin:$PATH
}

build() { # TARGET FEATURE
    local home=${CARGO_HOME:-$HOME/.cargo}
    rustup target list --installed | grep -qx "$1" || rustup target add "$1"
    # Panics name the file they stand in; the name must not depend on where this machine keeps it.
    local flags="--remap-path-prefix=$home=/cargo"$'\x1f'"--remap-path-prefix=$PWD=/pixel"
    case $1 in
        # Outlined functions make the code smaller, and what it takes to unwind through them more than that larger.
        aarch64-*) flags+=$'\x1f'-Cllvm-args=-enable-machine-outliner=never ;;
        # With a frame pointer, a push needs no line in the tables for unwinding.
        x86_64-*) flags+=$'\x1f'-Cforce-frame-pointers=yes ;;
    esac
    CARGO_INCREMENTAL=0 CARGO_ENCODED_RUSTFLAGS=$flags \
        cargo zigbuild --quiet --locked --profile lambda --no-default-features --features "$2" --bin bootstrap \
        --target "$1.$GLIBC" --target-dir "$built"
}

check() { # ARCHITECTURE FILE NAME
    local machine needs wanted=62
    if [ "$1" = arm64 ]; then wanted=183; fi
    machine=$(od -An -j18 -N2 -tu2 "$2" | tr -d ' ')
    [ "$machine" = "$wanted" ] || die "$2 is for ELF machine $machine, not $wanted ($1)"
    needs=$(grep -aoE 'GLIBC_[0-9]+(\.[0-9]+)+' "$2" | sort -uV | tail -n 1)
    [ "$(printf 'GLIBC_%s\n%s\n' "$GLIBC" "$needs" | sort -V | tail -n 1)" = "GLIBC_$GLIBC" ] \
        || die "$2 needs $needs, and Lambda has $GLIBC"
    printf '%s: %s: glibc needed %s, ' "$1" "$3" "${needs#GLIBC_}"
    try "$1" "$2" "$3"
}

# A handler that it does not have is refused before anything else: it loads and runs, and has not what the other one is for.
try() { # ARCHITECTURE FILE NAME
    local run=() foreign=setup other=care said
    if [ "$3" = care ]; then foreign=capture other=bootstrap; fi
    if [ "$(uname -m)" != "${1/arm64/aarch64}" ]; then
        local root=${QEMU_LD_PREFIX:-/usr/aarch64-linux-gnu}
        if [ "$1" != arm64 ] || ! command -v qemu-aarch64 >/dev/null || [ ! -e "$root/lib/ld-linux-aarch64.so.1" ]; then
            printf 'not run (to run it here: qemu-aarch64, and libc6-arm64-cross or QEMU_LD_PREFIX)\n'
            return
        fi
        run=(qemu-aarch64 -L "$root")
    fi
    said=$(_HANDLER=$foreign AWS_LAMBDA_RUNTIME_API=127.0.0.1:9 timeout 60 "${run[@]}" "$2" 2>&1) || true
    [[ $said == *"give the function \`$other.zip\` as its code"* ]] || die "$2 does not run: $said"
    printf 'runs\n'
}

# Zopfli, because it is smaller and because other compressors differ from version to version. Fixed time, fixed mode.
pack() { # ARCHITECTURE FILE NAME
    local size
    mkdir -p "$out/$1"
    "$out/tools/bin/python" - "$2" "$out/$1/$3.zip" <<'PYTHON'
import struct, sys, zlib
from zopfli import ZOPFLI_FORMAT_DEFLATE, ZopfliCompressor
data = open(sys.argv[1], "rb").read()
compressor = ZopfliCompressor(ZOPFLI_FORMAT_DEFLATE, iterations=5)
packed = compressor.compress(data) + compressor.flush()
name, date = b"bootstrap", (2020 - 1980) << 9 | 1 << 5 | 1
common = struct.pack("<HHHHHLLLHH", 20, 0, 8, 0, date, zlib.crc32(data), len(packed), len(data), len(name), 0)
local = b"PK\3\4" + common + name + packed
# Made on Unix (3), a file (0o100000) that anyone may run.
central = b"PK\1\2" + struct.pack("<H", 3 << 8 | 20) + common + struct.pack("<HHHLL", 0, 0, 0, 0o100755 << 16, 0) + name
end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
open(sys.argv[2], "wb").write(local + central + end)
PYTHON
    size=$(wc -c <"$out/$1/$3.zip")
    [ "$size" -le "$LARGEST" ] || die "$out/$1/$3.zip has $size bytes, more than $LARGEST"
    printf '%s: %s.zip %d bytes, unpacked %d\n' "$1" "$3" "$size" "$(wc -c <"$2")"
    (cd "$out" && sha256sum "$1/$3.zip")
}

[ $# -gt 0 ] || set -- arm64 x86_64
for architecture; do
    case $architecture in
        arm64) target=aarch64-unknown-linux-gnu ;;
        x86_64) target=x86_64-unknown-linux-gnu ;;
        *) die "\`$architecture\` is no architecture of Lambda; give arm64 or x86_64" ;;
    esac
    tools
    for artefact in bootstrap:capture care:care; do
        name=${artefact%:*}
        build "$target" "${artefact#*:}"
        check "$architecture" "$built/$target/lambda/bootstrap" "$name"
        pack "$architecture" "$built/$target/lambda/bootstrap" "$name"
    done
done
cp "$out/$1/bootstrap.zip" "$out/$1/care.zip" "$out/"
