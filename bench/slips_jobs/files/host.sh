#!/bin/sh
# shellcheck disable=SC1091
. ./lib.sh

while getopts "d:n:" option; do
    case "$option" in
        d) DEVICE=$OPTARG ;;
        n) COUNT=$OPTARG ;;
        *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
PREFIX=${DEVICE:-none}

announce "$PREFIX-$1"
await guest-ready name
number=1
while [ "$number" -le "$COUNT" ]; do
    lava-send "round-$number" "value=$number"
    await "answer-$number" value
    number=$((number + 1))
done
if [ -e /tmp/extra ]; then
    lava-send extra-found
fi
trap 'lava-send host-gone' EXIT
finish
