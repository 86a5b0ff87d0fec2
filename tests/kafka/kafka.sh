#!/usr/bin/env bash
# Apache Kafka itself for tests, without a container engine: KRaft brokers from Maven artifacts.
#
#   kafka.sh up DIR N PORT [PEM]   N brokers in DIR, on PORT, PORT+1 …; prints what to connect to. With a key and
#                              certificate in PEM, a single one listens with SASL and TLS on PORT+2, with TLS on PORT+3
#   kafka.sh start DIR I       broker I again, and waits until it listens
#   kafka.sh stop|kill DIR I   asks broker I to end, or ends it; waits until it has
#   kafka.sh down DIR          ends all of them
#
# Needs java (17) and, the first time, mvn. What it fetches is kept in AUDITWATCH_KAFKA_LIBS. Ends with 77 if that cannot be
# fetched.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
libs=${AUDITWATCH_KAFKA_LIBS:-$HOME/.cache/auditwatch-kafka-4.1.0}

fetch() {
    [[ -e $libs/complete ]] && return
    mkdir -p "$libs"
    # Only what is there as a whole is used.
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" -DincludeScope=runtime >&2 || exit 77
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

# What a broker is told that asks who is there: reader, whose password is "secret", or anybody with a token.
asks() {
    local login=org.apache.kafka.common.security listener=listener.name.sasl_ssl
    cat <<PROPERTIES
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location=$1
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
$listener.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_reader="secret";
$listener.scram-sha-256.sasl.jaas.config=$login.scram.ScramLoginModule required;
$listener.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
$listener.oauthbearer.sasl.jaas.config=$login.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
PROPERTIES
}

up() {
    local dir=$1 n=$2 port=$3 pem=${4:-} voters="" brokers="" id i listeners
    local scram=()
    fetch
    for i in $(seq "$n"); do
        voters+="${voters:+,}$i@127.0.0.1:$((port + n + i - 1))"
        brokers+="${brokers:+,}127.0.0.1:$((port + i - 1))"
    done
    id=$(java -cp "$libs/*" kafka.tools.StorageTool random-uuid)
    for i in $(seq "$n"); do
        mkdir -p "$dir/$i"
        listeners=PLAINTEXT://127.0.0.1:$((port + i - 1))
        [[ -n $pem ]] && listeners+=,SASL_SSL://127.0.0.1:$((port + 2)),SSL://127.0.0.1:$((port + 3))
        echo $((port + i - 1)) >"$dir/$i/port"
        cat >"$dir/$i/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$voters
listeners=$listeners,CONTROLLER://127.0.0.1:$((port + n + i - 1))
advertised.listeners=$listeners
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
        if [[ -n $pem ]]; then
            asks "$pem" >>"$dir/$i/server.properties"
            scram=(--add-scram "SCRAM-SHA-256=[name=reader,password=secret]"
                --add-scram "SCRAM-SHA-512=[name=reader,password=secret]")
        fi
        java -cp "$libs/*" kafka.tools.StorageTool format -t "$id" -c "$dir/$i/server.properties" "${scram[@]}" >&2
    done
    for i in $(seq "$n"); do launch "$dir" "$i"; done
    for i in $(seq "$n"); do wait_for "$dir" "$i"; done
    echo "$brokers"
}

case ${1:-} in
    up) up "$2" "$3" "$4" "${5:-}" ;;
    start) launch "$2" "$3" && wait_for "$2" "$3" ;;
    stop) finish TERM "$2" "$3" ;;
    kill) finish KILL "$2" "$3" ;;
    down) for pid in "$2"/*/pid; do kill -KILL "$(cat "$pid")" 2>/dev/null || true; done ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
