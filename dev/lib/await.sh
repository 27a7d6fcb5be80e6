# shellcheck shell=bash
# Waiting for what no event tells. Sourced by the tools of dev/.

# Polls until COMMAND succeeds. Fails after about SECONDS.
await() { # SECONDS COMMAND...
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}
