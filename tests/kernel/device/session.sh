# SPDX-License-Identifier: MIT
# sh session.sh SYNCS SIZE: what both guests do, as far as it is the same, and what differs.

. /test/library.sh
syncs=$1 size=$2
: >"$said"
echo '@@ begin'

self=$(lava-self)
commands=1
case $self in
server-1) role=server other=client-1 ;;
*) role=client other=server-1 ;;
esac

# Who is who.
ask self "$self" lava-self
ask role "$role" lava-role
ask roles "$(printf 'server\nclient')" lava-role list
ask group "$(printf 'server-1\tserver\nclient-1\tclient')" lava-group
ask 'group of a role' client-1 lava-group client
filler

# Messages.
ask start '' lava-sync start
compare 'nothing in the cache' '' "$(cat $cache)"
ask 'send nothing' '' lava-send "hello-$self"
ask 'wait for nothing' '' lava-wait "hello-$other"
ask 'send data' '' lava-send "data-$self" name="$self" 'odd=%s > "\ $x = ü' empty=
ask 'wait for data' '' lava-wait "data-$other"
compare 'data' "$(printf 'name=%s\nodd=%%s > "\\ $x = ü\nempty=' $other)" "$(cat $cache)"
ask 'send to all' '' lava-send all-have-it from="$self"
ask 'wait for all' '' lava-wait-all all-have-it
compare 'data of all' "$other:from=$other" "$(cat $cache)"
ask 'wait for a role' '' lava-wait-all all-have-it "${other%-1}"
filler

# The examples.
if [ $role = server ]; then
    example 1-client-server run-server.sh 1
    example 3-variable-clients run-server.sh 2
    example flow-table run-server.sh 3
else
    example 1-client-server run-client.sh 1
    example 3-variable-clients run-client.sh 4
    example flow-table run-client.sh 4
fi
example 4-peer-to-peer run-peer.sh 5
filler

# A true barrier: the server comes behind the client's sending of each number.
for number in 1 2 3 4 5 6 7 8; do
    if [ $role = client ]; then
        ask "number $number" '' lava-send number n=$number
        ask "barrier $number" '' lava-sync barrier
    else
        ask "barrier $number" '' lava-sync barrier
        ask "number $number" '' lava-wait number
        case $(cat $cache) in
        n=$number | n=$((number + 1))) compare "after barrier $number" here here ;;
        *) compare "after barrier $number" "n=$number" "$(cat $cache)" ;;
        esac
    fi
done

# One point, many times.
number=0
while [ $number -lt "$syncs" ]; do
    number=$((number + 1))
    ask "sync $number" '' lava-sync round
done
filler

# More than a frame or a line takes.
if [ $role = server ]; then
    ask 'send much' '' lava-send much text="$(big "$size")"
    ask 'wait for much' '' lava-wait much-back
else
    ask 'wait for much' '' lava-wait much
    ask 'send much' '' lava-send much-back text="$(big "$size")"
fi
compare 'much' "text=$(big "$size" | md5sum)" "text=$(sed 's/^text=//' $cache | head -c "$size" | md5sum)"
filler

# Several at once: the waits begin before anything is sent. Each has a cache of its own.
several='1 2 3 4 5 6 7 8'
for number in $several; do
    {
        LAVA_MULTI_NODE_CACHE=/tmp/cache-$number lava-wait "at-once-$number-$other" >/tmp/output-$number 2>&1
        echo $? >/tmp/status-$number
    } &
done
ask 'sync at once' '' lava-sync at-once
for number in $several; do
    {
        lava-send "at-once-$number-$self" n=$number >/tmp/sent-$number 2>&1
        echo $? >>/tmp/sent-$number
    } &
done
wait
for number in $several; do
    commands=$((commands + 2))
    judge "at once, wait $number" "n=$number" "$(cat /tmp/output-$number /tmp/cache-$number)" "$(cat /tmp/status-$number)"
    compare "at once, send $number" 0 "$(cat /tmp/sent-$number)"
done
filler

# What ends with a no.
for number in 1 2; do
    output=$(lava-wait --timeout 0.2 never 2>&1)
    compare "time-out $number" "lava-wait: timed out waiting for 'never' from $other: 1" "$output: $?"
    commands=$((commands + 1))
done
compare echo on "$(echo_flag)"
ask end '' lava-sync end

say "@@ end"
echo "@@ said $(md5sum <"$said" | cut -c 1-32) commands=$commands failed=$failed wrong=$wrong"
