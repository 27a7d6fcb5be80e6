# shellcheck shell=bash disable=SC2154 # $set, $cache, $here come from the others
# Prometheus with Alertmanager, and what tells it of the processes on this host. Sourced by `dev/services`.
# $set/prometheus.prepared stands once all three folders are whole. What it watches by is in monitoring/.

prometheus_packages=(prometheus prometheus-alertmanager)
monitoring=$here/../monitoring
alertmanager_template=/usr/share/prometheus/alertmanager/default.tmpl # Debian's Alertmanager starts only where it is installed

# Prints the path of the first of NAMEs that there is: on PATH, else fetched.
prometheus_tool() { # NAME...
    local name
    for name in "$@"; do command -v "$name" && return; done
    for name in "$@"; do [ ! -x "$cache/prometheus/usr/bin/$name" ] || { echo "$cache/prometheus/usr/bin/$name"; return; }; done
    return 1
}

prometheus_complete() {
    prometheus_tool prometheus && prometheus_tool promtool && prometheus_tool amtool
} >/dev/null

# Fetches what is missing into the cache, and installs nothing: Debian's packages start their servers at once, on all addresses.
prometheus_fetch() {
    local fetched=$cache/prometheus.new package start=$EPOCHREALTIME
    prometheus_complete && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || prometheus_missing 'there is no apt-get here'
    rm -rf "$fetched"
    mkdir -p "$fetched"
    say "fetching Prometheus and Alertmanager with apt-get into $cache/prometheus" >&2
    prometheus_download "$fetched" || { [ "$(id -u)" -eq 0 ] && apt-get -qq update && prometheus_download "$fetched"; } ||
        prometheus_missing 'apt-get could not fetch them'
    for package in "$fetched"/*.deb; do
        dpkg-deb -x "$package" "$fetched" && rm "$package"
    done
    rm -rf "$cache/prometheus"
    mv -T "$fetched" "$cache/prometheus"
    prometheus_complete || prometheus_missing 'the packages do not hold all of them'
    say "fetched in $(seconds_since "$start") s" >&2
}

prometheus_download() { # FOLDER
    (cd "$1" && apt-get -qq download -o APT::Sandbox::User=root "${prometheus_packages[@]}") >&2
}

prometheus_missing() { # WHY
    echo "dev/services: needs prometheus, promtool and amtool on PATH: $1; on Debian or Ubuntu:" >&2
    echo "    sudo apt-get install ${prometheus_packages[*]}" >&2
    exit 3
}

# Prints an Alertmanager that can start, and installs Debian's where that is allowed.
alertmanager_tool() {
    command -v alertmanager && return
    [ -e "$alertmanager_template" ] || (apt_install prometheus-alertmanager >&2) 2>/dev/null || return 1
    prometheus_tool prometheus-alertmanager
}

# Makes the folders, unless they are there already.
prometheus_prepare() {
    local key
    [ ! -e "$set/prometheus.prepared" ] || return 0
    remove_services "$set"/prometheus{,-alertmanager,-targets}
    mkdir -p "$set"/prometheus{,-targets}
    reserve_port prometheus client
    if alertmanager_tool >/dev/null; then
        mkdir -p "$set/prometheus-alertmanager"
        reserve_port prometheus-alertmanager client
        cp "$monitoring/alertmanager.yml" "$set/prometheus-alertmanager/"
    else
        say "without Alertmanager, which is not installed: sudo apt-get install prometheus-alertmanager"
    fi
    key=${CHAT4ALL_API_KEY:-}
    [ -z "$key" ] || (umask 077 && printf %s "$key" >"$set/prometheus/chat4all.key")
    prometheus_configure "$key" >"$set/prometheus/prometheus.yml"
    touch "$set/prometheus.prepared"
}

# Prints monitoring/prometheus.yml with our ports, our pace, where the rules are and, with KEY, the line that shows it.
prometheus_configure() { # KEY|''
    local alerts
    alerts=$(port_of prometheus-alertmanager client)
    sed -E -e "s#^( *(scrape|evaluation)_interval:) 15s.*#\1 ${scrape:-5}s#" \
        -e "$([ -n "$alerts" ] && echo "s#127\.0\.0\.1:9093#127.0.0.1:$alerts#" || echo '/^alerting:/,/^$/d')" \
        -e "s#^( *- )(rules/.*)#\1'$(realpath "$monitoring")/\2'#" \
        ${1:+-e 's|^( *)# (authorization:)|\1\2|'} "$monitoring/prometheus.yml"
}

prometheus_launch() { # NAME
    case $1 in
    prometheus)
        launch "$1" "$(prometheus_tool prometheus)" --config.file=prometheus.yml --storage.tsdb.path=data \
            --web.listen-address="127.0.0.1:$(port_of "$1" client)" ;;
    prometheus-alertmanager)
        launch "$1" "$(alertmanager_tool)" --config.file=alertmanager.yml \
            --storage.path=data --web.listen-address="127.0.0.1:$(port_of "$1" client)" --cluster.listen-address= ;;
    prometheus-targets)
        launch "$1" "$(realpath "$monitoring")/targets" --every "${scrape:-5}" "$set/prometheus/targets.json" ;;
    esac
}

# True when NAME answers that it is ready. What writes the targets has nobody to answer to.
prometheus_ready() { # NAME
    local port
    port=$(port_of "$1" client)
    [ -z "$port" ] || [[ $(ask "$port" 'GET /-/ready HTTP/1.0\r\n\r\n') == 485454502f312e3?20323030* ]] # HTTP/1.x 200
}

prometheus_env() {
    [ -d "$set/prometheus" ] || return 0
    echo "export SERVICES_PROMETHEUS=http://127.0.0.1:$(port_of prometheus client)"
    port_of prometheus-alertmanager client | sed 's#^#export SERVICES_ALERTMANAGER=http://127.0.0.1:#'
}

prometheus_tools() {
    printf 'export %s=%q\n' PROMETHEUS "$(prometheus_tool prometheus)" PROMTOOL "$(prometheus_tool promtool)" \
        AMTOOL "$(prometheus_tool amtool)"
}
