//! Programs written byte by byte: nothing has to be compiled for them, and they never change.

/// The smallest program of its kind: it ends at once with exit code 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elf {
    machine: Machine,
    interpreter: Option<&'static str>,
    needed: Option<&'static str>,
    /// DT_RUNPATH, for a program that needs a library.
    run_path: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
enum Machine {
    Amd64,
    Arm64,
}

impl Elf {
    pub(crate) const STATIC: Self =
        Self { machine: Machine::Amd64, interpreter: None, needed: None, run_path: None };
    pub(crate) const STATIC_ARM64: Self = Self { machine: Machine::Arm64, ..Self::STATIC };
    /// As a compiler for musl makes them by default elsewhere.
    pub(crate) const DYNAMIC: Self = Self {
        interpreter: Some("/lib/ld-musl-x86_64.so.1"),
        needed: Some("libc.musl-x86_64.so.1"),
        ..Self::STATIC
    };
    /// A program for glibc with a library of its own in a folder beside it.
    pub(crate) const OWN_LIBRARY: Self = Self {
        interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
        needed: Some("libown.so.7"),
        run_path: Some("$ORIGIN/lib"),
        ..Self::STATIC
    };
    /// A library that needs libc.
    pub(crate) const NEEDS_LIBC: Self = Self { needed: Some("libc.so.6"), ..Self::STATIC };
    /// A library that needs one that no host has.
    pub(crate) const NEEDS_NOTHING_KNOWN: Self = Self { needed: Some("libnowhere.so.3"), ..Self::STATIC };
    /// As a library is, or a plug-in.
    pub(crate) const NEEDS_LIBRARY: Self = Self { needed: Some("libssl.so.3"), ..Self::STATIC };

    /// The file (System V ABI, "Object Files"): header, program headers, code, strings, and section
    /// headers where there is a dynamic section to be found.
    pub(crate) fn bytes(self) -> Vec<u8> {
        const HEADER: u64 = 64;
        const PROGRAM_HEADER: u64 = 56;
        const ADDRESS: u64 = 0x40_0000;
        let (machine, code): (u16, &[u8]) = match self.machine {
            // xor edi, edi; mov eax, 60 (exit); syscall
            Machine::Amd64 => (62, b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05"),
            // mov x0, 0; mov x8, 93 (exit); svc 0
            Machine::Arm64 => (183, b"\x00\x00\x80\xd2\xa8\x0b\x80\xd2\x01\x00\x00\xd4"),
        };
        let segments = 1 + u64::from(self.interpreter.is_some());
        let code_at = HEADER + segments * PROGRAM_HEADER;
        let mut body = code.to_vec();
        let interpreter_at = code_at + body.len() as u64;
        let interpreter_size = self.interpreter.map_or(0, |path| {
            body.extend_from_slice(path.as_bytes());
            body.push(0);
            path.len() as u64 + 1
        });
        let mut sections = Vec::new();
        if let Some(library) = self.needed {
            let strings_at = code_at + body.len() as u64;
            let strings = format!("\0{library}\0{}\0", self.run_path.unwrap_or_default());
            body.extend_from_slice(strings.as_bytes());
            body.resize(body.len().next_multiple_of(8), 0);
            let dynamic_at = code_at + body.len() as u64;
            // DT_NEEDED at offset 1 of the strings, DT_RUNPATH after it, DT_NULL.
            let run_path = self.run_path.map(|_| [29, library.len() as u64 + 2]);
            let dynamic = [[1_u64, 1]].into_iter().chain(run_path).chain([[0, 0]]).flatten();
            body.extend(dynamic.flat_map(u64::to_le_bytes));
            let dynamic_size = code_at + body.len() as u64 - dynamic_at;
            // Type, offset, size, link: nothing, SHT_DYNAMIC, SHT_STRTAB, SHT_STRTAB for the names.
            sections = vec![
                (0_u32, 0, 0, 0_u32),
                (6, dynamic_at, dynamic_size, 2),
                (3, strings_at, strings.len() as u64, 0),
                (3, strings_at, 1, 0),
            ];
        }
        let sections_at = if sections.is_empty() { 0 } else { code_at + body.len() as u64 };

        let mut file = Vec::new();
        let half = |file: &mut Vec<u8>, value: u16| file.extend_from_slice(&value.to_le_bytes());
        let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
        let long = |file: &mut Vec<u8>, value: u64| file.extend_from_slice(&value.to_le_bytes());
        file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        half(&mut file, 2); // ET_EXEC
        half(&mut file, machine);
        word(&mut file, 1);
        for value in [ADDRESS + code_at, HEADER, sections_at] {
            long(&mut file, value);
        }
        word(&mut file, 0);
        let sections_count = sections.len() as u16;
        for value in [64, 56, segments as u16, 64, sections_count, sections_count.saturating_sub(1)] {
            half(&mut file, value);
        }
        let size = code_at + body.len() as u64;
        // Type, flags, offset, size: PT_LOAD to read and run, PT_INTERP.
        let interpreter = self.interpreter.map(|_| (3_u32, 4_u32, interpreter_at, interpreter_size));
        for (kind, flags, offset, size) in [(1, 5, 0, size)].into_iter().chain(interpreter) {
            word(&mut file, kind);
            word(&mut file, flags);
            for value in [offset, ADDRESS + offset, ADDRESS + offset, size, size, 0x1000] {
                long(&mut file, value);
            }
        }
        file.extend_from_slice(&body);
        for (kind, offset, size, link) in sections {
            word(&mut file, 0);
            word(&mut file, kind);
            for value in [0, 0, offset, size] {
                long(&mut file, value);
            }
            word(&mut file, link);
            word(&mut file, 0);
            for value in [1, if kind == 6 { 16 } else { 0 }] {
                long(&mut file, value);
            }
        }
        file
    }
}
