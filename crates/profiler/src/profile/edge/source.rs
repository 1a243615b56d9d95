//! The source of the files that the server caches: a folder in the container, which goes away and comes back.
//!
//! The folder is in a file system of its own in memory. It is reached from outside by the container's first process; the
//! paths are resolved as inside of the container (openat2(2), `RESOLVE_IN_ROOT`), since its links are others' words.

use std::io;

use super::super::stats::Random;

/// How many files there are.
pub const FILES: usize = 64;
/// Records of one file: some 16 KB of JSON, as an interface has it.
const RECORDS: usize = 200;
/// The name of the folder with the files, in the folder of the profile.
pub const NAME: &str = "source";

/// The name of a file.
#[must_use]
pub fn name(file: usize) -> String {
    format!("{file}.json")
}

/// The content of a file, the same in every run.
#[must_use]
pub fn content(file: usize) -> Vec<u8> {
    let mut random = Random::new(file as u64);
    let mut text = String::from("[");
    for record in 0..RECORDS {
        let (sensor, value) = (random.below(1_000), random.below(100_000));
        let end = if record + 1 < RECORDS { ",\n" } else { "]\n" };
        text += &format!("{{\"record\":{record},\"sensor\":\"sensor-{sensor:04}\",\"value\":{value}}}{end}");
    }
    text.into_bytes()
}

/// The source in one container.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no containers but of Linux"))]
pub struct Source(std::fs::File);

#[cfg(target_os = "linux")]
impl Source {
    /// Writes the files in the folder of a container, by the id of a process in it.
    ///
    /// # Errors
    /// When the folder cannot be opened or written.
    pub fn create(pid: i32, folder: &str) -> io::Result<Self> {
        use std::io::Write as _;

        use rustix::fs::{Mode, OFlags, ResolveFlags};

        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), directory | OFlags::PATH, Mode::empty())?;
        let folder = folder.trim_start_matches('/');
        let folder = rustix::fs::openat2(&root, folder, directory, Mode::empty(), ResolveFlags::IN_ROOT)?;
        rustix::fs::mkdirat(&folder, NAME, Mode::from_raw_mode(0o755))?;
        let no_link = directory | OFlags::NOFOLLOW;
        let source = rustix::fs::openat(&folder, NAME, no_link, Mode::empty())?;
        // Whatever the umask is: the server may be another user.
        rustix::fs::fchmod(&source, Mode::from_raw_mode(0o755))?;
        for file in 0..FILES {
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&source, name(file), new, Mode::from_raw_mode(0o644))?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644))?;
            std::fs::File::from(fd).write_all(&content(file))?;
        }
        Ok(Self(folder.into()))
    }

    /// Takes the source away, whole.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn take_away(&self) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, NAME, &self.0, "gone")?)
    }

    /// Brings it back.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn bring_back(&self) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, "gone", &self.0, NAME)?)
    }
}

#[cfg(not(target_os = "linux"))]
impl Source {
    /// There are no containers but of Linux.
    ///
    /// # Errors
    /// Always.
    pub fn create(_pid: i32, _folder: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// As on Linux.
    ///
    /// # Errors
    /// Always.
    pub fn take_away(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// As on Linux.
    ///
    /// # Errors
    /// Always.
    pub fn bring_back(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_in_every_run_and_differ_from_each_other() {
        let (first, second) = (content(0), content(1));
        assert_eq!(first, content(0));
        assert_ne!(first, second);
        assert!((8_000..16_000).contains(&first.len()), "{}", first.len());
        assert!(serde_json::from_slice::<serde_json::Value>(&second).is_ok());
    }
}
