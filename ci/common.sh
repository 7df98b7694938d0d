#!/usr/bin/env bash
# What the scripts of this folder share; they source it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$@"; }

# Run every step of a group in `ci/steps`, to the end even if one fails, and say which failed.
# Usage: run_steps GROUP
run_steps() {
    local group=$1 failed="" g name command began
    while read -r g name command <&3; do
        [ "$g" = "$group" ] || continue
        say "" "==> $name: $command"
        began=$SECONDS
        if bash -euo pipefail -c "$command" </dev/null; then
            say "--> $name: passed in $((SECONDS - began)) s"
        else
            say "--> $name: FAILED after $((SECONDS - began)) s"
            failed="$failed $name"
        fi
    done 3<ci/steps
    [ -z "$failed" ] && return 0
    say "" "$group: failed:$failed"
    return 1
}

# Whether a Vulkan loader would find a software adapter (lavapipe or SwiftShader) here.
software_adapter() {
    local list=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}} file folder
    if [ -n "$list" ]; then
        case "$list" in *lvp_icd* | *lavapipe* | *swiftshader*) ;; *) return 1 ;; esac
        for file in ${list//:/ }; do [ -f "$file" ] && return 0; done
        return 1
    fi
    for folder in /usr/share /usr/local/share /etc "${XDG_DATA_HOME:-${HOME:-}/.local/share}"; do
        for file in "$folder"/vulkan/icd.d/*; do
            case "$file" in *lvp_icd* | *lavapipe* | *swiftshader*) [ -f "$file" ] && return 0 ;; esac
        done
    done
    return 1
}
