# With systemd as process 1, and an ordinary user who lingers: the laptop.
exec >/dev/console 2>&1
. /tare-vm/common.sh
echo 'tare:x:7001:7001::/tare-vm/home:/bin/sh' >>/etc/passwd
echo 'tare:x:7001:' >>/etc/group
# Without a line here the account is refused (pam_unix(8)).
echo 'tare:*:20000:0:99999:7:::' >>/etc/shadow
mkdir /tare-vm/home
chown 7001:7001 /tare-vm/home
workspace 7001:7001
session() {
  loginctl enable-linger tare && systemctl start user@7001.service && return
  systemctl status --no-pager --full user@7001.service
  return 1
}
session
verdict session

# Podman as it comes has systemd make its groups, and its runtime the limits in one below.
storage
podman_as_it_comes() {
  command -v podman >/dev/null || { echo 'left out: podman is not installed'; return 0; }
  HOME=/root /tare-vm/bin/tare-profiler profile ./image --profile vm --runtime podman >/dev/null || return 1
  is '' "$(leftovers)" || return 1
  # The ordinary user makes them anew.
  rm -rf target
  chown -R 7001:7001 .
}
podman_as_it_comes
verdict podman

export HOME=/tare-vm/home XDG_RUNTIME_DIR=/run/user/7001 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/7001/bus
as_user() { setpriv --reuid 7001 --regid 7001 --clear-groups "$@"; }
profile() { as_user /tare-vm/bin/tare-profiler profile ./image --profile vm "$@"; }

profile --json >/tare-vm/home/report.json
verdict profile
echo "tare-vm: report $(tr -d '\n' </tare-vm/home/report.json)"

is '' "$(leftovers)"
verdict clean

# The ordinary user's podman: a storage of its own, and ids below those of its own user.
rootless_podman() {
  command -v podman >/dev/null || { echo 'left out: podman is not installed'; return 0; }
  echo 'tare:100000:65536' >>/etc/subuid
  echo 'tare:100000:65536' >>/etc/subgid
  # As udev has it.
  chmod 666 /dev/net/tun
  mkdir -p /tare-vm/home/.config/containers
  printf '[storage]\ndriver = "vfs"\n' >/tare-vm/home/.config/containers/storage.conf
  chown -R 7001:7001 /tare-vm/home
  profile --runtime podman --json >/tare-vm/home/podman.json || return 1
  is true "$(grep -c '"rootless": true' /tare-vm/home/podman.json | sed s/1/true/)" || return 1
  is '' "$(leftovers)"
}
rootless_podman
verdict rootless-podman

# Killed while a container lives, by a signal that nobody can handle.
killed() {
  profile --duration 600s --pass throughput &
  for second in $(seq 60); do
    sleep 1
    pgrep -x program >/dev/null && break
  done
  pgrep -x program >/dev/null || return 1
  pkill -KILL -x tare-profiler
  for second in $(seq 60); do
    pgrep -x program >/dev/null || pgrep -x tare-keeper >/dev/null || break
    sleep 1
  done
  is '' "$(leftovers | grep -v '^/run/user/7001/tare/')" || return 1
  # The next run removes the record.
  profile --pass startup >/dev/null || return 1
  is '' "$(leftovers)"
}
killed
verdict killed

sync
/tare-vm/busybox poweroff -f
