#!/usr/bin/env bash
# OpenStack's own tests against a cloud of two simulated hosts, or of real ones: make conformance
#
#   scripts/conformance.sh [--list FILE | --identity | --tests REGEX] [--validation [--hosts N]] [--conf FILE]
#       [--security-compliance] [--system-token] [--judge DIR] [--keep] [-- OPTIONS OF run_tempest.sh]
#
# The judge is a folder with run_tempest.sh and its lists, by default ../shared/conformance beside the checkout. The
# default list is its smoke list without what needs block storage, which comes later. --identity takes every test of
# the identity API that the installed Tempest has, but those of OAuth 1, which is not served. --security-compliance
# starts the cloud with lock-out and password history and tells Tempest so; --system-token lets Tempest administer
# identity by system-scoped tokens.
# --tests takes every test of the installed Tempest whose name matches, such as '^tempest\.api\.network\.'.
# --validation boots real guests and logs in to them, one test at a time; all of it in network namespaces that end with
# it. --hosts 2 or more are hosts in namespaces of their own, each with its agent and libvirt. --conf is one more ini
# fragment for tempest.conf.
set -euo pipefail
cd "$(dirname "$0")/.."
judge=../shared/conformance list= keep=0 tests= validation=0 hosts=1 conf= compliance=0 system=0
while [ $# -gt 0 ]; do
    case $1 in
        --list) list=$2; shift 2 ;;
        --judge) judge=$2; shift 2 ;;
        --keep) keep=1; shift ;;
        --identity) tests='^tempest\.api\.identity\.(?!.*oauth)'; shift ;;
        --tests) tests=$2; shift 2 ;;
        --validation) validation=1; shift ;;
        --hosts) hosts=$2; shift 2 ;;
        --conf) conf=$(readlink -f "$2"); shift 2 ;;
        --security-compliance) compliance=1; shift ;;
        --system-token) system=1; shift ;;
        --) shift; break ;;
        *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[ -x "$judge/run_tempest.sh" ] || { echo "conformance: there is no run_tempest.sh in $judge: give its folder with --judge" >&2; exit 2; }
judge=$(readlink -f "$judge")
[ "$hosts" = 1 ] || [ "$validation" = 1 ] || { echo "conformance: --hosts goes with --validation" >&2; exit 2; }
prefix=${NEPHOS_PREFIX:-/opt/nephos}
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

if [ ! -x .venv-tempest/bin/tempest ]; then
    /usr/bin/python3 -m venv .venv-tempest
    .venv-tempest/bin/pip install -q tempest
fi

work=$(mktemp -d /var/tmp/nephos-conformance-XXXXXX)
chmod 755 "$work"
state=$work/state port=${PORT:-5960}
namespace=nephos-judge-$port inside=() held=
finish() {
    if [ "$hosts" -gt 1 ]; then
        # It ends when its standard input does.
        [ -z "$held" ] || { eval "exec $held>&-"; wait "$holder" || true; }
        rm -rf "$work"
        return
    fi
    [ "$keep" = 1 ] && { echo "the cloud stays: $state"; return; }
    "${inside[@]}" "$prefix/bin/nephos" down --purge --state "$state" >/dev/null || true
    [ "$validation" = 0 ] || ip netns delete "$namespace"
    rm -rf "$work"
}
trap finish EXIT
if [ -n "$tests" ]; then
    tempest=$PWD/.venv-tempest/bin/tempest list=$work/tests.txt
    "$tempest" init --workspace-path "$work/workspaces.yaml" "$work/listing" >/dev/null 2>&1
    (cd "$work/listing" && "$tempest" run --list-tests --regex "$tests" 2>/dev/null) |
        grep ^tempest > "$list"
elif [ -z "$list" ]; then
    list=$work/smoke.txt
    grep -vE 'tempest\.api\.volume|BootFromVolume' "$judge/tempest_public_smoke.txt" > "$list"
fi

printf '[identity]\nuse_system_token = %s\n' "$system" > "$work/extra.ini"
if [ "$compliance" = 1 ]; then
    mkdir -p "$state"
    printf '[security]\nlockout_attempts = 2\nlockout_seconds = 5\npassword_history = 2\n' >> "$state/nephos.toml"
    cat >> "$work/extra.ini" <<'CONF'
user_lockout_failure_attempts = 2
user_lockout_duration = 5
user_unique_last_password_count = 2
user_minimum_password_age = 0
[identity-feature-enabled]
security_compliance = true
CONF
fi
if [ "$validation" = 0 ]; then
    # what ports with minimum rules may have of each simulated host
    mkdir -p "$state"
    rates='egress = 1000000, ingress = 1000000'
    printf '[host.bandwidths]\npublic = {%s}\nrp_tunnelled = {%s}\n[host.packet_rate]\nany = 10000\n' "$rates" "$rates" >> "$state/nephos.toml"
    cat >> "$work/extra.ini" <<'CONF'
[network-feature-enabled]
qos_placement_physnet = public
qos_min_bw_and_pps = true
CONF
fi

openstack=$prefix/bin/openstack
image() {  # NAME FILE FORMAT OPTIONS…: its id
    "${inside[@]}" "$openstack" image create "$1" --file "$2" --disk-format "$3" --container-format "${@:4}" \
        --public -f value -c id
}
field() {  # NAME: that field of the JSON object on the standard input
    "$prefix/bin/python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
if [ "$hosts" -gt 1 ]; then
    coproc cloud { NEPHOS_PREFIX=$prefix .venv/bin/python -m tests.hosts.judged "$work/lab" "$hosts"; }
    held=${cloud[1]} holder=$cloud_PID
    read -r up <&"${cloud[0]}"
    state=$(field state <<< "$up") inside=(nsenter --net="/proc/$(field pid <<< "$up")/ns/net")
    eval "$("$prefix/bin/nephos" openrc admin --state "$state")"
    export no_proxy=* NO_PROXY=*
    echo "The cloud is up: $OS_AUTH_URL, $hosts hosts"
elif [ "$validation" = 1 ]; then
    # The server and the judge share a namespace; a cable leads from it to the host's, where the external network is.
    ip netns add "$namespace"
    inside=(nsenter "--net=/run/netns/$namespace")
    "${inside[@]}" ip link set lo up
    "${inside[@]}" "$prefix/bin/nephos" up --state "$state" --listen "127.0.0.1:$port"
    eval "$("${inside[@]}" "$prefix/bin/nephos" openrc admin --state "$state")"
    host=$("${inside[@]}" "$prefix/bin/nephos" status --json --state "$state" | field namespace)
    "${inside[@]}" ip link add judge type veth peer name judge netns "$host"
    ip -n "$host" address add 192.0.2.1/30 dev judge
    ip -n "$host" link set judge up
    "${inside[@]}" ip address add 192.0.2.2/30 dev judge
    "${inside[@]}" ip link set judge up
    "${inside[@]}" ip route add default via 192.0.2.1
else
    "$prefix/bin/nephos" up --state "$state" --listen "127.0.0.1:$port" --hypervisor fake --hosts 2
    eval "$("$prefix/bin/nephos" openrc admin --state "$state")"
fi
if [ "$validation" = 1 ]; then
    guest=$("$prefix/bin/nephos" image build --json)
    kernel=$(image kernel "$(field kernel <<< "$guest")" aki aki)
    ramdisk=$(image ramdisk "$(field ramdisk <<< "$guest")" ari ari)
    direct=(bare --property "kernel_id=$kernel" --property "ramdisk_id=$ramdisk"
        --property "os_command_line=$(field command_line <<< "$guest")")
    root=$(field root <<< "$guest")
    first=$(image conformance-1 "$root" raw "${direct[@]}") second=$(image conformance-2 "$root" raw "${direct[@]}")
    # emulated guests take their time
    cat >> "$work/extra.ini" <<'CONF'
[validation]
connect_timeout = 120
ssh_timeout = 300
ping_timeout = 180
CONF
    [ "$hosts" = 1 ] || printf '[compute]\nmigration_source_host = host1\nmigration_dest_host = host2\n' >> "$work/extra.ini"
    nodes=$hosts concurrency=1
else
    head -c 1048576 /dev/urandom > "$work/image"
    first=$(image conformance-1 "$work/image" raw bare) second=$(image conformance-2 "$work/image" raw bare)
    nodes=2 concurrency=2
fi
[ -z "$conf" ] || cat "$conf" >> "$work/extra.ini"
public=$("${inside[@]}" "$openstack" network show public -f value -c id)

status=0
"${inside[@]}" "$judge/run_tempest.sh" --auth-url "$OS_AUTH_URL" --password "$OS_PASSWORD" --image "$first" --image-alt "$second" \
    --flavor 42 --flavor-alt 84 --public-net "$public" --venv .venv-tempest --workdir "$work/tempest" --nodes "$nodes" --cinder 0 \
    --validation "$validation" --concurrency "$concurrency" --floor "$judge/network_extensions_floor.txt" --list "$list" --conf "$work/extra.ini" "$@" || status=$?
"${inside[@]}" "$prefix/bin/nephos" audit --state "$state" || status=1
exit "$status"
