# What is asked of binaries that may be for other machines than this one; for those who source it.
# shellcheck shell=bash

# machine_of FILE: x86_64 or aarch64, as `uname -m` has it.
machine_of() {
    case $(LC_ALL=C readelf --file-header "$1" | sed -n 's/^ *Machine: *//p') in
    *X86-64) echo x86_64 ;;
    AArch64) echo aarch64 ;;
    *) echo "$1 is for neither x86_64 nor aarch64" >&2 && return 1 ;;
    esac
}

# architecture_of FILE: amd64 or arm64, as docker has it.
architecture_of() { machine_of "$1" | sed 's/x86_64/amd64/; s/aarch64/arm64/'; }

# tool_for FILE NAME: the one of binutils that knows the file's machine; that of another has a name of its own.
tool_for() {
    local machine
    machine=$(machine_of "$1") || return
    if [ "$machine" = "$(uname -m)" ]; then echo "$2"; else echo "$machine-linux-gnu-$2"; fi
}

# run_binary FILE ARGUMENT...: another machine's is run by Debian's qemu-user-static.
run_binary() {
    local machine
    machine=$(machine_of "$1") || return
    if [ "$machine" = "$(uname -m)" ]; then "$@"; else "qemu-$machine-static" "$@"; fi
}
