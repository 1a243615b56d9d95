//! The runtime baseline: an image with the smallest program that there can be, which ends at once. What a
//! container costs before the server's own work begins is what this one costs.

use std::path::{Path, PathBuf};

use tare_oci::entry::{Content, Entry, EntryKind, InMemory, Owner};
use tare_oci::path::ImagePath;
use tare_oci::platform::Platform;
use tare_oci::spec::Config;
use tare_oci::units::Epoch;

use crate::profile::own_image;

/// Where the program lies in the image.
const PROGRAM: &[u8] = b"true";
/// Where it is loaded; any page that is free in a fresh process does.
const ADDRESS: u64 = 0x40_0000;
/// Elf64_Ehdr and Elf64_Phdr (System V ABI, "Object Files").
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

/// Writes the image below `dir` as an OCI layout, and says where it is.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, platform: Platform) -> Result<PathBuf, own_image::WriteError> {
    let mut execution = Config::default();
    execution.set_entrypoint(Some(vec!["/true".to_owned()]));
    own_image::write(dir, "runtime-baseline", platform, entries(platform), execution)
}

fn entries(platform: Platform) -> Vec<Entry> {
    // What runtimes mount on, and the program.
    let folder = |name: &str| (name.as_bytes().to_vec(), EntryKind::Directory);
    let program = EntryKind::File(Content::Bytes(InMemory::new(program(platform))));
    [folder("dev"), folder("etc"), folder("proc"), folder("sys"), folder("tmp"), (PROGRAM.to_vec(), program)]
        .into_iter()
        .filter_map(|(path, kind)| {
            let path = ImagePath::from_bytes(&path).ok()?;
            Some(Entry {
                path,
                kind,
                mode: 0o755,
                owner: Owner::default(),
                mtime: Epoch::OF_FILES,
                capabilities: None,
            })
        })
        .collect()
}

/// A static ELF file that calls exit(0): header, one segment, twelve bytes of code at the most.
fn program(platform: Platform) -> Vec<u8> {
    let (machine, code): (u16, &[u8]) = match platform {
        // EM_X86_64: xor edi, edi; mov eax, 60 (exit); syscall
        Platform::LinuxAmd64 => (62, b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05"),
        // EM_AARCH64: mov x0, 0; mov x8, 93 (exit); svc 0
        Platform::LinuxArm64 => (183, b"\x00\x00\x80\xd2\xa8\x0b\x80\xd2\x01\x00\x00\xd4"),
    };
    let start = HEADER + PROGRAM_HEADER;
    let size = start + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let longs = |file: &mut Vec<u8>, values: &[u64]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    // e_type (ET_EXEC), e_machine; e_version; e_entry, e_phoff, e_shoff; e_flags.
    halves(&mut file, &[2, machine]);
    words(&mut file, &[1]);
    longs(&mut file, &[ADDRESS + start, HEADER, 0]);
    words(&mut file, &[0]);
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    halves(&mut file, &[64, 56, 1, 64, 0, 0]);
    // p_type (PT_LOAD), p_flags (read, execute); p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    words(&mut file, &[1, 5]);
    longs(&mut file, &[0, ADDRESS, ADDRESS, size, size, 0x1000]);
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use tare_oci::elf;
    use tare_oci::reader::Source;
    use tare_oci::validate;
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    use tare_tool::process::{Execute as _, Shell, cmd};

    use super::*;

    #[test]
    fn the_image_is_one_by_the_specification() {
        let dir = tempfile::tempdir().unwrap();
        let place = write(dir.path(), Platform::LinuxAmd64).unwrap();
        let report = validate::validate(&Source::open(&place).unwrap()).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        // A second time, over the first.
        assert_eq!(write(dir.path(), Platform::LinuxAmd64).unwrap(), place);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_program_is_a_static_one_for_its_platform() {
        for platform in Platform::ALL {
            let bytes = program(platform);
            let facts = elf::facts(&bytes).unwrap();
            assert!(facts.is_static());
            assert_eq!(facts.machine.to_string(), platform.architecture());
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn the_program_ends_at_once_and_says_yes() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("true");
        std::fs::write(&path, program(Platform::LinuxAmd64)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let sh = Shell::new().unwrap();
        cmd!(sh, "{path}").capture().unwrap();
    }
}
