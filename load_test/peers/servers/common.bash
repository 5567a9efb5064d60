# What the scripts of this folder share. Each is called as
#
#   NAME get                          brings the server into the cache; says what to do if it cannot
#   NAME version                      prints the version that would be started
#   NAME settings LEVEL               prints the settings: "what<TAB>why", a line each
#   NAME start LEVEL DIR PORT CPUS    starts it on 127.0.0.1:PORT, data and log in DIR, and returns
#                                     at once; its process id is in DIR/pid
#   NAME stop DIR                     ends it by that id and waits until it has
#
# LEVEL is durable or memory. A server may use the nine ports after PORT as well.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../../.." && pwd)
cache=${CORELANE_PEERS_CACHE:-$repository/target/peers}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || fail "this needs $tool; install it and try again"
    done
}

# check_level LEVEL
check_level() {
    [[ $1 == durable || $1 == memory ]] || fail "no level $1: durable or memory"
}

# values LEVEL: the settings alone, as a configuration file has them.
values() {
    settings "$1" | cut -f1
}

# launch DIR CPUS COMMAND...: in the background, pinned, log in DIR/log.
launch() {
    local dir=$1 cpus=$2
    shift 2
    need taskset
    # The limit of descriptors as high as it may go: servers open many.
    ulimit -n "$(ulimit -Hn)"
    taskset -c "$cpus" "$@" >>"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    disown
}

# Ends what launch has started.
stop() {
    [[ -s $1/pid ]] || fail "nothing was started with data in $1"
    end_process "$(<"$1/pid")"
}

# end_process PID: asks it to end, and ends it if it has not after half a minute. A process that
# has ended and that nobody has waited for yet (Z) has ended.
end_process() {
    local tries
    kill -TERM "$1" 2>/dev/null || return 0
    for ((tries = 0; tries < 300; tries++)); do
        grep -qs '^State:[[:space:]]*[^XZ]' "/proc/$1/status" || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}

# debian PACKAGE...: downloads Debian packages of this system's release and unpacks them in
# $cache/NAME/root, without installing anything.
debian() {
    local name=$1 folder
    shift
    need apt-get dpkg-deb
    folder=$cache/$name
    mkdir -p "$folder/packages" "$folder/root"
    (cd "$folder/packages" && apt-get download -q "$@") ||
        fail "apt-get download failed; run apt-get update and try again"
    local package
    for package in "$folder"/packages/*.deb; do
        dpkg-deb -x "$package" "$folder/root"
    done
}

# maven DIR GROUP:ARTIFACT:VERSION...: brings jars with all that they need into DIR, once.
maven() {
    local dir=$1 work artifact group name
    shift
    [[ -e $dir/done ]] && return
    need mvn java
    work=$(mktemp -d)
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>corelane</groupId><artifactId>peers</artifactId><version>1</version><dependencies>'
        for artifact in "$@"; do
            IFS=: read -r group name artifact <<<"$artifact"
            echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$artifact</version></dependency>"
        done
        echo '</dependencies></project>'
    } >"$work/pom.xml"
    mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir" >&2 ||
        fail "Maven could not bring $*"
    touch "$dir/done"
    rm -r "$work"
}

# main get|version|settings|start|stop ...: calls the function of that name.
main() {
    [[ $# -ge 1 ]] || fail "get, version, settings, start or stop is needed; see common.bash"
    local what=$1
    shift
    case $what in
        get | version) "$what" ;;
        settings)
            check_level "$1"
            settings "$1"
            ;;
        start)
            [[ $# -eq 4 ]] || fail "start LEVEL DIR PORT CPUS"
            check_level "$1"
            mkdir -p "$2"
            start "$@"
            ;;
        stop) stop "$1" ;;
        *) fail "no $what: get, version, settings, start or stop" ;;
    esac
}
