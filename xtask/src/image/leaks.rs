//! Paths of this machine in a finished program: what a build script baked in, which no flag of the compiler remaps.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use tare_oci::elf;

/// Folders with fewer names than this also occur in programs that know nothing of them, such as `/app`.
const FEW_NAMES: usize = 3;

/// A path of this machine that a program contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leak {
    /// The path, with what follows it.
    pub(super) path: String,
    /// The section of the ELF file.
    pub(super) section: String,
}

/// The first path of a program that lies in one of the folders.
pub(super) fn first(program: &[u8], folders: &[PathBuf]) -> Option<Leak> {
    let folders: Vec<Folder> = folders.iter().filter_map(|folder| Folder::new(folder)).collect();
    // A path begins with a slash, which few bytes of a program are.
    let mut rest = program;
    loop {
        if rest.skip_until(b'/').ok()? == 0 {
            return None;
        }
        let at = program.len() - rest.len() - 1;
        let text = &program[at..];
        if text.first() == Some(&b'/') && folders.iter().any(|folder| folder.begins(text)) {
            let length = text.iter().take(200).take_while(|byte| byte.is_ascii_graphic()).count();
            return Some(Leak {
                path: String::from_utf8_lossy(&text[..length]).into_owned(),
                section: elf::section_at(program, at as u64).unwrap_or_else(|| "no section".to_owned()),
            });
        }
    }
}

struct Folder {
    path: Vec<u8>,
    /// The names in it, where its own path is too short to be one of this machine for sure.
    names: Option<Vec<Vec<u8>>>,
}

impl Folder {
    fn new(folder: &Path) -> Option<Self> {
        let path = folder.to_str()?.trim_end_matches('/').as_bytes().to_vec();
        let short = folder.components().count() <= FEW_NAMES;
        let names = || {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned().into_bytes()).collect()
        };
        (!path.is_empty()).then(|| Self { path, names: short.then(names) })
    }

    /// Whether text begins with a path in this folder.
    fn begins(&self, text: &[u8]) -> bool {
        let Some(rest) = text.strip_prefix(self.path.as_slice()) else { return false };
        match (&self.names, rest.strip_prefix(b"/")) {
            (Some(names), Some(rest)) => names.iter().any(|name| rest.starts_with(name)),
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_this_machine_is_found_and_one_that_only_looks_so_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        let folder = dir.path().to_str().unwrap().to_owned();
        let find = |text: String, folders: &[&str]| {
            let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
            first(text.as_bytes(), &folders).map(|leak| leak.path)
        };
        let deep = "/home/me/work/shop";
        assert_eq!(find(format!("\0abc{deep}/src/a.rs\0x"), &[deep]), Some(format!("{deep}/src/a.rs")));
        assert_eq!(find("a/b//home/me/work/sho".to_owned(), &[deep]), None);
        // The folder of this test has two or more names; what follows must be in it where there are only few.
        let names = dir.path().components().count();
        let src = find(format!("x{folder}/src/main.rs"), &[&folder]);
        assert_eq!(src, Some(format!("{folder}/src/main.rs")));
        let other = find(format!("x{folder}/config.toml"), &[&folder]);
        assert_eq!(other.is_some(), names > FEW_NAMES);
        assert_eq!(find("/nowhere-at-all/config.toml".to_owned(), &["/nowhere-at-all", "/", ""]), None);
    }
}
