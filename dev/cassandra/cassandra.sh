# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# One Cassandra node. Sourced by `dev/services`. $set/cassandra.prepared stands once its folder is whole.

# Makes the node's folder, unless it is there already.
cassandra_prepare() { # BROKERS SECURE|''
    local secure
    if read -r secure 2>/dev/null <"$set/cassandra.prepared"; then
        check_secure "$2" "$secure"
        return
    fi
    remove_services "$set/cassandra"
    mkdir -p "$set/cassandra"/{conf,data,tmp}
    reserve_port cassandra client
    reserve_port cassandra storage
    reserve_port cassandra jmx
    cp "$here/cassandra/logback.xml" "$set/cassandra/conf/"
    cassandra_configure "${2:-no}" >"$set/cassandra/conf/cassandra.yaml"
    echo "${2:-no}" >"$set/cassandra.prepared"
}

# Prints the node's cassandra.yaml.
cassandra_configure() { # SECURE
    render "$here/cassandra/cassandra.yaml" CLIENT_PORT="$(port_of cassandra client)" \
        STORAGE_PORT="$(port_of cassandra storage)"
    [ "$1" = yes ] || return 0
    secure_make
    reserve_port cassandra tls
    render "$here/cassandra/secure.yaml" TLS_PORT="$(port_of cassandra tls)" STORE="$set/secure/server.p12" \
        STORE_PASSWORD="$store_password"
}

# Its configuration is found through the class path, which starts with `conf`.
cassandra_launch() { # NAME
    local folder=$set/$1
    launch "$1" "$java" "@$here/cassandra/jvm.options" -Dcassandra.jmx.local.port="$(port_of "$1" jmx)" \
        -Dcassandra.storagedir="$folder/data" -Djava.io.tmpdir="$folder/tmp" -Djna.tmpdir="$folder/tmp" \
        -cp "$folder/conf:$(jars_of cassandra)/*" org.apache.cassandra.service.CassandraDaemon
}

# True when it answers OPTIONS with SUPPORTED, and with `--secure` once both users may log in.
cassandra_ready() { # NAME
    [[ $(ask "$(port_of "$1" client)" "$(cql_frame 05)") == 84??????06* ]] || return 1
    [ -z "$(port_of "$1" tls)" ] || cassandra_make_users
}

# Makes the users where they are missing, as the superuser that a new node has (a moment after it listens).
cassandra_make_users() {
    local password answers with
    password=$(<"$set/secure/cassandra.password")
    with="WITH PASSWORD = '$password' AND LOGIN = true"
    mapfile -t answers < <(ask "$(port_of cassandra client)" \
        "$(cql_frame 01 '\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0')" \
        "$(cql_frame 0f '\x00\x00\x00\x14\x00cassandra\x00cassandra')" \
        "$(cql_query "CREATE ROLE IF NOT EXISTS $secure_user $with")" \
        "$(cql_query "CREATE ROLE IF NOT EXISTS $secure_guest $with")" \
        "$(cql_query "GRANT CREATE ON ALL KEYSPACES TO $secure_user")")
    [[ ${answers[-1]:-} == 84??????08* ]] # RESULT: so were those before
}

cql_query() { # STATEMENT
    cql_frame 07 "$(hexadecimal_32 "${#1}")$1\x00\x01\x00"
}

# Prints a request of version 4 of the protocol, as `ask` takes it.
cql_frame() { # OPCODE [BODY]
    printf '\\x04\\x00\\x00\\x00\\x%s%s%s' "$1" "$(hexadecimal_32 "$(printf '%b' "${2:-}" | wc -c)")" "${2:-}"
}

hexadecimal_32() { # NUMBER
    printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255))
}

cassandra_env() {
    local client tls
    [ -d "$set/cassandra" ] || return 0
    client=cassandra://127.0.0.1:$(port_of cassandra client)/chat4all
    if [ -z "$(port_of cassandra tls)" ]; then
        echo "export CHAT4ALL_STATUS=$client"
        return
    fi
    tls=cassandra://127.0.0.1:$(port_of cassandra tls)/chat4all
    client+="?$(secure_parameters cassandra "$secure_user")"
    printf 'export CHAT4ALL_STATUS=%q\nexport SERVICES_STATUS_PLAIN=%q\n' "$client" "$client"
    printf 'export SERVICES_STATUS_TLS=%q\n' "$tls?$(secure_parameters cassandra "$secure_user" tls)"
    printf 'export SERVICES_STATUS_TLS_GUEST=%q\n' "$tls?$(secure_parameters cassandra "$secure_guest" tls)"
}
