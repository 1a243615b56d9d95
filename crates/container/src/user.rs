//! Resolves the user of a container's process: `UID[:GID]`, or names from the image's own `/etc/passwd` and `/etc/group`.
//! No side effects.

/// The user of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Why a process cannot run as a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that the image does not know.
    #[error("the image's {file} knows no {kind} `{name}`")]
    Unknown {
        /// Where it is not.
        file: &'static str,
        /// User or group.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A number that no process can have. The kernel takes 2^32-1 for no change, which would be root.
    #[error("{kind} {id} of the image is above {MOST}")]
    Range {
        /// User or group.
        kind: &'static str,
        /// The number.
        id: u32,
    },
}

/// The greatest id of a user or group that docker and runc accept.
const MOST: u32 = i32::MAX.cast_unsigned();

/// The user, if its ids are possible.
fn possible(user: User) -> Result<User, UserError> {
    let groups = user.groups.iter().map(|id| ("group", *id));
    let mut ids = [("user", user.uid), ("group", user.gid)].into_iter().chain(groups);
    match ids.find(|(_, id)| *id > MOST) {
        Some((kind, id)) => Err(UserError::Range { kind, id }),
        None => Ok(user),
    }
}

/// Resolves the `User` of a config (image-spec config.md) as docker does: a number needs no entry; without
/// a group the user's own is taken, and the groups that list it.
///
/// # Errors
/// When a name is not known, or an id is none.
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user, group_name) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entries = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = user.parse::<u32>().ok();
    let entry = entries().find(|fields| match (fields.first(), fields.get(2)) {
        (Some(name), Some(id)) => *name == user || number.is_some() && id.parse().ok() == number,
        _ => false,
    });
    let of_entry = |at: usize| entry.as_ref().and_then(|fields| fields.get(at)?.parse::<u32>().ok());
    let unknown = || UserError::Unknown { file: "/etc/passwd", kind: "user", name: user.to_owned() };
    let uid = number.or_else(|| of_entry(2)).ok_or_else(unknown)?;
    let home = entry.as_ref().and_then(|fields| fields.get(5)).filter(|home| !home.is_empty());
    let home = home.map_or("/", |home| *home).to_owned();
    let groups = || group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    if let Some(name) = group_name.filter(|name| !name.is_empty()) {
        let entry = groups().find(|fields| fields.first() == Some(&name));
        let id = name.parse().ok().or_else(|| entry?.get(2)?.parse().ok());
        let unknown = UserError::Unknown { file: "/etc/group", kind: "group", name: name.to_owned() };
        return possible(User { uid, gid: id.ok_or(unknown)?, groups: Vec::new(), home });
    }
    let name = entry.as_ref().and_then(|fields| fields.first()).copied();
    let lists = |fields: &Vec<&str>| {
        name.is_some_and(|name| fields.get(3).is_some_and(|members| members.split(',').any(|it| it == name)))
    };
    let groups = groups().filter(lists).filter_map(|fields| fields.get(2)?.parse().ok()).collect();
    possible(User { uid, gid: of_entry(3).unwrap_or(0), groups, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:50:web,other\nnone:x:51:\n";

    #[test]
    fn users_are_resolved_as_docker_does() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        for (text, expected) in [
            ("", user(0, 0, &[], "/root")),
            ("web", user(33, 34, &[50], "/var/www")),
            ("33", user(33, 34, &[50], "/var/www")),
            ("web:none", user(33, 51, &[], "/var/www")),
            ("web:7", user(33, 7, &[], "/var/www")),
            ("65532:65532", user(65_532, 65_532, &[], "/")),
            ("1234", user(1234, 0, &[], "/")),
        ] {
            assert_eq!(resolve(text, PASSWD, GROUP), Ok(expected), "{text}");
        }
        assert_eq!(resolve("65532", "", ""), Ok(user(65_532, 0, &[], "/")));
    }

    #[test]
    fn unknown_names_are_refused_and_named() {
        let error = resolve("nobody", PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(error, "the image's /etc/passwd knows no user `nobody`");
        let error = resolve("web:staff", PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(error, "the image's /etc/group knows no group `staff`");
    }

    /// setuid(-1) changes nothing, so that the process would stay root.
    #[test]
    fn ids_that_no_process_has_are_refused() {
        let error = |user: &str, passwd: &str| resolve(user, passwd, GROUP).unwrap_err().to_string();
        assert_eq!(error("4294967295", PASSWD), "user 4294967295 of the image is above 2147483647");
        assert_eq!(error("0:4294967295", PASSWD), "group 4294967295 of the image is above 2147483647");
        assert_eq!(error("x", "x:x:2147483648:0::/:\n"), "user 2147483648 of the image is above 2147483647");
        assert_eq!(error("x", "x:x:1:4294967295::/:\n"), "group 4294967295 of the image is above 2147483647");
        assert_eq!(resolve("2147483647", "", "").map(|user| user.uid), Ok(2_147_483_647));
    }
}
