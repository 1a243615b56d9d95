//! What the container's process does to itself before it becomes the image's program: the filter of system calls, which
//! would forbid the mounts of a creation, and then the end of the capabilities that the filter needed.

use nix::libc;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use tare_keeper::LastStep;

/// Installs the filter and keeps no more capabilities than these.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn take(step: &LastStep) -> Result<(), String> {
    install(&step.filter).map_err(|error| format!("cannot filter system calls: {error}"))?;
    let failed = |error| format!("cannot drop capabilities: {error}");
    let kept = CapabilitySet::from_bits_retain(step.capabilities);
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows fewer than a set has bits.
        if !kept.contains(capability) && capability_is_in_bounding_set(capability) == Ok(true) {
            remove_capability_from_bounding_set(capability).map_err(failed)?;
        }
    }
    clear_ambient_capability_set().map_err(failed)?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed)
}

/// seccomp(2), by prctl(2).
fn install(instructions: &[u64]) -> nix::Result<()> {
    if instructions.is_empty() {
        return Ok(());
    }
    let mut filter: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|instruction| {
            let [code_high, code_low, jt, jf, rest @ ..] = instruction.to_be_bytes();
            let code = u16::from_be_bytes([code_high, code_low]);
            libc::sock_filter { code, jt, jf, k: u32::from_be_bytes(rest) }
        })
        .collect();
    let length = u16::try_from(filter.len()).map_err(|_| nix::Error::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    #[expect(unsafe_code, reason = "no crate at hand installs a filter")]
    // SAFETY: the kernel copies the program during the call, and the program and its instructions live longer.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    nix::Error::result(result).map(drop)
}
