# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# Kafka in KRaft mode: one node, or three that are brokers and controllers both. Sourced by `dev/services`.
# $set/kafka.prepared stands once all nodes have their configuration and formatted storage; it holds `BROKERS SECURE`.

# Makes the nodes' folders, unless they are there already with the same shape. BROKERS empty: as it is, else 1.
kafka_prepare() { # BROKERS|'' SECURE|''
    local brokers secure
    if read -r brokers secure 2>/dev/null <"$set/kafka.prepared"; then
        [ "${1:-$brokers}" = "$brokers" ] || die_usage "this set has $brokers broker(s): \`down\` first, or take another --set"
        check_secure "$2" "$secure"
        return
    fi
    remove_services "$set"/kafka-*
    kafka_make "${1:-1}" "${2:-no}"
    echo "${1:-1} ${2:-no}" >"$set/kafka.prepared"
}

kafka_make() { # BROKERS SECURE
    local brokers=$1 secure=$2 node controllers='' initial='' cluster scram=()
    for node in $(seq "$brokers"); do
        mkdir -p "$set/kafka-$node/tmp"
        reserve_port "kafka-$node" client
        reserve_port "kafka-$node" controller
        [ "$secure" = no ] || { reserve_port "kafka-$node" tls; reserve_port "kafka-$node" plain; }
        controllers+=,127.0.0.1:$(port_of "kafka-$node" controller)
        initial+=,$node@127.0.0.1:$(port_of "kafka-$node" controller):$(kafka_uuid)
    done
    if [ "$secure" = yes ]; then
        secure_make
        mapfile -t scram < <(kafka_scram "$secure_user" "$secure_guest")
    fi
    cluster=$(kafka_uuid)
    for node in $(seq "$brokers"); do
        kafka_configure "$node" "$brokers" "$secure" "${controllers#,}" >"$set/kafka-$node/server.properties"
        kafka_tool "kafka-$node" kafka.tools.StorageTool format -t "$cluster" -c "$set/kafka-$node/server.properties" \
            --initial-controllers "${initial#,}" "${scram[@]}"
    done
}

# Prints the format's arguments, one a line, that let USERs in with SCRAM.
kafka_scram() { # USER...
    printf -- "--add-scram\nSCRAM-SHA-512=[name=%s,password=$(<"$set/secure/kafka.password")]\n" "$@"
}

# Prints a node's server.properties.
kafka_configure() { # NODE BROKERS SECURE CONTROLLERS
    local name=kafka-$1 listeners
    listeners=PLAINTEXT://127.0.0.1:$(port_of "$name" client),CONTROLLER://127.0.0.1:$(port_of "$name" controller)
    [ "$3" = no ] ||
        listeners+=,TLS://127.0.0.1:$(port_of "$name" tls),PLAIN://127.0.0.1:$(port_of "$name" plain)
    render "$here/kafka/server.properties" NODE="$1" BROKERS="$2" MIN_ISR=$(($2 / 2 + 1)) CONTROLLERS="$4" \
        LISTENERS="$listeners" DATA="$set/$name/data" SESSION_TIMEOUT_MS=$(($2 == 1 ? 2000 : 3000))
    [ "$3" = no ] || render "$here/kafka/secure.properties" STORE="$set/secure/server.p12" STORE_PASSWORD="$store_password" \
        USER="$secure_user" GUEST="$secure_guest" PASSWORD="$(<"$set/secure/kafka.password")"
}

# 16 random bytes as Kafka writes them: base64 for URLs, not padded, never starting like an option.
kafka_uuid() {
    local id=-
    while [ "${id::1}" = - ]; do
        id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
    done
    echo "$id"
}

# Runs one of Kafka's own tools; what it prints is kept in NAME's log.
kafka_tool() { # NAME CLASS ARGUMENT...
    local name=$1
    shift
    "$java" -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+PerfDisableSharedMem -Dlevel=WARN \
        -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -Djava.io.tmpdir="$set/$name/tmp" \
        -cp "$(jars_of kafka)/*" "$@" >>"$set/$name/server.log" 2>&1 || fail "$name" "\`$1\` failed"
}

kafka_launch() { # NAME
    launch "$1" "$java" -Xms400m -Xmx400m -XX:+UseSerialGC -XX:+PerfDisableSharedMem \
        -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -Djava.io.tmpdir="$set/$1/tmp" \
        -cp "$(jars_of kafka)/*" kafka.Kafka "$set/$1/server.properties"
}

# True when NAME answers a Metadata request (key 3, version 4, no topics) and lists every node of the set that runs.
kafka_ready() { # NAME
    local answer other
    answer=$(ask "$(port_of "$1" client)" \
        '\x00\x00\x00\x0f\x00\x03\x00\x04\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00\x00') || return 1
    for other in $(names kafka); do
        ended "$other" || [[ $answer == *"$(kafka_entry "$other")"* ]] || return 1
    done
}

# NAME as it stands in a Metadata answer, in hexadecimal: node id, host, port.
kafka_entry() { # NAME
    printf '%08x0009%s%08x' "${1#kafka-}" 3132372e302e302e31 "$(port_of "$1" client)"
}

kafka_env() {
    [ -n "$(names kafka)" ] || return 0
    echo "export CHAT4ALL_LOG=kafka://$(kafka_hosts client)"
    [ -n "$(port_of kafka-1 tls)" ] || return 0
    local tls plain
    tls="kafka://$(kafka_hosts tls)?sasl=scram-sha-512&" plain="kafka://$(kafka_hosts plain)?sasl=plain&"
    printf 'export SERVICES_LOG_TLS=%q\n' "$tls$(secure_parameters kafka "$secure_user" tls)"
    printf 'export SERVICES_LOG_TLS_GUEST=%q\n' "$tls$(secure_parameters kafka "$secure_guest" tls)"
    printf 'export SERVICES_LOG_PLAIN=%q\n' "$plain$(secure_parameters kafka "$secure_user")"
}

# Prints the addresses of all nodes for one listener.
kafka_hosts() { # KIND
    local name hosts=''
    for name in $(names kafka); do
        hosts+=,127.0.0.1:$(port_of "$name" "$1")
    done
    echo "${hosts#,}"
}
