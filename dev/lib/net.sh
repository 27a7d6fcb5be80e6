# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# Ports and the first words of a protocol, with bash alone. Sourced by `dev/services`. Everything is on 127.0.0.1.

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Gives NAME a free port for KIND and remembers it. A link in $cache/ports keeps other sets off it until `down`; the range
# is below the one from which systems give ports to clients, so that it stays free while the server is down.
reserve_port() { # NAME KIND
    local port
    mkdir -p "$cache/ports"
    for _ in {1..500}; do
        port=$((20000 + RANDOM % 12000))
        if ! listens "$port" && ln -s "$set/$1" "$cache/ports/$port" 2>/dev/null; then
            echo "$2=$port" >>"$set/$1/ports"
            return
        fi
    done
    die "found no free port from 20000 to 31999"
}

# Prints NAME's port for KIND; nothing when it has none.
port_of() { # NAME KIND
    sed -n "s/^$2=//p" "$set/$1/ports" 2>/dev/null || true
}

release_ports() { # NAME
    local port
    [ -f "$set/$1/ports" ] || return 0
    while IFS='=' read -r _ port; do
        rm -f "$cache/ports/$port"
    done <"$set/$1/ports"
}

# Sends each REQUEST (as printf's %b takes it) when the one before is answered, and prints the answers' first bytes in
# hexadecimal, a line each. Fails when one has no answer within 5 s.
ask() ( # PORT REQUEST...
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || exit 1
    for request in "${@:2}"; do
        printf '%b' "$request" >&3 2>/dev/null || exit 1
        answer=$(timeout 5 dd bs=4096 count=1 <&3 2>/dev/null | od -An -v -tx1 | tr -d ' \n')
        [ -n "$answer" ] || exit 1
        echo "$answer"
    done
)
