# shellcheck shell=bash disable=SC2154 # $set, $cache, $here, $java come from the others
# Authority, certificate and passwords for `--secure`, made once a set in $set/secure. Sourced by `dev/services`.

secure_user=chat4all    # may do what Chat4All does
secure_guest=guest      # has the same password, and no rights at all
store_password=changeit # Java wants one: what guards the keys is that nobody else may enter the set's folder

secure_make() {
    [ ! -e "$set/secure/ca.pem" ] || return 0
    rm -rf "$set/secure"
    (
        umask 077
        mkdir "$set/secure"
        random_word >"$set/secure/kafka.password"
        random_word >"$set/secure/cassandra.password"
    )
    certificate_make "$set/secure/server.p12"
}

# 24 letters and digits, more or less.
random_word() { head -c 18 /dev/urandom | base64 | tr -d '+/=\n'; }

# Makes STORE with the key and the certificate of the servers, and ca.pem beside it.
certificate_make() { # STORE
    local key=(-keyalg EC -groupname secp256r1 -validity 3650)
    key_store "$1" -genkeypair -alias ca "${key[@]}" -dname 'CN=Chat4All tests' -ext bc:critical=ca:true
    key_store "$1" -genkeypair -alias server "${key[@]}" -dname CN=localhost -signer ca -ext san=dns:localhost,ip:127.0.0.1
    key_store "$1" -exportcert -alias ca -rfc -file "${1%/*}/ca.pem.new"
    key_store "$1" -delete -alias ca # else a server might show this one
    mv "${1%/*}/ca.pem.new" "${1%/*}/ca.pem"
}

# Java's own tool, so that nothing else must be installed.
key_store() { # STORE ARGUMENT...
    local output
    output=$("${java%/*}/keytool" "${@:2}" -keystore "$1" -storetype PKCS12 -storepass "$store_password" 2>&1) ||
        die "keytool failed: $output"
}

# Prints the end of a URL: who logs in, and with `tls` whom to trust.
secure_parameters() { # kafka|cassandra USER [tls]
    [ -z "${3:-}" ] || printf 'tls=true&ca_file=%s&' "$(url_encoded "$set/secure/ca.pem")"
    printf 'user=%s&password_file=%s' "$2" "$(url_encoded "$set/secure/$1.password")"
}

# What would end a parameter's value or be read as something else.
url_encoded() { # PATH
    local path=${1//%/%25}
    path=${path//&/%26}
    printf %s "${path//+/%2B}"
}
