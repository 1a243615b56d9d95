//! Which CPUs the server runs on, and which what measures it: never the same ones, nor threads of the same physical
//! core, if there are enough.

use tare_report::{CpuLimit, Limits};

/// The CPUs that this process may use, sorted, and the physical core of each. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCpus {
    allowed: Vec<usize>,
    /// The lowest CPU of the same core, for each.
    cores: Vec<usize>,
}

impl HostCpus {
    /// As the kernel has them.
    #[must_use]
    pub fn read() -> Self {
        let allowed = allowed();
        let cores = allowed.iter().map(|cpu| core(*cpu)).collect();
        Self { allowed, cores }
    }

    /// These, each on the core beside it.
    #[must_use]
    pub fn of(cpus_and_cores: &[(usize, usize)]) -> Self {
        let (allowed, cores) = cpus_and_cores.iter().copied().unzip();
        Self { allowed, cores }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.allowed.len()
    }

    /// A quarter of them, at least 0.25 and at most one: what `cpus = "auto"` stands for. So much leaves the generator
    /// room for any server.
    #[must_use]
    pub fn quarter(&self) -> f64 {
        (self.allowed.len() as f64 / 4.0).clamp(0.25, 1.0)
    }

    fn core(&self, cpu: usize) -> usize {
        let at = self.allowed.iter().position(|allowed| *allowed == cpu);
        at.and_then(|at| self.cores.get(at)).copied().unwrap_or(cpu)
    }

    /// The CPUs on cores that none of these is on.
    fn on_other_cores(&self, cpus: &[usize]) -> Vec<usize> {
        let taken: Vec<usize> = cpus.iter().map(|cpu| self.core(*cpu)).collect();
        self.allowed.iter().copied().filter(|cpu| !taken.contains(&self.core(*cpu))).collect()
    }

    /// By core: the first of each, then the second of each, …
    fn spread(&self) -> Vec<usize> {
        let nth = |at: usize| self.cores[..at].iter().filter(|core| **core == self.cores[at]).count();
        let mut order: Vec<(usize, usize)> =
            self.allowed.iter().enumerate().map(|(at, cpu)| (nth(at), *cpu)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, cpu)| cpu).collect()
    }

    /// By core: all of the first, then all of the second, …
    fn packed(&self) -> Vec<usize> {
        let mut order = self.allowed.clone();
        order.sort_by_key(|cpu| (self.core(*cpu), *cpu));
        order
    }
}

/// Who runs where. Both lists are sorted and hold at least one CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The server's.
    pub server: Vec<usize>,
    /// The generator's and the prober's.
    pub generator: Vec<usize>,
    /// Those of the generator that are threads of a core of the server's, and not the server's own.
    pub shared_cores: Vec<usize>,
}

impl Placement {
    /// The CPUs that both have: where there is one, each disturbs what the other is measured by.
    #[must_use]
    pub fn shared(&self) -> Vec<usize> {
        self.server.iter().filter(|cpu| self.generator.contains(cpu)).copied().collect()
    }
}

/// Places both on the CPUs that this process may use.
///
/// A cpuset that the profile asks for is the server's. Else the server has as many CPUs as its limit allows it to keep
/// busy, rounded up, and without a limit all but a core. They are on cores of their own where the generator has another
/// core then, and threads of as few cores as possible where it has not. The generator has the other cores, else the other
/// CPUs, and where nothing is left the last CPU, which is then shared.
#[must_use]
pub fn place(host: &HostCpus, limit: Option<f64>, cpuset: Option<&[usize]>) -> Placement {
    let mut server = cpuset.map_or_else(|| server(host, limit), <[usize]>::to_vec);
    server.sort_unstable();
    let mut generator = host.on_other_cores(&server);
    if generator.is_empty() {
        generator.extend(host.allowed.iter().filter(|cpu| !server.contains(cpu)));
    }
    if generator.is_empty() {
        generator.extend(host.allowed.last().or(server.last()));
    }
    let cores: Vec<usize> = server.iter().map(|cpu| host.core(*cpu)).collect();
    let shares = |cpu: &&usize| !server.contains(cpu) && cores.contains(&host.core(**cpu));
    let shared_cores = generator.iter().filter(shares).copied().collect();
    Placement { server, generator, shared_cores }
}

/// Whether a server under these limits leaves the generator a CPU that is neither the server's nor a thread of a core of the
/// server's.
#[must_use]
pub fn leaves_room(host: &HostCpus, limits: &Limits) -> bool {
    let cpuset: Option<Vec<usize>> = limits.cpuset.as_ref().map(|it| it.iter().collect());
    let placement = place(host, limits.cpu.map(CpuLimit::as_cpus), cpuset.as_deref());
    placement.shared().is_empty() && placement.shared_cores.is_empty()
}

fn server(host: &HostCpus, limit: Option<f64>) -> Vec<usize> {
    let last = host.cores.last().copied();
    let of_last = host.cores.iter().filter(|core| Some(**core) == last).count();
    let all_but_a_core = match host.count() - of_last {
        0 => host.count() - 1,
        others => others,
    };
    let wanted = limit.map_or(all_but_a_core, whole_cpus).clamp(1, host.count().max(1));
    let take = |order: Vec<usize>| order.into_iter().take(wanted).collect::<Vec<usize>>();
    let spread = take(host.spread());
    if host.on_other_cores(&spread).is_empty() { take(host.packed()) } else { spread }
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
fn allowed() -> Vec<usize> {
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

/// The lowest CPU of the same physical core (`topology/thread_siblings_list`, Documentation/admin-guide/cputopology.rst).
/// A CPU of which the kernel says nothing has a core to itself.
fn core(cpu: usize) -> usize {
    let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let siblings = std::fs::read_to_string(file).ok();
    let siblings = siblings.and_then(|text| text.trim().parse::<tare_report::CpuSet>().ok());
    siblings.and_then(|siblings| siblings.iter().next()).unwrap_or(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> =
        (&'a [(usize, usize)], Option<f64>, Option<&'a [usize]>, &'a [usize], &'a [usize], &'a [usize]);

    fn check(cases: &[Case<'_>]) {
        for (host, limit, cpuset, server, generator, shared_cores) in cases {
            let list = |cpus: &[usize]| cpus.to_vec();
            let expected = Placement {
                server: list(server),
                generator: list(generator),
                shared_cores: list(shared_cores),
            };
            assert_eq!(
                place(&HostCpus::of(host), *limit, *cpuset),
                expected,
                "{host:?} {limit:?} {cpuset:?}"
            );
        }
    }

    #[test]
    fn server_and_generator_are_kept_apart_where_that_can_be() {
        let (two, four): (&[_], &[_]) = (&[(0, 0), (1, 1)], &[(0, 0), (1, 1), (2, 2), (3, 3)]);
        let odd: &[_] = &[(2, 2), (5, 5), (7, 7), (9, 9)];
        check(&[
            (two, Some(1.0), None, &[0], &[1], &[]),
            (two, Some(0.25), None, &[0], &[1], &[]),
            (two, None, None, &[0], &[1], &[]),
            (odd, Some(1.5), None, &[2, 5], &[7, 9], &[]),
            (four, None, None, &[0, 1, 2], &[3], &[]),
            (four, None, Some(&[1, 2]), &[1, 2], &[0, 3], &[]),
            // Not enough for both.
            (two, Some(2.0), None, &[0, 1], &[1], &[]),
            (&[(3, 3)], Some(1.0), None, &[3], &[3], &[]),
            (two, None, Some(&[0, 1]), &[0, 1], &[1], &[]),
        ]);
    }

    #[test]
    fn no_core_is_shared_where_another_is_free() {
        // Threads of a core are next to each other, or half of the CPUs apart.
        let (near, far): (&[_], &[_]) =
            (&[(0, 0), (1, 0), (2, 2), (3, 2)], &[(0, 0), (1, 1), (2, 0), (3, 1)]);
        let eight: &[_] = &[(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (5, 1), (6, 2), (7, 3)];
        check(&[
            (near, Some(1.0), None, &[0], &[2, 3], &[]),
            (far, Some(1.0), None, &[0], &[1, 3], &[]),
            (far, Some(2.0), None, &[0, 2], &[1, 3], &[]),
            (near, None, None, &[0, 1], &[2, 3], &[]),
            (eight, Some(2.0), None, &[0, 1], &[2, 3, 6, 7], &[]),
            (eight, Some(4.0), None, &[0, 1, 4, 5], &[2, 3, 6, 7], &[]),
            (eight, None, Some(&[1, 5]), &[1, 5], &[0, 2, 3, 4, 6, 7], &[]),
            // One core is all there is.
            (&[(0, 0), (1, 0)], Some(0.5), None, &[0], &[1], &[1]),
            (&[(0, 0), (1, 0)], None, None, &[0], &[1], &[1]),
            (near, Some(3.0), None, &[0, 1, 2], &[3], &[3]),
        ]);
    }

    #[test]
    fn what_is_shared_is_known() {
        let two = HostCpus::of(&[(0, 0), (1, 1)]);
        assert_eq!(place(&two, Some(2.0), None).shared(), [1]);
        assert_eq!(place(&two, Some(1.0), None).shared(), Vec::<usize>::new());
    }

    #[test]
    fn auto_is_a_quarter_and_at_most_one() {
        let quarter = |count: usize| HostCpus::of(&vec![(0, 0); count]).quarter();
        assert_eq!([1, 2, 3, 4, 64].map(quarter), [0.25, 0.5, 0.75, 1.0, 1.0]);
    }
}
