# What both sides use.
announce() {
    echo "announcing $1"
    lava-send "$1" "name=$(lava-self)"
}

await() {
    local id=$1
    lava-wait "$id" || exit 1
    grep -q "$2" /tmp/lava_multi_node_cache.txt || echo "no $2"
}

finish() {
    lava-sync all-finished
}
