#!/bin/sh
# Prefect's worker. Where RAY_HEAD names a Ray cluster, its container is a node of it that computes nothing itself: Ray
# serves drivers on its own nodes alone.
set -eu
if [ -n "${RAY_HEAD:-}" ]; then
    ray start --address="$RAY_HEAD" --num-cpus=0
    export QUORUMLAB_OVERRIDES="${QUORUMLAB_OVERRIDES:-} executor=ray_cluster executor.address=$RAY_HEAD"
fi
exec prefect worker start --pool quorumlab --type process --with-healthcheck
