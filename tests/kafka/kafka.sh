#!/usr/bin/env bash
# Apache Kafka itself for tests, without a container engine: KRaft brokers from Maven artifacts.
#
#   kafka.sh up DIR N PORT     N brokers in DIR, on PORT, PORT+1 …; prints what to connect to
#   kafka.sh start DIR I       broker I again, and waits until it listens
#   kafka.sh stop|kill DIR I   asks broker I to end, or ends it; waits until it has
#   kafka.sh down DIR          ends all of them
#
# Needs java (17) and, the first time, mvn. What it fetches is kept in AUDITWATCH_KAFKA_LIBS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
libs=${AUDITWATCH_KAFKA_LIBS:-$HOME/.cache/auditwatch-kafka-4.1.0}

fetch() {
    [[ -e $libs/complete ]] && return
    mkdir -p "$libs"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" -DincludeScope=runtime >&2
    touch "$libs/complete"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

launch() {
    local dir=$1/$2
    java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$libs/*" kafka.Kafka "$dir/server.properties" \
        >"$dir/out" 2>&1 </dev/null &
    echo $! >"$dir/pid"
}

wait_for() {
    local dir=$1/$2 port
    port=$(cat "$dir/port")
    for _ in $(seq 600); do
        listens "$port" && return
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || { tail -n 20 "$dir/out" >&2; exit 1; }
        sleep 0.1
    done
    echo "broker $2 does not listen" >&2
    exit 1
}

finish() {
    local pid
    pid=$(cat "$2/$3/pid")
    kill "-$1" "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}

up() {
    local dir=$1 n=$2 port=$3 voters="" brokers="" id i
    fetch
    for i in $(seq "$n"); do
        voters+="${voters:+,}$i@127.0.0.1:$((port + n + i - 1))"
        brokers+="${brokers:+,}127.0.0.1:$((port + i - 1))"
    done
    id=$(java -cp "$libs/*" kafka.tools.StorageTool random-uuid)
    for i in $(seq "$n"); do
        mkdir -p "$dir/$i"
        echo $((port + i - 1)) >"$dir/$i/port"
        cat >"$dir/$i/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$((port + i - 1)),CONTROLLER://127.0.0.1:$((port + n + i - 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$((port + i - 1))
controller.listener.names=CONTROLLER
log.dirs=$dir/$i/data
offsets.topic.replication.factor=$n
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=$n
transaction.state.log.num.partitions=5
transaction.state.log.min.isr=$(((n + 1) / 2))
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=50000000
replica.fetch.max.bytes=50000000
PROPERTIES
        java -cp "$libs/*" kafka.tools.StorageTool format -t "$id" -c "$dir/$i/server.properties" >&2
    done
    for i in $(seq "$n"); do launch "$dir" "$i"; done
    for i in $(seq "$n"); do wait_for "$dir" "$i"; done
    echo "$brokers"
}

case ${1:-} in
    up) up "$2" "$3" "$4" ;;
    start) launch "$2" "$3" && wait_for "$2" "$3" ;;
    stop) finish TERM "$2" "$3" ;;
    kill) finish KILL "$2" "$3" ;;
    down) for pid in "$2"/*/pid; do kill -KILL "$(cat "$pid")" 2>/dev/null || true; done ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
