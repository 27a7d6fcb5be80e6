# shellcheck shell=bash disable=SC2154,SC2034 # $tool, $folder, $keep come from the others; $simulator is for them
# A private Chat4All: a simulator, an api, and two processes each of router, connectors and recorder, on embedded engines in
# a temporary folder and on free ports. Sourced by `dev/failover` and `dev/soak`. All of it ends with the script.

declare -A pids=()  # by name: the processes that should run
declare -A roles=() # by name
workers=(router-1 router-2 connectors-1 connectors-2 recorder-1 recorder-2)

die() {
    echo "$tool: $*" >&2
    exit 1
}

die_usage() {
    echo "$tool: $*; see $tool --help" >&2
    exit 2
}

say() { printf '%s\n' "$*" >&2; }

# Sets `binary`: what CHAT4ALL_BINARY names, else the release build beside this script.
find_binary() { # ROOT
    binary=${CHAT4ALL_BINARY:-$1/target/release/chat4all}
    [ -z "${CHAT4ALL_BINARY:-}" ] || [ -x "$binary" ] || die_usage "CHAT4ALL_BINARY: \`$binary\` is no program"
    [ -x "$binary" ] || die "there is no \`target/release/chat4all\`: build it with \`cargo build --release\`, or set CHAT4ALL_BINARY"
    binary=$(realpath "$binary")
    # Nothing in the environment may change the stack.
    unset "${!CHAT4ALL_@}"
}

# Prints the seconds of a duration as `90s`, `10m` or `1h30m`; fails if it is none.
seconds_of() { # DURATION
    [[ $1 =~ ^(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?$ ]] && [ -n "$1" ] || return 1
    echo $((10#${BASH_REMATCH[2]:-0} * 3600 + 10#${BASH_REMATCH[4]:-0} * 60 + 10#${BASH_REMATCH[6]:-0}))
}

# Waits until SECONDS (a decimal) after `begin`.
until_second() { # SECONDS
    local rest
    rest=$(awk -v begin="$begin" -v now="$EPOCHREALTIME" -v at="$1" 'BEGIN { print begin + at - now }')
    [[ $rest != -* ]] || return 0
    sleep "$rest" & # not in the foreground, where no trap is heeded meanwhile
    pids[sleep]=$!
    wait "${pids[sleep]}"
    unset 'pids[sleep]'
}

# Starts COMMAND as NAME, apart from this terminal, so that Ctrl-C reaches only us; it is killed when we are.
launch() { # NAME COMMAND...
    local name=$1
    shift
    setsid setpriv --pdeathsig KILL "$@" </dev/null >"$folder/$name.out" 2>>"$folder/$name.log" &
    pids[$name]=$!
}

runs() { kill -0 "${pids[$1]:-0}" 2>/dev/null; }

ended() { ! runs "$1"; }

# Prints where NAME serves WHAT, once it has said so.
url_of() { # NAME WHAT
    sed -n "s/^$2: //p;T;q" "$folder/$1.out" | grep .
}

opened_or_ended() { # NAME WHAT
    ended "$1" || url_of "$1" "$2" >/dev/null
}

# Waits until NAME has opened its addresses.
opened() { # NAME WHAT
    await 60 opened_or_ended "$1" "$2" || die "\`$1\` did not open its $2 within 60 s"
    runs "$1" || { tail -n 5 "$folder/$1.log" >&2; die "\`$1\` ended before it opened its $2"; }
}

start() { # NAME
    # shellcheck disable=SC2086 # one word for each role
    launch "$1" "$binary" serve --config "$folder/chat4all.toml" --role ${roles[$1]}
}

# Starts all of it. Sets `api` and `simulator`, their URLs.
stack_up() {
    local name
    {
        echo "log = \"embedded:$folder/data\""
        echo "status = \"embedded:$folder/data\""
        for name in api router connectors recorder simulator; do
            printf '[%s]\nlisten = "127.0.0.1:0"\n' "$name"
        done
        printf '[channels.webhook]\nkind = "webhook"\nallow_private_targets = true\n'
    } >"$folder/chat4all.toml"
    roles=([api]=api)
    for name in "${workers[@]}"; do roles[$name]=${name%-*}; done
    launch simulator "$binary" simulate --config "$folder/chat4all.toml"
    for name in api "${workers[@]}"; do start "$name"; done
    opened simulator simulator
    for name in api "${workers[@]}"; do opened "$name" "${roles[$name]}"; done
    api=$(url_of api api)
    simulator=$(url_of simulator simulator)
    await 60 stack_is_ready || die "the stack was not ready within 60 s"
}

stack_is_ready() { [[ $(http_get "$api" /health/ready) == 'HTTP/1.1 200 '* ]]; }

# Prints the answer to a GET, head and all.
http_get() ( # URL PATH
    address=${1#http://}
    { exec 3<>"/dev/tcp/${address%:*}/${address#*:}"; } 2>/dev/null || exit 1
    printf 'GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$2" "$address" >&3
    timeout 5 cat <&3
)

# SIGKILL; back when the process is gone.
kill_now() { # NAME
    kill -KILL "${pids[$1]}" 2>/dev/null || die "\`$1\` had ended by itself; its log: $(tail -n 3 "$folder/$1.log")"
    wait "${pids[$1]}" 2>/dev/null || true
}

# Fails when a process has ended that nobody killed.
check_stack() {
    local name
    for name in "${!pids[@]}"; do
        runs "$name" || { tail -n 5 "$folder/$name.log" >&2; die "\`$name\` has ended, which nobody asked for"; }
    done
}

# Ends everything that was started, in order if it goes, in 10 s at most, and deletes the folder. For `trap … EXIT`.
stack_down() {
    local name deadline=$((SECONDS + 10))
    trap '' INT TERM
    set +e
    for name in "${!pids[@]}"; do
        kill -CONT "${pids[$name]}" 2>/dev/null
        kill -TERM "${pids[$name]}" 2>/dev/null
    done
    for name in "${!pids[@]}"; do
        until ended "$name" || [ "$SECONDS" -ge "$deadline" ]; do sleep 0.05; done
        kill -KILL "${pids[$name]}" 2>/dev/null
        wait "${pids[$name]}" 2>/dev/null
    done
    if [ -n "${keep:-}" ]; then say "kept: $folder"; else rm -rf "$folder"; fi
}
