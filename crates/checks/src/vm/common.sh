# What both parts of the virtual machine begin with. init.sh has copied the programs to /tare-vm/bin.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin RUST_BACKTRACE=0 NO_COLOR=1

export TARE_KEEPER=/tare-vm/bin/tare-keeper TARE_TEST_PROGRAM=/tare-vm/bin/program TARE_TEST_PROFILER=/tare-vm/bin/tare-profiler

# verdict NAME: of the command before it.
verdict() {
  if [ $? = 0 ]; then echo "tare-vm: $1 passed"; else echo "tare-vm: $1 failed"; fi
}

# is EXPECTED FOUND
is() {
  [ "$1" = "$2" ] || { printf 'expected: %s\nfound:    %s\n' "$1" "$2"; return 1; }
}

# A workspace of USER's with an image of the tests' program and a profile that is over soon.
workspace() {
  mkdir -p /tare-vm/work/profiles
  printf '[workspace]\n' >/tare-vm/work/Cargo.toml
  cat >/tare-vm/work/profiles/vm.toml <<PROFILE
[limits]
cpus = 0.5
memory = "64MiB"
pids = 64
[ready]
timeout = "60s"
[startup]
runs = 2
cold-runs = 1
[throughput]
loads = ["closed"]
connections = 2
duration = "1s"
[gates]
"throughput.errors" = { max = 0 }
PROFILE
  TARE_TEST_IMAGE=/tare-vm/work/image /tare-vm/bin/containers --quiet --ignored --exact fixture::an_image_for_others >/dev/null
  chown -R "$1" /tare-vm/work
  cd /tare-vm/work
}

# Where podman keeps images, where the disk is memory.
storage() {
  mkdir -p /etc/containers
  printf '[storage]\ndriver = "vfs"\nrunroot = "/run/storage"\ngraphroot = "/var/lib/tare-storage"\n' >/etc/containers/storage.conf
}

# Whatever of containers lives outside of memory.
leftovers() {
  find /sys/fs/cgroup /run/tare /run/user /tmp -name 'tare-*' -not -name tare-tool 2>/dev/null
  ps -e -o comm= | grep -E '^(tare-|program)'
}
