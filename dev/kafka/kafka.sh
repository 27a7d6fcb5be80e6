# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# Kafka in KRaft mode: one node, or three that are brokers and controllers both. Sourced by `dev/services`.
# $set/kafka.prepared stands once all nodes have their configuration and formatted storage; it holds `BROKERS SECURE`.

kafka_user=chat4all

# Makes the nodes' folders, unless they are there already with the same shape. BROKERS empty: as it is, else 1.
kafka_prepare() { # BROKERS|'' SECURE|''
    local brokers secure
    if read -r brokers secure 2>/dev/null <"$set/kafka.prepared"; then
        [ "${1:-$brokers}" = "$brokers" ] || die_usage "this set has $brokers broker(s): \`down\` first, or take another --set"
        [ "${2:-$secure}" = "$secure" ] || die_usage "this set was made without --secure: \`down\` first, or take another --set"
        return
    fi
    remove_services "$set"/kafka-*
    kafka_make "${1:-1}" "${2:-no}"
    echo "${1:-1} ${2:-no}" >"$set/kafka.prepared"
}

kafka_make() { # BROKERS SECURE
    local brokers=$1 secure=$2 node controllers='' initial='' cluster
    for node in $(seq "$brokers"); do
        mkdir -p "$set/kafka-$node/tmp"
        reserve_port "kafka-$node" client
        reserve_port "kafka-$node" controller
        [ "$secure" = no ] || reserve_port "kafka-$node" secure
        controllers+=,127.0.0.1:$(port_of "kafka-$node" controller)
        initial+=,$node@127.0.0.1:$(port_of "kafka-$node" controller):$(kafka_uuid)
    done
    [ "$secure" = no ] || head -c 18 /dev/urandom | base64 | tr -d '+/=' >"$set/kafka.password"
    cluster=$(kafka_uuid)
    for node in $(seq "$brokers"); do
        kafka_configure "$node" "$brokers" "$secure" "${controllers#,}" >"$set/kafka-$node/server.properties"
        kafka_tool "kafka-$node" kafka.tools.StorageTool format -t "$cluster" -c "$set/kafka-$node/server.properties" \
            --initial-controllers "${initial#,}"
    done
}

# Prints a node's server.properties.
kafka_configure() { # NODE BROKERS SECURE CONTROLLERS
    local name=kafka-$1 listeners
    listeners=PLAINTEXT://127.0.0.1:$(port_of "$name" client),CONTROLLER://127.0.0.1:$(port_of "$name" controller)
    [ "$3" = no ] || listeners+=,SECURE://127.0.0.1:$(port_of "$name" secure)
    render "$here/kafka/server.properties" NODE="$1" BROKERS="$2" MIN_ISR=$(($2 / 2 + 1)) CONTROLLERS="$4" \
        LISTENERS="$listeners" DATA="$set/$name/data" SESSION_TIMEOUT_MS=$(($2 == 1 ? 2000 : 3000))
    [ "$3" = no ] || render "$here/kafka/secure.properties" USER="$kafka_user" PASSWORD="$(<"$set/kafka.password")"
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
    local name hosts='' secure=''
    for name in $(names kafka); do
        hosts+=,127.0.0.1:$(port_of "$name" client)
        secure+=,127.0.0.1:$(port_of "$name" secure)
    done
    [ -z "$hosts" ] || echo "export CHAT4ALL_LOG=kafka://${hosts#,}"
    [ -f "$set/kafka.password" ] || return 0
    echo "export CHAT4ALL_KAFKA_SASL_HOSTS=${secure#,}"
    echo "export CHAT4ALL_KAFKA_SASL_USER=$kafka_user"
    printf 'export CHAT4ALL_KAFKA_SASL_PASSWORD_FILE=%q\n' "$set/kafka.password"
}
