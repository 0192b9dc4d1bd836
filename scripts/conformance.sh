#!/usr/bin/env bash
# OpenStack's own tests against a cloud of two simulated hosts: make conformance
#
#   scripts/conformance.sh [--list FILE | --identity] [--security-compliance] [--system-token] [--judge DIR] [--keep]
#       [-- OPTIONS OF run_tempest.sh]
#
# The judge is a folder with run_tempest.sh and its lists, by default ../shared/conformance beside the checkout. The
# default list is its smoke list without what needs block storage, which comes later. --identity takes every test of
# the identity API that the installed Tempest has, but those of OAuth 1, which is not served. --security-compliance
# starts the cloud with lock-out and password history and tells Tempest so; --system-token lets Tempest administer
# identity by system-scoped tokens.
set -euo pipefail
cd "$(dirname "$0")/.."
judge=../shared/conformance list= keep=0 identity=0 compliance=0 system=0
while [ $# -gt 0 ]; do
    case $1 in
        --list) list=$2; shift 2 ;;
        --judge) judge=$2; shift 2 ;;
        --keep) keep=1; shift ;;
        --identity) identity=1; shift ;;
        --security-compliance) compliance=1; shift ;;
        --system-token) system=1; shift ;;
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
if [ "$identity" = 1 ]; then
    tempest=$PWD/.venv-tempest/bin/tempest list=$work/identity.txt
    "$tempest" init --workspace-path "$work/workspaces.yaml" "$work/listing" >/dev/null 2>&1
    (cd "$work/listing" && "$tempest" run --list-tests --regex '^tempest\.api\.identity\.(?!.*oauth)' 2>/dev/null) |
        grep ^tempest > "$list"
elif [ -z "$list" ]; then
    list=$work/smoke.txt
    grep -vE 'tempest\.api\.volume|BootFromVolume' "$judge/tempest_public_smoke.txt" > "$list"
fi

printf '[identity]\nuse_system_token = %s\n' "$system" > "$work/extra.ini"
if [ "$compliance" = 1 ]; then
    mkdir "$state"
    printf '[security]\nlockout_attempts = 2\nlockout_seconds = 5\npassword_history = 2\n' > "$state/nephos.toml"
    cat >> "$work/extra.ini" <<'CONF'
user_lockout_failure_attempts = 2
user_lockout_duration = 5
user_unique_last_password_count = 2
user_minimum_password_age = 0
[identity-feature-enabled]
security_compliance = true
CONF
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
    --floor "$judge/network_extensions_floor.txt" --list "$list" --conf "$work/extra.ini" "$@" || status=$?
"$prefix/bin/nephos" audit --state "$state" || status=1
exit "$status"
