# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# One Cassandra node. Sourced by `dev/services`. $set/cassandra.prepared stands once its folder is whole.

cassandra_prepare() {
    [ ! -e "$set/cassandra.prepared" ] || return 0
    remove_services "$set/cassandra"
    mkdir -p "$set/cassandra"/{conf,data,tmp}
    reserve_port cassandra client
    reserve_port cassandra storage
    reserve_port cassandra jmx
    cp "$here/cassandra/logback.xml" "$set/cassandra/conf/"
    render "$here/cassandra/cassandra.yaml" CLIENT_PORT="$(port_of cassandra client)" \
        STORAGE_PORT="$(port_of cassandra storage)" >"$set/cassandra/conf/cassandra.yaml"
    touch "$set/cassandra.prepared"
}

# Its configuration is found through the class path, which starts with `conf`.
cassandra_launch() { # NAME
    local folder=$set/$1
    launch "$1" "$java" "@$here/cassandra/jvm.options" -Dcassandra.jmx.local.port="$(port_of "$1" jmx)" \
        -Dcassandra.storagedir="$folder/data" -Djava.io.tmpdir="$folder/tmp" -Djna.tmpdir="$folder/tmp" \
        -cp "$folder/conf:$(jars_of cassandra)/*" org.apache.cassandra.service.CassandraDaemon
}

# True when it answers OPTIONS with SUPPORTED (version 4 of the protocol).
cassandra_ready() { # NAME
    [[ $(ask "$(port_of "$1" client)" '\x04\x00\x00\x00\x05\x00\x00\x00\x00') == 84??????06* ]]
}

cassandra_env() {
    [ ! -d "$set/cassandra" ] || echo "export CHAT4ALL_STATUS=cassandra://127.0.0.1:$(port_of cassandra client)/chat4all"
}
