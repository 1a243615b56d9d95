//! Which CPUs the server runs on, and which what measures it: never the same ones, if there are enough.

/// Who runs where. Both lists are sorted and hold at least one CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The server's.
    pub server: Vec<usize>,
    /// The generator's and the prober's.
    pub generator: Vec<usize>,
}

impl Placement {
    /// The CPUs that both have: where there is one, each disturbs what the other is measured by.
    #[must_use]
    pub fn shared(&self) -> Vec<usize> {
        self.server.iter().filter(|cpu| self.generator.contains(cpu)).copied().collect()
    }
}

/// Places both on the CPUs that this process may use (`allowed`, sorted, not empty).
///
/// A cpuset that the profile asks for is the server's, and the generator has what is left. Else the server
/// has as many CPUs as its limit allows it to keep busy, rounded up, and without a limit all but one. Where
/// nothing is left for the generator it takes the last CPU, which is then shared.
#[must_use]
pub fn place(allowed: &[usize], limit: Option<f64>, cpuset: Option<&[usize]>) -> Placement {
    let server: Vec<usize> = match cpuset {
        Some(cpuset) => cpuset.to_vec(),
        None => {
            let wanted = limit.map_or(allowed.len().saturating_sub(1), whole_cpus);
            allowed.iter().copied().take(wanted.max(1)).collect()
        }
    };
    let mut generator: Vec<usize> = allowed.iter().filter(|cpu| !server.contains(cpu)).copied().collect();
    if generator.is_empty() {
        generator.extend(allowed.last().or(server.last()));
    }
    Placement { server, generator }
}

/// How many CPUs a limit keeps busy: 0.25 and 1 one, 1.5 two.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is too large or negative becomes the nearest integer, which is what is wanted"
)]
fn whole_cpus(limit: f64) -> usize {
    limit.ceil() as usize
}

/// The CPUs that this process may use, sorted; at least one.
#[must_use]
pub fn allowed() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity};
        if let Ok(set) = sched_getaffinity(None) {
            let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
            if !cpus.is_empty() {
                return cpus;
            }
        }
    }
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_generator_are_kept_apart_where_that_can_be() {
        type Case<'a> = (&'a [usize], Option<f64>, Option<&'a [usize]>, &'a [usize], &'a [usize]);
        let cases: [Case<'_>; 9] = [
            (&[0, 1], Some(1.0), None, &[0], &[1]),
            (&[0, 1], Some(0.25), None, &[0], &[1]),
            (&[0, 1], None, None, &[0], &[1]),
            (&[2, 5, 7, 9], Some(1.5), None, &[2, 5], &[7, 9]),
            (&[0, 1, 2, 3], None, None, &[0, 1, 2], &[3]),
            (&[0, 1, 2, 3], None, Some(&[1, 2]), &[1, 2], &[0, 3]),
            // Not enough for both.
            (&[0, 1], Some(2.0), None, &[0, 1], &[1]),
            (&[3], Some(1.0), None, &[3], &[3]),
            (&[0, 1], None, Some(&[0, 1]), &[0, 1], &[1]),
        ];
        for (allowed, limit, cpuset, server, generator) in cases {
            let expected = Placement { server: server.to_vec(), generator: generator.to_vec() };
            assert_eq!(place(allowed, limit, cpuset), expected, "{allowed:?} {limit:?} {cpuset:?}");
        }
    }

    #[test]
    fn what_is_shared_is_known() {
        assert_eq!(place(&[0, 1], Some(2.0), None).shared(), [1]);
        assert_eq!(place(&[0, 1], Some(1.0), None).shared(), Vec::<usize>::new());
    }
}
