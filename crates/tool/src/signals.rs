//! Ctrl-C and SIGTERM: the programs that this one has started are ended before it ends.
//!
//! A signal to this process alone would leave cargo running. A signal to cargo would leave its compilers running, and
//! they go on writing files that the next build writes too, which then links a mixture of both.

#[cfg(unix)]
pub use unix::{end_programs, ended_by, received, watch};

/// Elsewhere the system ends all programs of a console.
#[cfg(not(unix))]
pub fn watch(_: crate::ui::Ui) {}

/// Ends every program that this process has started: none, they end by themselves.
#[cfg(not(unix))]
pub fn end_programs() {}

/// Whether a signal has arrived: never.
#[cfg(not(unix))]
#[must_use]
pub fn received() -> bool {
    false
}

/// The exit code after a signal: there is none.
#[cfg(not(unix))]
#[must_use]
pub fn ended_by() -> Option<u8> {
    None
}

#[cfg(unix)]
mod unix {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::ui::Ui;

    /// The first signal that arrived, or 0.
    static RECEIVED: AtomicI32 = AtomicI32::new(0);
    /// Whether the programs that this one has started have ended after the signal.
    static ENDED: AtomicBool = AtomicBool::new(false);
    /// Whether the main thread has come to its end by itself.
    static RETURNED: AtomicBool = AtomicBool::new(false);

    /// How often the signal is looked for.
    const PAUSE: Duration = Duration::from_millis(20);
    /// How long programs have after SIGTERM until SIGKILL, and the main thread to remove its temporary files.
    const PATIENCE: Duration = Duration::from_secs(3);

    extern "C" fn on_signal(signal: libc::c_int) {
        // An error says that another one came first.
        let _ = RECEIVED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Ends this process on SIGINT, SIGTERM and SIGHUP, after every program that it has started. A signal that the
    /// caller ignores, as nohup(1) does, stays ignored. A program that replaces this one gets the defaults back
    /// (execve(2)).
    pub fn watch(ui: Ui) {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            handle(signal);
        }
        thread::spawn(move || {
            while !received() {
                thread::sleep(PAUSE);
            }
            end_programs();
            ENDED.store(true, Ordering::SeqCst);
            let started = Instant::now();
            while !RETURNED.load(Ordering::SeqCst) && started.elapsed() < PATIENCE {
                thread::sleep(PAUSE);
            }
            if !RETURNED.load(Ordering::SeqCst) {
                leave(ui);
            }
        });
    }

    /// The main thread waits for something that no signal ends, such as a lock.
    #[expect(clippy::exit, reason = "there is no way back to `main` from here")]
    fn leave(ui: Ui) {
        ui.interrupted();
        std::process::exit(i32::from(code()));
    }

    #[expect(unsafe_code, reason = "std does not handle signals")]
    fn handle(signal: libc::c_int) {
        let handler = on_signal as extern "C" fn(libc::c_int);
        // SAFETY: the handler only touches an atomic (signal-safety(7)), and both calls have valid arguments.
        unsafe {
            if libc::signal(signal, handler as libc::sighandler_t) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }

    /// Whether a signal has arrived: no program is to be started any more.
    #[must_use]
    pub fn received() -> bool {
        RECEIVED.load(Ordering::SeqCst) != 0
    }

    /// Called at the end of `main`: the exit code after a signal, once every program has ended. None without a signal.
    #[must_use]
    pub fn ended_by() -> Option<u8> {
        if !received() {
            return None;
        }
        while !ENDED.load(Ordering::SeqCst) {
            thread::sleep(PAUSE);
        }
        RETURNED.store(true, Ordering::SeqCst);
        Some(code())
    }

    /// As a shell reports a process that a signal ended.
    fn code() -> u8 {
        u8::try_from(128 + RECEIVED.load(Ordering::SeqCst)).unwrap_or(u8::MAX)
    }

    /// Ends every descendant of this process, parents first, and waits for them.
    pub fn end_programs() {
        let started = Instant::now();
        let mut terminated = BTreeSet::new();
        loop {
            let running = descendants();
            let late = started.elapsed() > PATIENCE;
            if running.is_empty() || started.elapsed() > 2 * PATIENCE {
                return;
            }
            for process in running {
                if late {
                    send(process, libc::SIGKILL);
                } else if terminated.insert(process) {
                    send(process, libc::SIGTERM);
                }
            }
            thread::sleep(PAUSE);
        }
    }

    #[expect(unsafe_code, reason = "std has no other signal than SIGKILL, and none for processes of others")]
    fn send(process: libc::pid_t, signal: libc::c_int) {
        // SAFETY: kill(2) touches no memory. The process is a descendant of this one and no process group.
        unsafe {
            libc::kill(process, signal);
        }
    }

    /// The running descendants of this process, parents first (proc_pid_stat(5)).
    #[cfg(target_os = "linux")]
    fn descendants() -> Vec<libc::pid_t> {
        let mut processes = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            processes.extend(parse_stat(&stat));
        }
        let own = libc::pid_t::try_from(std::process::id()).unwrap_or_default();
        let mut found = vec![own];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            found.extend(processes.iter().filter(|it| it.1 == parent).map(|it| it.0));
            at += 1;
        }
        found.remove(0);
        found
    }

    /// Process and parent of `/proc/PID/stat`; none for one that has ended. The name in parentheses may hold anything.
    #[cfg(target_os = "linux")]
    fn parse_stat(stat: &str) -> Option<(libc::pid_t, libc::pid_t)> {
        let (process, _) = stat.split_once(' ')?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some((process.parse().ok()?, parent))
    }

    /// Elsewhere a terminal sends its signal to the whole process group.
    #[cfg(not(target_os = "linux"))]
    fn descendants() -> Vec<libc::pid_t> {
        Vec::new()
    }

    #[cfg(all(test, target_os = "linux"))]
    mod tests {
        use super::*;

        #[test]
        fn the_parent_is_read_behind_any_name() {
            for (stat, expected) in [
                ("12 (cargo) S 7 12 12 0", Some((12, 7))),
                ("12 (a) S 1 (b)) R 7 12", Some((12, 7))),
                ("12 (cargo) Z 7 12", None),
                ("", None),
                ("12 (cargo", None),
            ] {
                assert_eq!(parse_stat(stat), expected, "{stat}");
            }
        }

        #[test]
        fn children_of_children_are_found_parents_first() {
            let mut child = std::process::Command::new("sh")
                .args(["-c", "sleep 600 & echo $!; wait"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let stdout = child.stdout.take().unwrap();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
            let processes = [child.id().to_string(), line.trim().to_owned()].map(|id| id.parse().unwrap());
            let mut found = descendants();
            // Other tests start programs as well.
            found.retain(|process| processes.contains(process));
            assert_eq!(found, processes);
            processes.iter().for_each(|process| send(*process, libc::SIGKILL));
            child.wait().unwrap();
        }
    }
}
