#!/usr/bin/env bash
# OpenStack's own tests against a cloud of two simulated hosts: make conformance
#
#   scripts/conformance.sh [--list FILE] [--judge DIR] [--keep] [-- OPTIONS OF run_tempest.sh]
#
# The judge is a folder with run_tempest.sh and its lists, by default ../shared/conformance beside the checkout. The
# default list is its smoke list without what needs block storage, which comes later.
set -euo pipefail
cd "$(dirname "$0")/.."
judge=../shared/conformance list= keep=0
while [ $# -gt 0 ]; do
    case $1 in
        --list) list=$2; shift 2 ;;
        --judge) judge=$2; shift 2 ;;
        --keep) keep=1; shift ;;
        --) shift; break ;;
        *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[ -x "$judge/run_tempest.sh" ] || { echo "conformance: there is no run_tempest.sh in $judge: give its folder with --judge" >&2; exit 2; }
judge=$(readlink -f "$judge")
prefix=${NEPHOS_PREFIX:-/opt/nephos}
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

if [ ! -x .venv-tempest/bin/tempest ]; then
    /usr/bin/python3 -m venv .venv-tempest
    .venv-tempest/bin/pip install -q tempest
fi

work=$(mktemp -d /var/tmp/nephos-conformance-XXXXXX)
chmod 755 "$work"
state=$work/state port=${PORT:-5960}
finish() {
    [ "$keep" = 1 ] && { echo "the cloud stays: $state"; return; }
    "$prefix/bin/nephos" down --purge --state "$state" >/dev/null
    rm -rf "$work"
}
trap finish EXIT
if [ -z "$list" ]; then
    list=$work/smoke.txt
    grep -vE 'tempest\.api\.volume|BootFromVolume' "$judge/tempest_public_smoke.txt" > "$list"
fi

"$prefix/bin/nephos" up --state "$state" --listen "127.0.0.1:$port" --hypervisor fake --hosts 2
eval "$("$prefix/bin/nephos" openrc admin --state "$state")"
openstack=$prefix/bin/openstack
head -c 1048576 /dev/urandom > "$work/image"
image() {
    "$openstack" image create "$1" --file "$work/image" --disk-format raw --container-format bare --public -f value -c id
}
first=$(image conformance-1) second=$(image conformance-2)
public=$("$openstack" network show public -f value -c id)

status=0
"$judge/run_tempest.sh" --auth-url "$OS_AUTH_URL" --password "$OS_PASSWORD" --image "$first" --image-alt "$second" \
    --flavor 42 --flavor-alt 84 --public-net "$public" --venv .venv-tempest --workdir "$work/tempest" --nodes 2 --cinder 0 \
    --floor "$judge/network_extensions_floor.txt" --list "$list" "$@" || status=$?
"$prefix/bin/nephos" audit --state "$state" || status=1
exit "$status"
