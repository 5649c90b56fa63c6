# Runs inside the machine, from its second disk: the way out, Docker, the worker.
# When the worker ends, so does the machine.
set -eu
. /run/payload/settings

date -s "@$NOW" >/dev/null

# The host's registry by the very name that it has on the host.
socat "TCP-LISTEN:$REGISTRY_PORT,bind=127.0.0.1,fork,reuseaddr" "TCP:$HOST:$REGISTRY_PORT" &

# As the tests' other Engines are started: see engine.rs.
export BUILDKIT_STEP_LOG_MAX_SIZE=2147483647 BUILDKIT_STEP_LOG_MAX_SPEED=2147483647
dockerd --iptables=false --ip6tables=false --host=unix:///run/docker.sock >/run/dockerd.log 2>&1 &
waited=0
until docker -H unix:///run/docker.sock version >/dev/null 2>&1; do
    waited=$((waited + 1))
    if [ "$waited" -gt 240 ]; then
        echo "machine: dockerd does not answer:"
        tail -n 20 /run/dockerd.log
        exit 1
    fi
    sleep 0.5
done
echo "machine: dockerd answers"

/run/payload/archyard worker --scheduler "https://$HOST:$SCHEDULER_PORT" --tls-dir /run/payload/tls \
    --engine unix:///run/docker.sock --data-dir /var/lib/archyard --name "$NAME"
