# RabbitMQ from Debian, for quorum queues and for streams.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

root=$cache/rabbitmq/root

get() {
    [[ -e $root/done ]] && return
    # What rabbitmq-server depends on of Erlang; the rest of it every system has.
    debian rabbitmq rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap \
        erlang-ftp erlang-inets erlang-mnesia erlang-os-mon erlang-parsetools erlang-public-key \
        erlang-runtime-tools erlang-snmp erlang-ssl erlang-syntax-tools erlang-tftp erlang-tools \
        erlang-xmerl
    # Debian's erl looks for Erlang where it would be installed.
    sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$root/usr/lib/erlang|" \
        "$root/usr/lib/erlang/bin/erl" "$root"/usr/lib/erlang/erts-*/bin/erl
    touch "$root/done"
}

home() {
    local found
    found=$(compgen -G "$root/usr/lib/rabbitmq/lib/rabbitmq_server-*" | tail -n 1) ||
        fail "RabbitMQ is not in $root; call $0 get first"
    echo "$found"
}

version() {
    local found
    found=$(home)
    echo "${found##*-}"
}

# common_settings: of both kinds.
common_settings() {
    printf 'vm_memory_high_watermark.relative = 0.6\tnobody else needs the memory\n'
    printf 'disk_free_limit.absolute = 1GB\tthe default blocks publishers on small disks\n'
    printf 'log.file.level = warning\tno line for each connection\n'
    printf 'loopback_users.guest = true\tthe default: guest from this machine only\n'
}

# run DIR CPUS NODE: what is in DIR/rabbitmq.conf and DIR/advanced.config, with DIR/plugins.
# Distribution and epmd have the ports after the one that clients use.
run() {
    local dir=$1 cpus=$2 port=$3 rabbit
    rabbit=$(home)
    export PATH=$root/usr/lib/erlang/bin:$PATH
    export HOME=$dir ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((port + 2))
    export RABBITMQ_HOME=$rabbit
    export RABBITMQ_NODENAME="peers$port@localhost" RABBITMQ_DIST_PORT=$((port + 3))
    export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/logs
    export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
    export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config
    export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
    # The script then becomes the server, whose process id and CPU time are wanted.
    export RUNNING_UNDER_SYSTEMD=true
    mkdir -p "$dir/data" "$dir/logs"
    # Its own, so that stopping ends it.
    taskset -c "$cpus" epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" >>"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/epmd.pid"
    disown
    launch "$dir" "$cpus" "$rabbit/sbin/rabbitmq-server"
}

stop() {
    [[ -s $1/pid ]] || fail "nothing was started with data in $1"
    end_process "$(<"$1/pid")"
    end_process "$(<"$1/epmd.pid")"
}
