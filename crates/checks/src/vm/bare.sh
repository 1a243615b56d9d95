# Without systemd: every runtime as root, then as an ordinary user with a group that root gave away, then
# as one without.
. /tare-vm/common.sh
export HOME=/root TMPDIR=/tmp
as_user() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }

# What podman and docker need where there is no systemd and no disk.
storage
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >/etc/containers/containers.conf
if command -v dockerd >/dev/null; then
  dockerd --iptables=false --ip6tables=false --bridge=none -s vfs --data-root /var/lib/tare-docker >/run/dockerd.log 2>&1 &
  for second in $(seq 120); do docker version >/dev/null 2>&1 && break; sleep 1; done
fi
# Without `confinement`, whose containers by five runtimes take more minutes than the machine has.
# Without the latency of neighbours, which compares times.
tests() {
  "$@" /tare-vm/bin/containers --test-threads 1 --nocapture --skip confinement:: || return
  "$@" /tare-vm/bin/measure --test-threads 1 --nocapture --skip neighbours::latency
}
tests
verdict root

workspace 1000:1000
mkdir /tmp/u && chown 1000:1000 /tmp/u
export HOME=/tmp/u TMPDIR=/tmp/u

REFUSED='error: containers cannot be made here: the group of this process is not delegated to this user, and systemd does not answer for it
hint: add `--sudo` to measure as root after all is built, log in where systemd delegates a group (`loginctl enable-linger`, XDG_RUNTIME_DIR set), or choose `--runtime docker`'
refused() {
  said=$(as_user /tare-vm/bin/tare-profiler profile ./image --profile vm 2>&1 >/dev/null)
  is 2 $? && is "$REFUSED" "$(printf '%s\n' "$said" | tail -n 2)"
}
refused
verdict refused

for controller in cpu cpuset memory pids; do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
mkdir /sys/fs/cgroup/user
(
  cd /sys/fs/cgroup/user && chown 1000:1000 . cgroup.procs cgroup.subtree_control cgroup.threads
)
# in_group COMMAND...
in_group() {
  (
    # Of this subshell.
    sh -c 'echo $PPID' >/sys/fs/cgroup/user/cgroup.procs
    exec setpriv --reuid 1000 --regid 1000 --clear-groups "$@"
  )
}
# The command line enters the namespace by itself; a test's process has threads before it is asked.
tests in_group unshare --user --map-root-user
verdict user
/tare-vm/busybox poweroff -f
