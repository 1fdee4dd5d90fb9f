# SPDX-License-Identifier: MIT
# For the scripts that run on both guests.

said=/run/said
cache=/tmp/lava_multi_node_cache.txt
commands=0 failed=0 wrong=0
alphabet=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_

# Prints a line, and notes it: the host compares what came with what was said.
say() {
    printf '%s\n' "$*"
    printf '%s\n' "$*" >>"$said"
}

# ask NAME WANTED COMMAND ...: the command has to succeed, and print WANTED.
ask() {
    name=$1 wanted=$2
    shift 2
    commands=$((commands + 1))
    got=$("$@" 2>&1)
    judge "$name" "$wanted" "$got" $?
}

# judge NAME WANTED GOT STATUS
judge() {
    if [ "$4" != 0 ]; then
        failed=$((failed + 1))
        say "@@ failed $1: status $4: $3"
    elif [ "$2" != "$3" ]; then
        wrong=$((wrong + 1))
        say "@@ wrong $1: not '$2' but '$3'"
    else
        say "@@ ok $1"
    fi
}

# compare NAME WANTED GOT
compare() {
    judge "$@" 0
}

# example NAME SCRIPT COMMANDS: one of the examples, with so many commands in it.
example() {
    commands=$((commands + $3 - 1))
    output=$(cd "/test/examples/$1" && sh "./$2" 2>&1)
    status=$?
    commands=$((commands + 1))
    if [ $status = 0 ]; then
        say "@@ ok example $1: $output"
    else
        failed=$((failed + 1))
        say "@@ failed example $1: status $status: $output"
    fi
}

# Output that looks like anything: frames' characters, escape sequences, half markers.
filler() {
    escape=$(printf '\033')
    for line in 1 2 3 4 5 6 7 8; do
        say "$line $alphabet"
        say "$alphabet$alphabet$alphabet$line"
        say "$escape]0;title $line$escape\\ $escape[1mbold$escape[0m #L2.$alphabet.AAAAAA $escape]528;x"
    done
}

# "on" or "off".
echo_flag() {
    case $(stty -a </dev/ttyS0 2>&1) in
    *" echo "*) echo on ;;
    *" -echo "*) echo off ;;
    *) echo unknown ;;
    esac
}

# big SIZE: text of so many bytes, a different character each but no line break.
big() {
    text=
    while [ ${#text} -lt "$1" ]; do
        text="$text${#text}:$alphabet="
    done
    printf '%s' "$text" | head -c "$1"
}
