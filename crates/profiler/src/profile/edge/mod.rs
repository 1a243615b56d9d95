//! The edge pass: what a server's local cache saves, and what it answers while the source of its files is away.
//!
//! The container gets a folder in memory with files, from which the server answers. First the files are asked for while the
//! source is there, by a client that accepts compressed answers; then the source is taken away, and they are asked for again
//! after they have become stale. Requests are sequential, some files are asked for more often than others, and every body is
//! compared with the file.

pub mod client;
pub mod source;

use std::net::SocketAddr;
use std::time::Duration;

use tare_container::Confinement;
use tare_load::{Distribution, host};

use super::definition::EdgeOptions;
use super::measurement::Measurement;
use super::metric::Pass;
use super::report::Section;
use super::rounds;
use super::startup::watched_start;
use super::stats::Random;
use super::subject::{self, PassError, Subject};
use super::validity::MachineFacts;
use client::{Answer, CacheState, Client};
use source::{FILES, Source};

/// Of the choice of files: the same in every run.
const SEED: u64 = 1;
/// Beyond the time after which files are stale.
const MARGIN: Duration = Duration::from_millis(200);

/// What was answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edge {
    /// The status of the first answer where the server does not serve the files; there are no figures then.
    pub refused: Option<u16>,
    /// While the source was there.
    pub online: Phase,
    /// After it was taken away.
    pub offline: Phase,
}

/// The answers of one phase.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Phase {
    /// Requests.
    pub requests: u64,
    /// Requests with the file, whole and unchanged as far as it was not encoded.
    pub right: u64,
    /// Right answers out of the cache, fresh or stale.
    pub hits: u64,
    /// Right answers that say that they are stale.
    pub stale: u64,
    /// Right answers that say nothing of a cache.
    pub silent: u64,
    /// Bytes of the files that were answered.
    pub file_bytes: u64,
    /// Bytes of the bodies as they were transferred.
    pub body_bytes: u64,
    /// Times of right answers out of the cache.
    pub of_hits: Distribution,
    /// Times of the other right answers.
    pub of_misses: Distribution,
}

impl Phase {
    /// Counts an answer to a request for a file with this content.
    fn count(&mut self, answer: std::io::Result<Answer>, content: &[u8]) {
        self.requests += 1;
        let Ok(answer) = answer else { return };
        if answer.status != 200 || !(answer.encoded || answer.body == content) {
            return;
        }
        self.right += 1;
        self.file_bytes += content.len() as u64;
        self.body_bytes += answer.body.len() as u64;
        let is_hit = matches!(answer.cache, Some(CacheState::Hit | CacheState::Stale));
        self.hits += u64::from(is_hit);
        self.stale += u64::from(answer.cache == Some(CacheState::Stale));
        self.silent += u64::from(answer.cache.is_none());
        let times = if is_hit { &mut self.of_hits } else { &mut self.of_misses };
        times.record(answer.nanoseconds);
    }
}

/// Asks a container's server for files while their source is there and while it is away.
///
/// # Errors
/// When the container cannot be had, does not become ready or ends, or its files cannot be written from here.
pub fn run(subject: &Subject<'_>, options: &EdgeOptions) -> Result<Edge, PassError> {
    let mut subject = subject.clone();
    // What the container has in memory anyway, and the folder.
    let confinement = Confinement::of(&subject.target.config, &subject.spec.tightening)?;
    subject.spec.tightening.tmpfs = confinement.tmpfs;
    subject.spec.tightening.tmpfs.push(options.folder.clone());
    let given = subject.spec.env.clone();
    subject.spec.env = options.env.clone().into_iter().chain(given).collect();
    let container = subject.create()?;
    let (_, address) = watched_start(&subject, &container)?;
    let unreachable = |why: String| PassError::Source { folder: options.folder.clone(), why };
    let pid =
        container.pid().ok_or_else(|| unreachable("the container's processes are not here".to_owned()))?;
    let source = Source::create(pid, &options.folder).map_err(|error| unreachable(error.to_string()))?;
    let endpoint = container.endpoint(subject.port().number)?;
    let asked = std::thread::scope(|scope| {
        let client = scope.spawn(|| -> Result<Edge, PassError> {
            host::pin(&subject.placement.generator)?;
            if let Some(namespace) = &endpoint.network_namespace {
                host::join_network_namespace(namespace)?;
            }
            ask(address, options, &source).map_err(|error| unreachable(error.to_string()))
        });
        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if let Some(exit) = container.wait(Duration::ZERO)? {
        return Err(subject::how_it_ended(&container, exit));
    }
    let edge = asked?;
    subject::stop(&container)?;
    container.remove()?;
    Ok(edge)
}

/// All requests.
fn ask(address: SocketAddr, options: &EdgeOptions, source: &Source) -> std::io::Result<Edge> {
    let mut client = Client::new(address);
    let mut random = Random::new(SEED);
    let path = |file: usize| format!("{}{}", options.path, source::name(file));
    let contents: Vec<Vec<u8>> = (0..FILES).map(source::content).collect();
    let mut edge = Edge::default();
    let mut asked = [false; FILES];
    for request in 0..options.requests {
        // The square of a uniform number: a quarter of the files gets half of the requests.
        let file = (random.unit().powi(2) * FILES as f64) as usize;
        let answer = client.get(&path(file), &[("accept-encoding", "gzip, br")]);
        if let (0, Ok(Answer { status, .. })) = (request, &answer)
            && *status != 200
        {
            edge.refused = Some(*status);
            return Ok(edge);
        }
        edge.online.count(answer, &contents[file]);
        asked[file] = true;
    }
    source.take_away()?;
    std::thread::sleep(Duration::from_nanos(options.stale_after.0) + MARGIN);
    // Files that nobody has asked for cannot be there.
    let known: Vec<usize> = (0..FILES).filter(|file| asked[*file]).collect();
    for request in 0..options.requests as usize {
        let file = known[request % known.len()];
        edge.offline.count(client.get(&path(file), &[("accept-encoding", "identity")]), &contents[file]);
    }
    source.bring_back()?;
    Ok(edge)
}

impl Edge {
    /// The figures with what speaks against them; none where the server serves no such files.
    #[must_use]
    pub fn figures(&self, machine: &MachineFacts) -> Vec<Measurement> {
        let Self { refused, online, offline } = self;
        if refused.is_some() {
            return Vec::new();
        }
        let exact = Measurement::exact;
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let mut rows = Vec::new();
        // Without the header nothing is known of hits.
        let of_cache = |phase: &Phase, part: u64| share(part, phase.right).filter(|_| phase.silent == 0);
        rows.extend(of_cache(online, online.hits).map(|value| exact("edge.hit-rate", value)));
        let sent = share(online.body_bytes, online.file_bytes);
        rows.extend(sent.map(|sent| exact("edge.bytes-saved", 1.0 - sent)));
        rows.extend(share(offline.right, offline.requests).map(|value| exact("edge.offline-answers", value)));
        rows.extend(of_cache(offline, offline.stale).map(|value| exact("edge.offline-stale", value)));
        for (times, case) in [
            (&online.of_hits, "hit"),
            (&online.of_misses, "miss"),
            (if offline.silent == 0 { &offline.of_hits } else { &offline.of_misses }, "offline"),
        ] {
            if times.count() > 0 {
                let mut row = exact("edge.p50", times.percentile(50.0) as f64).of_case(case);
                rounds::doubt(&mut row, &[], machine, None);
                row.doubts.extend(super::validity::percentile(times.count(), 50.0));
                rows.push(row);
            }
        }
        rows.push(exact("edge.errors", online.requests.saturating_sub(online.right) as f64));
        rows
    }

    /// How it was measured.
    #[must_use]
    pub fn section(&self, place: String, options: &EdgeOptions) -> Section {
        let mut notes = vec![place];
        if let Some(status) = self.refused {
            notes.push(format!(
                "Not measured: {}{} is answered {status}. The server serves no files of {}/{}: `path`, `folder` and `env` of \
                 [edge] say where it has them from.",
                options.path,
                source::name(0),
                options.folder,
                source::NAME
            ));
            return Section { pass: Pass::Edge, notes, tables: vec![] };
        }
        notes.push(format!(
            "{FILES} files of JSON below {}, {} sequential requests with `accept-encoding: gzip, br` while the source is there, \
             and as many without encoding after it was taken away and {} had passed.",
            options.path, options.requests, options.stale_after
        ));
        if self.online.silent > 0 {
            notes.push(
                "The answers have no header Cache-Status (RFC 9211): nothing is known of hits.".to_owned(),
            );
        }
        Section { pass: Pass::Edge, notes, tables: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8], encoded: bool, cache: Option<CacheState>) -> std::io::Result<Answer> {
        Ok(Answer { status: 200, body: body.to_vec(), encoded, cache, nanoseconds: 1_000 })
    }

    #[test]
    fn figures_are_of_right_answers_and_every_wrong_one_is_an_error() {
        let mut edge = Edge::default();
        let file = b"12345678";
        edge.online.count(answer(b"1234", true, Some(CacheState::Miss)), file);
        edge.online.count(answer(b"12345678", false, Some(CacheState::Hit)), file);
        edge.online.count(answer(b"other", false, Some(CacheState::Hit)), file);
        edge.online.count(Err(std::io::ErrorKind::TimedOut.into()), file);
        edge.offline.count(answer(file, false, Some(CacheState::Stale)), file);
        edge.offline.count(answer(file, false, Some(CacheState::Hit)), file);
        edge.offline.count(Ok(Answer { status: 503, ..answer(b"", false, None).unwrap() }), file);
        let values = |edge: &Edge| -> Vec<(String, f64)> {
            edge.figures(&MachineFacts::default()).iter().map(|row| (row.key(), row.value)).collect()
        };
        let expected = [
            ("edge.hit-rate", 0.5),
            ("edge.bytes-saved", 0.25),
            ("edge.offline-answers", 2.0 / 3.0),
            ("edge.offline-stale", 0.5),
            ("edge.p50@hit", 1_000.0),
            ("edge.p50@miss", 1_000.0),
            ("edge.p50@offline", 1_000.0),
            ("edge.errors", 2.0),
        ];
        assert_eq!(values(&edge), expected.map(|(key, value)| (key.to_owned(), value)));
        edge.refused = Some(404);
        assert_eq!(values(&edge), []);
        let notes = edge.section(String::new(), &EdgeOptions::default()).notes;
        assert!(notes[1].starts_with("Not measured: /files/0.json is answered 404."), "{notes:?}");
    }

    #[test]
    fn without_the_header_nothing_is_said_of_hits() {
        let mut edge = Edge::default();
        edge.online.count(answer(b"a", false, None), b"a");
        edge.offline.count(answer(b"a", false, None), b"a");
        let keys: Vec<String> = edge.figures(&MachineFacts::default()).iter().map(Measurement::key).collect();
        let expected =
            ["edge.bytes-saved", "edge.offline-answers", "edge.p50@miss", "edge.p50@offline", "edge.errors"];
        assert_eq!(keys, expected);
    }
}
