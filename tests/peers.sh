#!/usr/bin/env bash
# Installs the real agents that the tests run against, from Debian's own packages, without touching the system:
#   consul     1.8.7   from bullseye, the version whose wire protocols Lictor speaks
#   serf       0.9.4   from bookworm, memberlist's older wire
#   serf-0.10  0.10.1  from trixie, memberlist's newer wire
# Usage: peers.sh FOLDER. The programs are links in FOLDER/bin. What is there already is left alone.
# Needs apt-get and dpkg-deb, and no root.
set -euo pipefail
folder=${1:?usage: peers.sh FOLDER}
mkdir -p "$folder/bin"
folder=$(cd "$folder" && pwd)

for tool in apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || {
    echo "peers.sh: $tool is missing. This script takes the peers from Debian's packages; elsewhere put consul 1.8.7," >&2
    echo "serf 0.9.4 and serf 0.10.1 into one folder as consul, serf and serf-0.10, and set LICTOR_PEERS to it." >&2
    exit 1
  }
done

# install NAME SUITE PACKAGE: unpacks the package of a Debian release below FOLDER and links its program as NAME.
install() {
  local name=$1 suite=$2 package=$3 state=$folder/apt-$2
  [ -x "$folder/bin/$name" ] && return
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  # Whatever mirror this machine uses for Debian.
  local mirror
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | head -n 1)
  [ -n "$mirror" ] || { echo "peers.sh: no Debian mirror is known here; run apt-get update first" >&2; exit 1; }
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" \
    >"$state/sources.list"
  local options=(-oDir::Etc::SourceList="$state/sources.list" -oDir::Etc::SourceParts=/dev/null
                 -oDir::State::Lists="$state/lists" -oDir::Cache="$state/cache")
  [ "$(id -u)" != 0 ] || options+=(-oAPT::Sandbox::User=root)
  apt-get "${options[@]}" update -qq
  (cd "$state" && rm -f "$package"_*.deb && apt-get "${options[@]}" download -qq "$package")
  dpkg-deb -x "$state/$package"_*.deb "$folder/$name-files"
  ln -sf "../$name-files/usr/bin/$package" "$folder/bin/$name"
}

install consul bullseye consul
install serf bookworm serf
install serf-0.10 trixie serf
ls "$folder/bin"
