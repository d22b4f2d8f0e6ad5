# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A private Slurm on 127.0.0.1, as root, without systemd and cgroups: slurmctld, munged with a key of its own, and one
# slurmd per node n1, n2, ... with a host name, /dev/shm and /tmp/ompi of its own, so that ranks on two nodes share
# neither memory nor names. Sourced.

# cluster_missing: prints why there can be no cluster here, or nothing
cluster_missing() {
    local p
    [ "$(id -u)" = 0 ] || { echo "needs root (munged and slurmd are started as root)"; return; }
    for p in slurmctld slurmd munged srun sbatch scontrol unshare; do
        PATH=$PATH:/usr/sbin:/sbin command -v $p >/dev/null || { echo "$p is not installed (Debian: slurm-wlm, munge)"; return; }
    done
    unshare --mount --uts true 2>/dev/null || { echo "mount and UTS namespaces are not allowed here"; return; }
    unshare --mount sh -c 'mount -t tmpfs none /mnt' 2>/dev/null || echo "mount is not allowed here"
}

# free_ports COUNT: the first of that many neighbouring ports nobody listens on
free_ports() {
    local first i try
    for ((try = 0; try < 50; try++)); do
        first=$((20000 + (RANDOM % 1000) * 10))
        for ((i = 0; i < $1; i++)); do (: <"/dev/tcp/127.0.0.1/$((first + i))") 2>/dev/null && continue 2; done
        echo $first
        return
    done
    return 1
}

# cluster_up NODES CPUS: $cluster is its folder; exports SLURM_CONF
cluster_up() {
    local nodes=$1 cpus=$2 port host i
    export PATH=$PATH:/usr/sbin:/sbin
    host=$(hostname -s)
    port=$(free_ports $((nodes + 1))) || return 1
    cluster=$(mktemp -d /tmp/slXXXXXX) # short: sockets have 108 characters
    chmod 755 "$cluster"
    mkdir -p "$cluster"/{state,log,run} && mkdir -m 700 "$cluster/munge"
    dd if=/dev/urandom of="$cluster/munge/key" bs=1 count=256 status=none && chmod 600 "$cluster/munge/key"
    munged --force --key-file="$cluster/munge/key" --socket="$cluster/run/munge" --pid-file="$cluster/munge/pid" \
        --log-file="$cluster/munge/log" --seed-file="$cluster/munge/seed" --num-threads=2 2>"$cluster/log/munged" ||
        { cat "$cluster/log/munged"; return 1; }
    cat >"$cluster/slurm.conf" <<END
ClusterName=errata
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# 6 s: a requeued job may start 6 s after its last credential; below 5 the default of 120 counts
AuthInfo=socket=$cluster/run/munge,cred_expire=6
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/%n/spool
SlurmctldPidFile=$cluster/run/slurmctld.pid
SlurmdPidFile=$cluster/run/slurmd.%n.pid
SlurmctldLogFile=$cluster/log/slurmctld
SlurmdLogFile=$cluster/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TmpFS=$cluster/%n/tmp
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,requeue_delay=0
MpiDefault=pmix
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=20
KillWait=${cluster_kill_wait:-5}
MinJobAge=300
JobRequeue=1
PropagateResourceLimits=NONE
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus Boards=1 Sockets=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    { cat /etc/hosts; for ((i = 1; i <= nodes; i++)); do echo "127.0.0.1 n$i"; done; } >"$cluster/hosts"
    export SLURM_CONF=$cluster/slurm.conf
    slurmctld -c -f "$SLURM_CONF" || { cat "$cluster/log/slurmctld"; return 1; }
    for ((i = 1; i <= nodes; i++)); do
        mkdir -p "$cluster/n$i/spool" "$cluster/n$i/tmp"
        unshare --mount --uts --propagation slave sh -c "hostname n$i && mount -t tmpfs -o size=2g shm-n$i /dev/shm &&
            mount --bind '$cluster/hosts' /etc/hosts && exec slurmd -N n$i -f '$SLURM_CONF'" || return 1
    done
    for ((i = 0; i < 200; i++)); do
        [ "$(timeout 5 sinfo -h -N -o %T 2>/dev/null | sort -u)" = idle ] && return 0
        sleep 0.1
    done
    echo "nodes are not idle after 20 s"
    timeout 5 sinfo
    tail -n 3 "$cluster"/log/*
    return 1
}

# cluster_down: ends what cluster_up started, by its pid files
cluster_down() {
    [ -n "${cluster:-}" ] || return 0
    local pids p i
    timeout 10 scancel -Q -u root 2>/dev/null
    for ((i = 0; i < 80; i++)); do [ -z "$(timeout 5 squeue -h -t R,CG 2>/dev/null)" ] && break; sleep 0.1; done
    pids=$(cat "$cluster"/run/slurmd.*.pid "$cluster/run/slurmctld.pid" 2>/dev/null)
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill $pids 2>/dev/null
    for p in $pids; do
        for ((i = 0; i < 100; i++)); do
            case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$p/status" 2>/dev/null) in "" | Z) break ;; esac
            sleep 0.05
        done
    done
    p=$(cat "$cluster/munge/pid" 2>/dev/null) && kill "$p" 2>/dev/null
    # the last slurmstepd may still write
    [ -n "${ERRATA_KEEP_CLUSTER:-}" ] || rm -rf "$cluster" 2>/dev/null || { sleep 1; rm -rf "$cluster"; }
    cluster=
}
