//! What helps a server that cannot start: the file, capability, address or library that it failed on, and the key of
//! the profile that is about it. Only the search for an interpreter reads
//! the image.

use super::capability::Capability;
use super::confinement::Confinement;

/// Where a profile says how a container is confined, in words.
const PLACE: &str = "under [container] of the profile";
/// Lines of output that are read, from the last.
const LINES: usize = 40;

/// Calls by the words that programs use for them, and the capability that each needs.
const CALLS: [(&[&str], &str); 9] = [
    (&["setgroups", "initgroups", "setgid", "setegid", "setresgid", "set group"], "SETGID"),
    (&["setuid", "seteuid", "setresuid", "set user", "change user", "drop privileges"], "SETUID"),
    (&["chroot"], "SYS_CHROOT"),
    (&["chown", "change owner", "ownership"], "CHOWN"),
    (&["bind"], "NET_BIND_SERVICE"),
    (&["mknod"], "MKNOD"),
    (&["setrlimit", "rlimit"], "SYS_RESOURCE"),
    (&["setpriority", "sched_set", "mbind", "set_mempolicy"], "SYS_NICE"),
    (&["mount", "unshare", "setns", "sethostname"], "SYS_ADMIN"),
];

/// What helps, going by the last words of a server that has ended.
pub(crate) fn on(output: &str, confinement: &Confinement) -> Option<String> {
    let lines: Vec<&str> = output.lines().rev().take(LINES).collect();
    lines.into_iter().find_map(|line| of_line(line, confinement))
}

fn of_line(line: &str, confinement: &Confinement) -> Option<String> {
    let lower = line.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if let Some(library) = library(line) {
        return Some(format!(
            "the library {library} is not in the image: add it, or link the program statically"
        ));
    }
    if has(&["read-only file system", "readonlyfilesystem", "erofs"]) {
        return Some(read_only(path(line), confinement));
    }
    let denied = has(&["permission denied", "eacces"]);
    if has(&["operation not permitted", "eperm"]) || denied && has(&["bind"]) {
        return of_call(&lower, confinement);
    }
    if has(&["address already in use", "eaddrinuse"]) {
        let address =
            address(line).map(|it| format!("{it} is taken")).unwrap_or("its address is taken".to_owned());
        return Some(format!("{address}: something in the container already listens there"));
    }
    if denied {
        let path = path(line)?;
        let user = if confinement.user.is_empty() { "root" } else { &confinement.user };
        return Some(format!(
            "{path} is not accessible to the user {user}: change its owner or mode in the image, or set `user` {PLACE}"
        ));
    }
    None
}

fn read_only(path: Option<&str>, confinement: &Confinement) -> String {
    let what = path.unwrap_or("a file");
    if !confinement.read_only {
        return format!("{what} is read-only in every container, as in docker");
    }
    let folder = path.and_then(|path| path.rsplit_once('/')).map(|(folder, _)| folder);
    let folder = folder.filter(|folder| !folder.is_empty()).or(path).unwrap_or("/folder");
    format!(
        "{what} cannot be written, because the root is read-only: set `read-only = false`, `volumes = [\"{folder}\"]` or \
         `tmpfs = [\"{folder}\"]` {PLACE}"
    )
}

/// Of a call that was not permitted.
fn of_call(lower: &str, confinement: &Confinement) -> Option<String> {
    let names = |words: &&(&[&str], &str)| words.0.iter().any(|word| lower.contains(word));
    let (words, name) = CALLS.iter().find(names)?;
    let call = words.iter().find(|word| lower.contains(**word))?;
    let capability: Capability = name.parse().ok()?;
    let given = confinement.capabilities.contains(&capability);
    let is_root = matches!(confinement.user.split(':').next(), None | Some("" | "0" | "root"));
    Some(match (given, is_root) {
        (_, false) if capability == Capability::NET_BIND_SERVICE => format!(
            "the user {} may not bind its port: set `sysctls = {{ \"net.ipv4.ip_unprivileged_port_start\" = \"0\" }}` {PLACE}, \
             or let the server listen above 1023",
            confinement.user
        ),
        (false, _) => format!(
            "{call} needs the capability {name}, which the container has not: add it to `capabilities` {PLACE}"
        ),
        (true, false) => format!(
            "{call} needs root, and the server runs as {}: set `user = \"root\"` {PLACE}",
            confinement.user
        ),
        (true, true) if confinement.no_new_privileges => {
            format!("{call} was refused: try `no-new-privileges = false` {PLACE}")
        }
        (true, true) => return None,
    })
}

/// A shared library that the loader of glibc or musl did not find.
fn library(line: &str) -> Option<&str> {
    let after = |words: &str| Some(line.split_once(words)?.1);
    let rest =
        after("error while loading shared libraries: ").or_else(|| after("Error loading shared library "))?;
    let name = rest.split([':', ' ']).next()?;
    (!name.is_empty() && rest.contains("No such file")).then_some(name)
}

/// The first absolute path of a line.
fn path(line: &str) -> Option<&str> {
    let apart = |c: char| c.is_whitespace() || "\"'`‘’“”()[]<>,;".contains(c);
    line.split(apart)
        .map(|word| word.trim_end_matches([':', '.']))
        .find(|word| word.starts_with('/') && word.len() > 1)
}

/// The first address of a line: something, a colon, and a port.
fn address(line: &str) -> Option<&str> {
    let apart = |c: char| c.is_whitespace() || "\"'`(),;".contains(c);
    line.split(apart).map(|word| word.trim_end_matches([':', '.'])).find(|word| {
        word.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    })
}

/// What the image lacks for a program that cannot be run, if the runtime did not find it: the program itself, or what
/// its first line or its header asks for.
#[cfg(target_os = "linux")]
pub(crate) fn on_program(image: &std::path::Path, program: &str, reason: &str) -> Option<String> {
    use super::unpack::bytes_inside;
    /// No program is larger.
    const MOST: u64 = 1 << 30;
    const FOLDERS: [&str; 6] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

    let reason = reason.to_lowercase();
    if !["no such file", "enoent", "not found"].iter().any(|word| reason.contains(word)) {
        return None;
    }
    let candidates: Vec<String> = match program.contains('/') {
        true => vec![program.to_owned()],
        false => FOLDERS.iter().map(|folder| format!("{folder}/{program}")).collect(),
    };
    let is_there = |path: &str| bytes_inside(image, path, 1).ok().flatten().is_some();
    let Some(path) = candidates.iter().find(|path| is_there(path)) else {
        return Some(format!("{program} is not in the image: name its program with its whole path"));
    };
    let bytes = bytes_inside(image, path, MOST).ok().flatten()?;
    let interpreter = match bytes.strip_prefix(b"#!") {
        Some(rest) => {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned)
        }
        None => tare_oci::elf::facts(&bytes).ok()?.interpreter,
    }?;
    (!is_there(&interpreter)).then(|| {
        format!(
            "{path} needs {interpreter}, which is not in the image: add it, or build the program statically (musl)"
        )
    })
}

#[cfg(test)]
mod tests {
    use tare_oci::spec::Configuration;

    use super::*;
    use crate::confinement::Tightening;

    fn confined(user: &str, tightening: &Tightening) -> Confinement {
        let config = Configuration::new(serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"User": user},
            "rootfs": {"type": "layers", "diff_ids": []},
        }));
        Confinement::of(&config.unwrap(), tightening).unwrap()
    }

    #[test]
    fn last_words_name_the_key_that_helps() {
        let tight = Tightening {
            read_only: Some(true),
            capabilities: Some(["NET_BIND_SERVICE".parse().unwrap()].into()),
            ..Tightening::default()
        };
        for (words, user, expected) in [
            (
                "mkdir: can't create directory '/var/cache/': Read-only file system",
                "",
                "/var/cache/ cannot be written, because the root is read-only: set `read-only = false`, \
                 `volumes = [\"/var/cache\"]` or `tmpfs = [\"/var/cache\"]` under [container] of the profile",
            ),
            (
                "nginx: [emerg] open() \"/run/nginx.pid\" failed (30: Read-only file system)",
                "",
                "/run/nginx.pid cannot be written, because the root is read-only: set `read-only = false`, \
                 `volumes = [\"/run\"]` or `tmpfs = [\"/run\"]` under [container] of the profile",
            ),
            (
                "httpd: setgroups: Operation not permitted",
                "",
                "setgroups needs the capability SETGID, which the container has not: add it to `capabilities` \
                 under [container] of the profile",
            ),
            (
                "chown: /tmp: Operation not permitted\nthe end",
                "",
                "chown needs the capability CHOWN, which the container has not: add it to `capabilities` \
                 under [container] of the profile",
            ),
            (
                "httpd: bind: Permission denied",
                "65532",
                "the user 65532 may not bind its port: set `sysctls = { \"net.ipv4.ip_unprivileged_port_start\" = \"0\" }` \
                 under [container] of the profile, or let the server listen above 1023",
            ),
            (
                "/app/x: error while loading shared libraries: libssl.so.3: cannot open shared object file: No such file or \
                 directory",
                "",
                "the library libssl.so.3 is not in the image: add it, or link the program statically",
            ),
            (
                "Error loading shared library libz.so.1: No such file or directory (needed by /app/x)",
                "",
                "the library libz.so.1 is not in the image: add it, or link the program statically",
            ),
            (
                "open /data/db: permission denied",
                "7:8",
                "/data/db is not accessible to the user 7:8: change its owner or mode in the image, or set `user` under \
                 [container] of the profile",
            ),
            (
                "bind to 0.0.0.0:80 failed (98: Address already in use)",
                "",
                "0.0.0.0:80 is taken: something in the container already listens there",
            ),
        ] {
            assert_eq!(on(words, &confined(user, &tight)).as_deref(), Some(expected), "{words}");
        }
        assert_eq!(on("panicked at src/main.rs", &confined("", &tight)), None);
    }

    #[test]
    fn as_in_docker_there_is_less_to_advise() {
        let plain = confined("", &Tightening::default());
        assert_eq!(
            on("sh: can't create /proc/sys/x: Read-only file system", &plain).as_deref(),
            Some("/proc/sys/x is read-only in every container, as in docker")
        );
        assert_eq!(on("chown: Operation not permitted", &plain), None);
        let web = confined("web", &Tightening::default());
        assert_eq!(
            on("setgid: Operation not permitted", &web).as_deref(),
            Some(
                "setgid needs root, and the server runs as web: set `user = \"root\"` under [container] of the profile"
            )
        );
    }
}
