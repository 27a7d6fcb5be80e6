# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# Fetches the servers once into the cache, with Java and Maven from apt where it may. Sourced by `dev/services`.

# Sets `java` to a Java 17: the only version that both servers run on.
find_java() {
    for java in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*17*/bin/java; do
        [ -x "$java" ] && [[ $("$java" -version 2>&1) == *'version "17'[.\"]* ]] && return
    done
    return 1
}

need_java() {
    find_java || apt_install openjdk-17-jre-headless
    find_java || cannot_install openjdk-17-jre-headless
}

need_maven() {
    command -v mvn >/dev/null || apt_install maven
    command -v mvn >/dev/null || cannot_install maven
}

# Installs a Debian package when this is root on a system with apt-get.
apt_install() { # PACKAGE
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then cannot_install "$1"; fi
    say "installing $1 with apt-get"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$1"; } >/dev/null ||
        cannot_install "$1"
}

cannot_install() { # PACKAGE
    echo "dev/services: needs Java 17 and Maven, and could not install them here; on Debian or Ubuntu:" >&2
    echo "    sudo apt-get install openjdk-17-jre-headless maven" >&2
    echo "elsewhere put \`mvn\` on PATH and let JAVA_HOME or PATH lead to a Java 17; missing now: $1" >&2
    exit 3
}

# Prints the folder of a server's jars. Its name holds the version, which is the first that stands in its pom.xml.
jars_of() { # kafka|cassandra
    echo "$cache/$1-$(sed -n 's:.*<version>\(.*\)</version>.*:\1:p;T;q' "$here/$1/pom.xml")"
}

# Installs what is missing. One installation at a time; a folder appears under its name only when it is whole.
install_once() { # kafka|cassandra|prometheus ...
    local name
    mkdir -p "$cache"
    exec 8>"$cache/install.lock"
    flock -w 1200 8 || die "another installation has held \`$cache/install.lock\` for 20 minutes"
    for name in "$@"; do
        if [ "$name" = prometheus ]; then prometheus_fetch; continue; fi
        need_java
        [ -d "$(jars_of "$name")" ] || fetch_jars "$name"
    done
    exec 8>&-
}

fetch_jars() { # kafka|cassandra
    local jars output start=$EPOCHREALTIME
    jars=$(jars_of "$1")
    need_maven
    say "$1: fetching its jars with Maven into $jars"
    rm -rf "$jars.new"
    # In a folder of its own: Maven must write nothing beside the tracked pom.xml.
    mkdir -p "$jars.new"
    output=$(mvn -q -B -f "$here/$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$jars.new" 2>&1) || die "Maven could not fetch the jars of $1: $output"
    mv -T "$jars.new" "$jars"
    say "$1: fetched in $(seconds_since "$start") s"
}
