#!/usr/bin/env bash
# Sees to it that the tests of report.html find a browser: Chromium or Chrome on the path, or named in $CHROMIUM.
#
#     scripts/install_browser.sh    # as root on Debian or Ubuntu it installs Chromium; else it says what to do
#
# It never fails: without a browser those tests skip, and the list at the end of the run says so.
set -euo pipefail

say() { echo "install_browser: $*" >&2; }

for browser in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    if [ -n "$browser" ] && command -v "$browser" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "no browser here: installing Chromium"
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; then exit 0; fi
    say "apt-get could not install chromium"
fi
say "no Chromium or Chrome: the tests of report.html in a browser will be skipped. Install one" \
    "(Debian: sudo apt-get install chromium), or set CHROMIUM to its path."
