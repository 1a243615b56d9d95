//! The filter of system calls: what docker's default profile refuses, as a BPF program for the embedded runtime and
//! as the document of the runtime-spec (config-linux.md, "Seccomp") for the others. It has no side effects.
//!
//! Docker lists what is allowed, this lists what is refused, which is a tenth of it. The difference is in system calls
//! that are newer than this list: the BPF program answers them with ENOSYS, and programs do without them.

use serde_json::{Value, json};

use super::capability::{Capabilities, Capability};

/// A system call that docker refuses.
struct Refused {
    name: &'static str,
    /// Its number on x86-64 and on arm64 (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
    numbers: [Option<u32>; 2],
    /// Docker allows it to containers with one of these capabilities.
    unless: &'static [&'static str],
}

const fn refused(
    name: &'static str,
    x86: Option<u32>,
    arm: Option<u32>,
    unless: &'static [&'static str],
) -> Refused {
    Refused { name, numbers: [x86, arm], unless }
}

const ADMIN: &[&str] = &["SYS_ADMIN"];
const NEVER: &[&str] = &[];

const REFUSED: &[Refused] = &[
    refused("_sysctl", Some(156), None, NEVER),
    refused("acct", Some(163), Some(89), &["SYS_PACCT"]),
    refused("add_key", Some(248), Some(217), NEVER),
    refused("afs_syscall", Some(183), None, NEVER),
    refused("bpf", Some(321), Some(280), &["SYS_ADMIN", "BPF"]),
    refused("clock_settime", Some(227), Some(112), &["SYS_TIME"]),
    refused("create_module", Some(174), None, NEVER),
    refused("delete_module", Some(176), Some(106), &["SYS_MODULE"]),
    refused("epoll_ctl_old", Some(214), None, NEVER),
    refused("epoll_wait_old", Some(215), None, NEVER),
    refused("fanotify_init", Some(300), Some(262), ADMIN),
    refused("finit_module", Some(313), Some(273), &["SYS_MODULE"]),
    refused("fsconfig", Some(431), Some(431), ADMIN),
    refused("fsmount", Some(432), Some(432), ADMIN),
    refused("fsopen", Some(430), Some(430), ADMIN),
    refused("fspick", Some(433), Some(433), ADMIN),
    refused("get_kernel_syms", Some(177), None, NEVER),
    refused("get_mempolicy", Some(239), Some(236), &["SYS_NICE"]),
    refused("getpmsg", Some(181), None, NEVER),
    refused("init_module", Some(175), Some(105), &["SYS_MODULE"]),
    refused("io_uring_enter", Some(426), Some(426), NEVER),
    refused("io_uring_register", Some(427), Some(427), NEVER),
    refused("io_uring_setup", Some(425), Some(425), NEVER),
    refused("ioperm", Some(173), None, &["SYS_RAWIO"]),
    refused("iopl", Some(172), None, &["SYS_RAWIO"]),
    refused("kcmp", Some(312), Some(272), &["SYS_PTRACE"]),
    refused("kexec_file_load", Some(320), Some(294), NEVER),
    refused("kexec_load", Some(246), Some(104), NEVER),
    refused("keyctl", Some(250), Some(219), NEVER),
    refused("lookup_dcookie", Some(212), Some(18), ADMIN),
    refused("mbind", Some(237), Some(235), &["SYS_NICE"]),
    refused("migrate_pages", Some(256), Some(238), NEVER),
    refused("mount", Some(165), Some(40), ADMIN),
    refused("mount_setattr", Some(442), Some(442), ADMIN),
    refused("move_mount", Some(429), Some(429), ADMIN),
    refused("move_pages", Some(279), Some(239), NEVER),
    refused("nfsservctl", Some(180), Some(42), NEVER),
    refused("open_by_handle_at", Some(304), Some(265), &["DAC_READ_SEARCH"]),
    refused("open_tree", Some(428), Some(428), ADMIN),
    refused("perf_event_open", Some(298), Some(241), &["SYS_ADMIN", "PERFMON"]),
    refused("pidfd_getfd", Some(438), Some(438), &["SYS_PTRACE"]),
    refused("pivot_root", Some(155), Some(41), NEVER),
    refused("process_madvise", Some(440), Some(440), &["SYS_PTRACE"]),
    refused("putpmsg", Some(182), None, NEVER),
    refused("query_module", Some(178), None, NEVER),
    refused("quotactl", Some(179), Some(60), ADMIN),
    refused("quotactl_fd", Some(443), Some(443), ADMIN),
    refused("reboot", Some(169), Some(142), &["SYS_BOOT"]),
    refused("request_key", Some(249), Some(218), NEVER),
    refused("security", Some(185), None, NEVER),
    refused("set_mempolicy", Some(238), Some(237), &["SYS_NICE"]),
    refused("set_mempolicy_home_node", Some(450), Some(450), &["SYS_NICE"]),
    refused("setdomainname", Some(171), Some(162), ADMIN),
    refused("sethostname", Some(170), Some(161), ADMIN),
    refused("setns", Some(308), Some(268), ADMIN),
    refused("settimeofday", Some(164), Some(170), &["SYS_TIME"]),
    refused("swapoff", Some(168), Some(225), NEVER),
    refused("swapon", Some(167), Some(224), NEVER),
    refused("sysfs", Some(139), None, NEVER),
    refused("syslog", Some(103), Some(116), &["SYS_ADMIN", "SYSLOG"]),
    refused("tuxcall", Some(184), None, NEVER),
    refused("umount2", Some(166), Some(39), ADMIN),
    refused("unshare", Some(272), Some(97), ADMIN),
    refused("uselib", Some(134), None, NEVER),
    refused("userfaultfd", Some(323), Some(282), NEVER),
    refused("ustat", Some(136), None, NEVER),
    refused("vhangup", Some(153), Some(58), &["SYS_TTY_CONFIG"]),
    refused("vserver", Some(236), None, NEVER),
];

/// The flags of clone(2) that make namespaces, from CLONE_NEWNS to CLONE_NEWNET; with SYS_ADMIN they are allowed.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// personality(2): Linux, Linux32, both with UNAME26, and the question for the present one.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// Sockets between virtual machines.
const AF_VSOCK: u32 = 40;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The last system call that docker's profile knows, mseal and those on extended attributes included.
const LAST: u32 = 466;

/// What differs between architectures.
struct Architecture {
    /// In the audit subsystem's numbering (include/uapi/linux/audit.h).
    audit: u32,
    /// Place in [`Refused::numbers`].
    at: usize,
    clone: u32,
    clone3: u32,
    personality: u32,
    socket: u32,
    /// As libseccomp calls it and those whose programs it runs as well.
    names: &'static [&'static str],
}

const X86_64: Architecture = Architecture {
    audit: 0xc000_003e,
    at: 0,
    clone: 56,
    clone3: 435,
    personality: 135,
    socket: 41,
    names: &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
};

const AARCH64: Architecture = Architecture {
    audit: 0xc000_00b7,
    at: 1,
    clone: 220,
    clone3: 435,
    personality: 92,
    socket: 198,
    names: &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
};

/// This program's, if the filter knows it.
fn native() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(X86_64),
        "aarch64" => Some(AARCH64),
        _ => None,
    }
}

/// What containers with these capabilities are refused.
fn list(capabilities: &Capabilities) -> impl Iterator<Item = &'static Refused> {
    let has = |name: &&str| capabilities.iter().any(|it| it.name() == *name);
    REFUSED.iter().filter(move |refused| !refused.unless.iter().any(has))
}

/// The document of the runtime-spec; none on an architecture that the list does not know.
pub(crate) fn document(capabilities: &Capabilities) -> Option<Value> {
    let architecture = native()?;
    let error = |names: &[&str], errno: u32, arguments: Value| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments});
    let names: Vec<&str> = list(capabilities).map(|refused| refused.name).collect();
    let mut rules = vec![error(&names, EPERM, json!([]))];
    if !capabilities.contains(&Capability::SYS_ADMIN) {
        rules.push(error(&["clone3"], ENOSYS, json!([])));
        // A rule says that all of some bits have a value, not that any has.
        for bit in (0..32).map(|bit| 1_u32 << bit).filter(|bit| NEW_NAMESPACES & bit != 0) {
            let set = json!([{"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}]);
            rules.push(error(&["clone"], EPERM, set));
        }
    }
    rules.push(error(&["socket"], EPERM, json!([{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_EQ"}])));
    Some(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architecture.names,
        "syscalls": rules,
    }))
}

/// The BPF program, an instruction (linux/filter.h, `struct sock_filter`) per number: code, jumps and operand from the
/// highest bits down. None on an architecture that the list does not know.
pub(crate) fn program(capabilities: &Capabilities) -> Option<Vec<u64>> {
    native().map(|architecture| compile(&architecture, capabilities))
}

/// A step of the program before its jumps are known.
enum Step {
    /// Loads a word of `struct seccomp_data`.
    Load(u32),
    /// Ends with an error if the loaded word is equal, or greater.
    RefuseEqual(u32, u32),
    RefuseAbove(u32, u32),
    /// Ends with an error if it has one of these bits.
    RefuseBits(u32, u32),
    /// Ends with an error unless it is equal.
    RefuseOther(u32, u32),
    /// Leaves out so many steps unless it is equal.
    SkipUnless(u32, u8),
    AllowEqual(u32),
    Allow,
    Refuse(u32),
}

/// Places in `struct seccomp_data` (linux/seccomp.h); the lower half of the first argument comes first on both.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

fn compile(architecture: &Architecture, capabilities: &Capabilities) -> Vec<u64> {
    let mut steps = vec![
        // Of another architecture the same numbers are other calls.
        Step::Load(ARCHITECTURE),
        Step::RefuseOther(architecture.audit, ENOSYS),
        Step::Load(NUMBER),
        // Among them those of the x32 ABI, which have bit 30.
        Step::RefuseAbove(LAST, ENOSYS),
    ];
    let numbers = list(capabilities).filter_map(|refused| refused.numbers[architecture.at]);
    steps.extend(numbers.map(|number| Step::RefuseEqual(number, EPERM)));
    if !capabilities.contains(&Capability::SYS_ADMIN) {
        // Its flags are in memory, where no filter sees them; the C libraries fall back to clone.
        steps.push(Step::RefuseEqual(architecture.clone3, ENOSYS));
        steps.extend([
            Step::SkipUnless(architecture.clone, 3),
            Step::Load(FIRST_ARGUMENT),
            Step::RefuseBits(NEW_NAMESPACES, EPERM),
            Step::Allow,
        ]);
    }
    steps.extend([
        Step::SkipUnless(architecture.socket, 3),
        Step::Load(FIRST_ARGUMENT),
        Step::RefuseEqual(AF_VSOCK, EPERM),
        Step::Allow,
        Step::SkipUnless(architecture.personality, 7),
        Step::Load(FIRST_ARGUMENT),
    ]);
    steps.extend(PERSONALITIES.map(Step::AllowEqual));
    steps.extend([Step::Refuse(EPERM), Step::Allow]);
    assemble(&steps)
}

/// The ends of every program, behind its steps, in this order.
const ENDS: [u32; 3] = [0x7fff_0000, 0x0005_0000 | EPERM, 0x0005_0000 | ENOSYS];

fn assemble(steps: &[Step]) -> Vec<u64> {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_ABOVE: u16 = 0x25;
    const JUMP_BITS: u16 = 0x45;
    const JUMP: u16 = 0x05;
    const RETURN: u16 = 0x06;
    let instruction = |code: u16, then: u8, otherwise: u8, operand: u32| {
        u64::from(code) << 48 | u64::from(then) << 40 | u64::from(otherwise) << 32 | u64::from(operand)
    };
    // Jumps count from the next instruction, and reach 255 far: the list is shorter.
    let to = |at: usize, end: usize| u8::try_from(steps.len() - at - 1 + end).unwrap_or(u8::MAX);
    let error = |at: usize, errno: u32| to(at, if errno == EPERM { 1 } else { 2 });
    let mut program: Vec<u64> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        program.push(match *step {
            Step::Load(place) => instruction(LOAD, 0, 0, place),
            Step::RefuseEqual(value, errno) => instruction(JUMP_EQUAL, error(at, errno), 0, value),
            Step::RefuseAbove(value, errno) => instruction(JUMP_ABOVE, error(at, errno), 0, value),
            Step::RefuseBits(bits, errno) => instruction(JUMP_BITS, error(at, errno), 0, bits),
            Step::RefuseOther(value, errno) => instruction(JUMP_EQUAL, 0, error(at, errno), value),
            Step::SkipUnless(value, skipped) => instruction(JUMP_EQUAL, 0, skipped, value),
            Step::AllowEqual(value) => instruction(JUMP_EQUAL, to(at, 0), 0, value),
            Step::Allow => instruction(JUMP, 0, 0, u32::from(to(at, 0))),
            Step::Refuse(errno) => instruction(JUMP, 0, 0, u32::from(error(at, errno))),
        });
    }
    program.extend(ENDS.map(|end| instruction(RETURN, 0, 0, end)));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::of_docker;

    /// What the kernel would do with a system call.
    fn run(program: &[u64], architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let bytes = program[at].to_be_bytes();
            let (code, then, otherwise) = (u16::from_be_bytes([bytes[0], bytes[1]]), bytes[2], bytes[3]);
            let operand = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { then } else { otherwise });
            match code {
                0x20 => loaded = [number, architecture, 0, 0, argument][operand as usize / 4],
                0x15 => jump(loaded == operand),
                0x25 => jump(loaded > operand),
                0x45 => jump(loaded & operand != 0),
                0x05 => at += operand as usize,
                0x06 => return operand,
                _ => panic!("{code:x}"),
            }
        }
    }

    const ALLOWED: u32 = ENDS[0];
    const REFUSED_EPERM: u32 = ENDS[1];
    const UNKNOWN: u32 = ENDS[2];

    #[test]
    fn the_program_answers_as_docker_does() {
        let program = compile(&X86_64, &of_docker());
        assert!(program.len() < 255, "{}", program.len());
        let threads = 0x003d_0f00;
        for (number, argument, expected) in [
            (0, 0, ALLOWED),               // read
            (59, 0, ALLOWED),              // execve
            (101, 0, ALLOWED),             // ptrace
            (161, 0, ALLOWED),             // chroot
            (165, 0, REFUSED_EPERM),       // mount
            (250, 0, REFUSED_EPERM),       // keyctl
            (272, 1 << 28, REFUSED_EPERM), // unshare
            (425, 0, REFUSED_EPERM),       // io_uring_setup
            (435, 0, UNKNOWN),             // clone3
            (56, threads, ALLOWED),        // clone: a thread
            (56, 17, ALLOWED),             // clone: a process
            (56, 1 << 28 | 17, REFUSED_EPERM),
            (56, 1 << 17 | 17, REFUSED_EPERM),
            (41, 2, ALLOWED), // socket
            (41, AF_VSOCK, REFUSED_EPERM),
            (135, 0, ALLOWED), // personality
            (135, u32::MAX, ALLOWED),
            (135, 0x4_0000, REFUSED_EPERM),
            (462, 0, ALLOWED),
            (9999, 0, UNKNOWN),
            (1 << 30, 0, UNKNOWN),
        ] {
            let found = run(&program, X86_64.audit, number, argument);
            assert_eq!(found, expected, "{number} {argument:x}");
        }
        assert_eq!(run(&program, 0x4000_0003, 1, 0), UNKNOWN);
        let program = compile(&AARCH64, &of_docker());
        for (number, argument, expected) in [
            (63, 0, ALLOWED),
            (40, 0, REFUSED_EPERM),
            (219, 0, REFUSED_EPERM),
            (97, 0, REFUSED_EPERM),
            (220, 1 << 28, REFUSED_EPERM),
            (220, 17, ALLOWED),
            (198, AF_VSOCK, REFUSED_EPERM),
            (92, 0x4_0000, REFUSED_EPERM),
        ] {
            assert_eq!(run(&program, AARCH64.audit, number, argument), expected, "{number} {argument:x}");
        }
    }

    #[test]
    fn capabilities_allow_what_they_are_for() {
        let with = |name: &str| compile(&X86_64, &[name.parse().unwrap()].into());
        let admin = with("SYS_ADMIN");
        for number in [165, 272, 435, 298] {
            assert_eq!(run(&admin, X86_64.audit, number, 0), ALLOWED, "{number}");
        }
        assert_eq!(run(&admin, X86_64.audit, 56, 1 << 28), ALLOWED);
        assert_eq!(run(&admin, X86_64.audit, 250, 0), REFUSED_EPERM);
        assert_eq!(run(&with("SYS_TIME"), X86_64.audit, 227, 0), ALLOWED);
        assert_eq!(run(&with("SYS_TIME"), X86_64.audit, 165, 0), REFUSED_EPERM);
    }

    #[test]
    fn every_refused_call_is_in_the_document_and_in_the_program() {
        let program = compile(&X86_64, &of_docker());
        for refused in REFUSED {
            let number = refused.numbers[0].unwrap();
            assert_eq!(run(&program, X86_64.audit, number, 0), REFUSED_EPERM, "{}", refused.name);
        }
        if let Some(document) = document(&of_docker()) {
            let names = document.pointer("/syscalls/0/names").unwrap().as_array().unwrap();
            assert_eq!(names.len(), REFUSED.len());
            // Seven kinds of namespaces, clone3, sockets.
            assert_eq!(document["syscalls"].as_array().unwrap().len(), 10);
        }
    }
}
