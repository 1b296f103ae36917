#!/usr/bin/env bash
# Builds the compiled mmcv 2.1.0 for the torch of one Python environment and installs it there, in place of mmcv-lite.
#
#     scripts/build_mmcv.sh [PYTHON [FOLDER]]    # PYTHON: the environment's interpreter, default: python3
#
# With a FOLDER the environment stays as it is and mmcv goes there: PYTHONPATH=FOLDER puts it before mmcv-lite.
#
# The wheel fits one Python and one torch only. It is kept in $DUALRES_CACHE (default ~/.cache/dualres-plugin), so a
# second call for the same pair installs it in seconds. CPU operations by default: FORCE_CUDA=1 asks mmcv for the CUDA
# ones too (needs nvcc). MAX_JOBS limits the compiler processes.
set -euo pipefail

readonly VERSION=2.1.0
readonly PYTHON="${1:-python3}"
readonly FOLDER="${2:-}"

fail() {
    echo "build_mmcv: $*" >&2
    exit 1
}

command -v "$PYTHON" >/dev/null || fail "no interpreter '$PYTHON'. Give the python of your environment as the first argument."
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "'$PYTHON' is older than Python 3.9."
"$PYTHON" -m pip --version >/dev/null 2>&1 || fail "'$PYTHON' has no pip. Run '$PYTHON -m ensurepip' first."
"$PYTHON" -c 'import torch' 2>/dev/null || fail "'$PYTHON' has no working torch. Install torch and torchvision first: mmcv is compiled against them."
compiler="${CXX:-g++}"
command -v "$compiler" >/dev/null || fail "no C++ compiler '$compiler'. Install g++ (Debian: apt-get install g++), or set CXX."

tag="$("$PYTHON" -c '
import platform, sys, torch
print(f"cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}-{platform.machine()}")')"
[ "${FORCE_CUDA:-0}" = 1 ] && tag="$tag-cuda"
cache="${DUALRES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dualres-plugin}/mmcv/$tag"
mkdir -p "$cache" || fail "cannot write to '$cache'. Set DUALRES_CACHE to a folder that you can write to."

find_wheel() { find "$cache" -maxdepth 1 -name "mmcv-$VERSION-*.whl" | head -n 1; }

# Writes the compiler that mmcv gets, around the real one. It mends two things:
# - mmcv asks for C++17, but the headers of torch >= 2.12 are C++20;
# - nearly all of the time goes into reading torch's headers, once for each of 77 files. The first call compiles them
#   with the flags of all; GCC uses that where it fits and reads the headers as ever where it does not.
write_compiler() {
    local standard=c++17
    "$PYTHON" -c 'import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12))' &&
        standard=c++20
    {
        echo '#!/usr/bin/env bash'
        printf 'compiler=%q header=%q standard=%q\n' "$(command -v "$compiler")" "$1.hpp" "$standard"
        cat <<'EOF'
set -e
arguments=("${@/-std=c++17/-std=$standard}")
[[ " $* " == *.cpp\ * ]] && command -v flock >/dev/null || exec "$compiler" "${arguments[@]}"
flags=()
while [ $# -gt 0 ]; do
    case "$1" in
        -o | -MF) shift ;;
        -c | -MMD | *.cpp) ;;
        *) flags+=("${1/-std=c++17/-std=$standard}") ;;
    esac
    shift
done
exec 9>"$header.lock"
flock 9
if [ ! -e "$header" ]; then
    echo '#include <torch/types.h>' >"$header"
    "$compiler" "${flags[@]}" -x c++-header "$header" -o "$header.gch"
fi
exec 9>&-
exec "$compiler" -include "$header" "${arguments[@]}"
EOF
    } >"$1"
    chmod +x "$1"
}

build() {
    local work
    work="$(mktemp -d)"
    # shellcheck disable=SC2064  # $work is meant to be expanded now
    trap "rm -rf '$work'" EXIT

    # The build needs pkg_resources (setuptools < 82). pip's build isolation would not see torch, and installing
    # build tools into the environment would change it: put them in a folder of their own, first on the path.
    # --ignore-installed: without it pip leaves out what the environment already has, in whatever version.
    "$PYTHON" -m pip install --quiet --ignore-installed --target "$work/tools" setuptools==80.10.2 wheel ninja psutil ||
        fail "could not install the build tools (setuptools, wheel, ninja, psutil); see pip's message above."

    write_compiler "$work/c++"
    echo "build_mmcv: compiling mmcv $VERSION for $tag; this takes some minutes"
    mkdir "$work/wheel"
    PYTHONPATH="$work/tools" PATH="$work/tools/bin:$PATH" \
        MMCV_WITH_OPS=1 FORCE_CUDA="${FORCE_CUDA:-0}" MAX_JOBS="${MAX_JOBS:-$(nproc 2>/dev/null || echo 2)}" \
        CXX="$work/c++" CFLAGS="-O2 -g0 -DNDEBUG" \
        "$PYTHON" -m pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$work/wheel" "mmcv==$VERSION" \
        >"$cache/build.log" 2>&1 ||
        { tail -n 30 "$cache/build.log" >&2; fail "the build failed; the last lines are above, all of it in '$cache/build.log'."; }

    local wheel
    wheel="$(find "$work/wheel" -name "mmcv-$VERSION-*.whl")"
    # A build that cannot see torch ends well and leaves the operations out.
    "$PYTHON" -c 'import sys, zipfile
sys.exit(not any(name.startswith("mmcv/_ext.") for name in zipfile.ZipFile(sys.argv[1]).namelist()))' "$wheel" ||
        fail "the build ended without compiled operations; see '$cache/build.log'."
    # Copy, then rename: an interrupted copy must not look like a finished wheel.
    cp "$wheel" "$cache/.partial"
    mv "$cache/.partial" "$cache/$(basename "$wheel")"
}

start=$SECONDS
[ -n "$(find_wheel)" ] || build
wheel="$(find_wheel)"

if [ -n "$FOLDER" ]; then
    rm -rf "$FOLDER/mmcv" "$FOLDER/mmcv-$VERSION.dist-info"
    "$PYTHON" -m pip install --quiet --no-deps --target "$FOLDER" "$wheel" ||
        fail "could not install '$wheel' into '$FOLDER'; see pip's message above."
else
    # Both packages own the same folder: the old one has to go first, or uninstalling it later removes the new one.
    "$PYTHON" -m pip uninstall --quiet --yes mmcv mmcv-lite 2>/dev/null || true
    "$PYTHON" -m pip install --quiet "$wheel" || fail "could not install '$wheel'; see pip's message above."
fi
# Compiled operations come from a file; the stand-in of this package has none.
PYTHONPATH="${FOLDER:+$FOLDER:}${PYTHONPATH:-}" "$PYTHON" -c '
import mmcv._ext
from mmcv.ops import DeformConv2d, nms, roi_align
assert mmcv._ext.__file__' ||
    fail "mmcv was installed but its operations do not load. Delete '$cache' and try again."
echo "build_mmcv: mmcv $VERSION with compiled operations is in ${FOLDER:-"the environment of $PYTHON"} ($((SECONDS - start)) s). Wheel: $wheel"
