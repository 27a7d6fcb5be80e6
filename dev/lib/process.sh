# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# Processes of one set: starting, asking after, ending. Sourced by `dev/services`; knows nothing of Kafka or Cassandra.
# A server's folder is $set/NAME; its `pid` file holds the pid and the start time, so that a recycled pid is never taken for it.

# Prints when process PID started, in clock ticks since boot. Fails when there is none, or only a zombie.
start_ticks() { # PID
    local stat fields
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    read -ra fields <<<"${stat##*) }" # from the state on: the name before it may hold blanks
    [ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

# Prints the pid of NAME's process; fails when it does not run.
running_pid() { # NAME
    local pid ticks
    { read -r pid ticks <"$set/$1/pid"; } 2>/dev/null || return 1
    [ "$(start_ticks "$pid")" = "$ticks" ] && echo "$pid"
}

runs() { running_pid "$1" >/dev/null; }

ended() { ! runs "$1"; }

# Starts COMMAND as NAME's process, apart from this terminal, in NAME's folder, and returns once its pid is written.
launch() { # NAME COMMAND...
    local folder=$set/$1
    shift
    rm -f "$folder/pid"
    (
        cd "$folder" || exit
        # Written before the server is one: who ends us here cannot leave a server that no file knows.
        pid=$BASHPID
        echo "$pid $(start_ticks "$pid")" >pid
        exec setsid "$@" </dev/null >>server.log 2>&1 9>&-
    ) &
    await 10 test -s "$folder/pid" || die "could not start \`$1\`"
}

# Fails when NAME does not run.
signal() { # SIGNAL NAME
    local pid
    pid=$(running_pid "$2") && kill "-$1" "$pid"
}

# SIGKILL, and back when the process is gone.
kill_now() { # NAME
    signal KILL "$1" || return 0
    await 10 ended "$1" || die "\`$1\` is still there 10 s after SIGKILL"
}

# SIGTERM to all at once; SIGKILL to those that are still there 20 s later.
terminate() { # NAME...
    local name deadline=$((SECONDS + 20))
    for name in "$@"; do
        signal TERM "$name" || true
    done
    for name in "$@"; do
        await $((deadline - SECONDS)) ended "$name" && continue
        say "$name: still there 20 s after SIGTERM, killed"
        kill_now "$name"
    done
}
