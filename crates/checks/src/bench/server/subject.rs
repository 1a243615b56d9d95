//! A server that runs, what it uses, and asking it something once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::cgroup::Cgroup;
use super::generator::BODY;
use super::{Contest, Server};
use tare_tool::process::{Cmd, Running};

/// The slowest peer needs a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a server runs, and what it is told.
#[derive(Default)]
pub(in crate::bench) struct Place<'a> {
    /// Empty: all.
    pub(in crate::bench) cpus: &'a [usize],
    pub(in crate::bench) cgroup: Option<&'a Cgroup>,
    pub(in crate::bench) env: &'a [(&'a str, &'a str)],
}

/// A running server. Dropped, it is ended.
pub(in crate::bench) struct Subject {
    running: Running,
    started: Instant,
    address: SocketAddr,
    log: PathBuf,
}

/// Enters a control group, then becomes the program: the process stays the same.
const ENTER: &str = "echo $$ >\"$0\" && exec \"$@\"";

impl Subject {
    /// Starts a server and waits until it has answered once.
    pub(in crate::bench) fn start(
        contest: &Contest<'_>,
        server: &Server,
        place: &Place<'_>,
    ) -> anyhow::Result<Self> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(cgroup) = place.cgroup {
            words.extend(["sh".into(), "-c".into(), ENTER.into(), cgroup.procs().into()]);
        }
        if !place.cpus.is_empty() {
            let cpus: Vec<String> = place.cpus.iter().map(ToString::to_string).collect();
            words.extend(["taskset".into(), "--cpu-list".into(), cpus.join(",").into()]);
        }
        words.push(server.binary.clone().into());
        let command = Cmd::new(&words[0]).args(&words[1..]).envs(place.env.iter().copied());
        let mut subject = Self::spawn(contest, server, command)?;
        while let Err(error) = subject.ask() {
            anyhow::ensure!(subject.is_running(), "it ended early and said: {}", subject.output());
            if subject.started.elapsed() > PATIENCE {
                return Err(error.context(format!("no answer within {} s", PATIENCE.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(subject)
    }

    /// Starts a server as it is, with nothing in between, and does not wait.
    pub(in crate::bench) fn exec(contest: &Contest<'_>, server: &Server) -> anyhow::Result<Self> {
        Self::spawn(contest, server, Cmd::new(&server.binary))
    }

    fn spawn(contest: &Contest<'_>, server: &Server, command: Cmd) -> anyhow::Result<Self> {
        let address = free_address()?;
        let log = contest.scratch.path().join(format!("{}.log", server.name));
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let second = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let command = command.env("PORT", address.port().to_string()).without_env(["RUST_LOG"]);
        let running = command.start_beside(file, second)?;
        // The kernel lets us go on when the program has been executed (vfork(2)).
        Ok(Self { running, started: Instant::now(), address, log })
    }

    pub(in crate::bench) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Since its program was executed.
    pub(in crate::bench) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(in crate::bench) fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// What it has printed.
    pub(in crate::bench) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// What it answers to GET of a path, without the head.
    pub(super) fn body(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").context("its answer has no head")?;
        Ok(answer.split_off(end + 4))
    }

    /// Asks it on a connection of its own, which is given back.
    pub(in crate::bench) fn ask(&self) -> anyhow::Result<TcpStream> {
        let mut stream = self.connect()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        while !answer.ends_with(BODY.as_bytes()) {
            let read = stream.read(&mut buffer)?;
            anyhow::ensure!(read > 0, "it answers {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..read]);
        }
        Ok(stream)
    }

    /// The CPU time that it has used.
    pub(in crate::bench) fn cpu(&self) -> anyhow::Result<CpuTime> {
        let process = PathBuf::from(format!("/proc/{}", self.running.id()));
        let mut total = 0;
        for thread in fs::read_dir(process.join("task"))? {
            // A thread may have ended since.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            total += text.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or_default();
        }
        let stat = fs::read_to_string(process.join("stat"))?;
        let (user, system) = parse_ticks(&stat).context("/proc/PID/stat is not as proc_pid_stat(5) says")?;
        Ok(CpuTime { total, user, system })
    }

    /// Bytes of its memory that are there now (`VmRSS`).
    pub(in crate::bench) fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running.id()))?;
        parse_resident(&status).context("/proc/PID/status has no VmRSS")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Some wait for connections that are idle to end.
        self.running.end(Duration::ZERO);
    }
}

/// A port that is free now. None of the peers says which it got if it is told none.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

/// CPU time of all threads.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct CpuTime {
    /// Nanoseconds, counted by the scheduler (`/proc/PID/task/TID/schedstat`).
    total: u64,
    /// In ticks of 10 ms: good for their ratio alone.
    user: u64,
    system: u64,
}

impl CpuTime {
    /// Nanoseconds since an earlier time: all, and of these those in user mode.
    pub(in crate::bench) fn since(self, earlier: Self) -> (u64, u64) {
        let total = self.total.saturating_sub(earlier.total);
        let user = self.user.saturating_sub(earlier.user);
        let system = self.system.saturating_sub(earlier.system);
        (total, (u128::from(total) * u128::from(user) / u128::from((user + system).max(1))) as u64)
    }
}

/// `utime` and `stime`; the name in brackets before them may hold anything.
fn parse_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_a_name_that_looks_like_fields() {
        let stat = "4711 (a) S 1) S 1 4711 4711 0 -1 4194304 500 0 0 0 123 45 6 7 20 0 3 0 100 0 0";
        assert_eq!(parse_ticks(stat), Some((123, 45)));
        assert_eq!(parse_ticks(""), None);
    }

    #[test]
    fn the_total_is_divided_as_the_ticks_are() {
        let earlier = CpuTime { total: 1_000, user: 1, system: 1 };
        let later = CpuTime { total: 9_000, user: 2, system: 4 };
        assert_eq!(later.since(earlier), (8_000, 2_000));
        assert_eq!(earlier.since(earlier), (0, 0));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(parse_resident("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }
}
