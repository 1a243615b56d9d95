//! Floods and slow readers over HTTP/2, frame by frame. Each is bounded: the connection ends, or the server
//! stops reading from it, its memory stays small, and other connections are served.

#![cfg(all(unix, feature = "h2"))]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use support::program::Program;

// Types, flags and errors of RFC 9113, 6 and 7.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const INITIAL_WINDOW_SIZE: u16 = 4;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

const SERVER: &str = env!("CARGO_BIN_EXE_tare-http-test-server");

const WRITE_NEVER: &str = "write-timeout=3600000";
const IDLE_NEVER: &str = "idle-timeout=3600000";
const WRITE_SOON: &str = "write-timeout=200";
/// What a connection may cost at the very most, whatever it does.
const MOST: u64 = 8 << 20;

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Of GOAWAY or RST_STREAM.
    fn error(&self) -> Option<u32> {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields of a request, by the static table of RFC 7541 and otherwise literally.
fn request(method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![if method == "GET" { 0x82 } else { 0x83 }, 0x86];
    for (index, value) in [(0x04, path), (0x01, "a")] {
        block.extend([index, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        block.extend(value.bytes());
    }
    block
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("GET", path))
}

/// Identifiers of the streams of a client.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

struct Peer(TcpStream);

impl Peer {
    fn connect(program: &Program, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut stream = TcpStream::connect(program.address)?;
        // Only keeps a broken server from holding the tests up for ever.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        stream.write_all(&frame(SETTINGS, 0, 0, &payload))?;
        Ok(Self(stream))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload })
    }

    /// What comes until there is one that fits.
    fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            if fits(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Sends pieces on another thread until the connection ends, and tells with which error: that of GOAWAY,
    /// or none if it was closed without one.
    fn flood(mut self, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> io::Result<Option<u32>> {
        let mut sender = Self(self.0.try_clone()?);
        let sending = thread::spawn(move || pieces.into_iter().find_map(|piece| sender.send(&piece).err()));
        let mut error = None;
        loop {
            match self.read() {
                Ok(frame) if frame.kind == GOAWAY => error = frame.error(),
                Ok(_) => {}
                // What was still on its way makes the end a reset.
                Err(_) => break,
            }
        }
        drop(self);
        sending.join().map_err(|_| io::Error::other("the sender panicked"))?;
        Ok(error)
    }

    /// Sends the same until the server takes no more: it stops reading, or closes. Tells how much it took.
    fn stuff(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set_write_timeout(Some(Duration::from_millis(500)))?;
        let mut sent = 0;
        while let Ok(count) = self.0.write(bytes) {
            sent += count;
            assert!(sent < 256 << 20, "the server reads without end");
        }
        Ok(sent)
    }

    /// Waits until the server has closed, reading whatever it still says.
    fn ended(mut self) {
        while self.read().is_ok() {}
    }
}

fn start(arguments: &[&str]) -> io::Result<Program> {
    // Three fifths of 64 MiB.
    Program::start(Command::new(SERVER).arg("memory=40265280").args(arguments))
}

/// Its memory before, so that what it needs once is not counted.
fn warm(program: &Program) -> io::Result<u64> {
    let mut peer = Peer::connect(program, &[])?;
    peer.send(&get(1, "/health"))?;
    peer.until(|frame| frame.kind == DATA)?;
    program.resident()
}

fn is_small(program: &Program, before: u64) -> io::Result<()> {
    let grown = program.resident()?.saturating_sub(before);
    assert!(grown < MOST, "{grown} bytes more than {before}");
    program.is_well()
}

#[test]
fn streams_that_are_reset_at_once_end_the_connection() -> io::Result<()> {
    let program = start(&[])?;
    let before = warm(&program)?;
    let peer = Peer::connect(&program, &[])?;
    let pieces = streams().take(50_000).map(|stream| {
        let mut piece = get(stream, "/bytes/1000000");
        piece.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        piece
    });
    let pieces: Vec<_> = pieces.collect();
    let pieces: Vec<_> = pieces.chunks(1000).map(<[_]>::concat).collect();
    assert_eq!(peer.flood(pieces.into_iter())?, Some(ENHANCE_YOUR_CALM));
    is_small(&program, before)
}

#[test]
fn streams_that_make_the_server_reset_them_end_the_connection() -> io::Result<()> {
    let program = start(&[])?;
    let before = warm(&program)?;
    let peer = Peer::connect(&program, &[])?;
    // A window of more than there can be is an error of the stream: the server resets it.
    let pieces: Vec<_> = streams()
        .take(50_000)
        .map(|stream| {
            let mut piece = get(stream, "/bytes/1000000");
            piece.extend(frame(WINDOW_UPDATE, 0, stream, &LARGEST_WINDOW.to_be_bytes()));
            piece
        })
        .collect();
    let pieces: Vec<_> = pieces.chunks(1000).map(<[_]>::concat).collect();
    assert_eq!(peer.flood(pieces.into_iter())?, Some(ENHANCE_YOUR_CALM));
    is_small(&program, before)
}

#[test]
fn head_without_end_ends_the_connection() -> io::Result<()> {
    let program = start(&[])?;
    let before = warm(&program)?;
    // A field that is not put into the table, one that is, and nothing at all.
    for field in [&b"\x00\x01a\x40"[..], b"\x40\x01a\x40", b""] {
        let mut block = field.to_vec();
        if !field.is_empty() {
            block.extend([b'b'; 64]);
        }
        let peer = Peer::connect(&program, &[])?;
        let begin = std::iter::once(frame(HEADERS, END_STREAM, 1, &request("GET", "/")));
        let pieces = begin.chain((0..50_000).map(move |_| frame(CONTINUATION, 0, 1, &block)));
        assert_eq!(peer.flood(pieces)?, Some(ENHANCE_YOUR_CALM), "{}", field.escape_ascii());
        is_small(&program, before)?;
    }
    Ok(())
}

#[test]
fn head_that_is_too_long_is_answered_431() -> io::Result<()> {
    let program = start(&["head-limit=4096"])?;
    let mut peer = Peer::connect(&program, &[])?;
    let mut block = request("GET", "/");
    block.extend(b"\x00\x01a\x7f\x89\x26");
    block.extend([b'b'; 5000]);
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))?;
    let answer = peer.until(|frame| frame.kind == HEADERS)?;
    // `:status` of the static table, and 431 in Huffman's code (RFC 7541, B).
    assert_eq!(answer.payload, b"\x48\x83\x69\x90\xff");
    program.is_well()
}

#[test]
fn pings_and_settings_are_answered_one_by_one_however_many_come() -> io::Result<()> {
    let program = start(&[])?;
    let before = warm(&program)?;
    for (kind, payload) in [(PING, &b"12345678"[..]), (SETTINGS, b"")] {
        let mut peer = Peer::connect(&program, &[])?;
        peer.until(|frame| frame.kind == SETTINGS && frame.flags == ACK)?;
        let mut sender = Peer(peer.0.try_clone()?);
        let sending = thread::spawn(move || sender.send(&frame(kind, 0, 0, payload).repeat(50_000)));
        for number in 0..50_000 {
            let answer = peer.until(|frame| frame.kind == kind && frame.flags == ACK)?;
            assert_eq!(answer.payload, payload, "{number}");
        }
        sending.join().map_err(|_| io::Error::other("the sender panicked"))??;
        is_small(&program, before)?;
    }
    Ok(())
}

#[test]
fn pings_and_settings_are_not_read_from_who_does_not_read_and_the_connection_ends() -> io::Result<()> {
    let program = start(&["idle-timeout=2000", WRITE_SOON])?;
    let before = warm(&program)?;
    for (kind, payload) in [(PING, &b"12345678"[..]), (SETTINGS, b"")] {
        let mut peer = Peer::connect(&program, &[])?;
        peer.stuff(&frame(kind, 0, 0, payload).repeat(1000))?;
        is_small(&program, before)?;
        peer.ended();
    }
    while program.metric("connections")? > 1 {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn answers_that_are_not_read_end_the_connection_and_hold_little_until_then() -> io::Result<()> {
    let program = start(&[IDLE_NEVER, "write-timeout=2000"])?;
    let before = warm(&program)?;
    // No window for any stream; and all that the streams may have, on a socket that is not read.
    for window in [0, LARGEST_WINDOW] {
        let mut peer = Peer::connect(&program, &[(INITIAL_WINDOW_SIZE, window)])?;
        peer.send(&frame(WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - 65_535).to_be_bytes()))?;
        for stream in streams().take(100) {
            peer.send(&get(stream, "/bytes/1073741824"))?;
        }
        while program.metric("requests_total{status=\"200\"}")? < 100 {
            thread::sleep(Duration::from_millis(5));
        }
        is_small(&program, before)?;
        if window == 0 {
            assert_eq!(peer.until(|frame| frame.kind == GOAWAY)?.error(), Some(0));
            peer.ended();
        } else {
            // It is not read until the server has cut it off.
            while program.metric("connections")? > 1 {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    Ok(())
}

#[test]
fn answer_that_is_read_byte_by_byte_is_cut_off_however_steadily() -> io::Result<()> {
    let program = start(&[IDLE_NEVER, WRITE_SOON])?;
    let mut peer = Peer::connect(&program, &[(INITIAL_WINDOW_SIZE, 0)])?;
    peer.send(&get(1, "/bytes/1073741824"))?;
    // The clock is the server's.
    while peer.send(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    program.is_well()
}

#[test]
fn echo_that_is_not_read_holds_no_more_than_the_windows() -> io::Result<()> {
    let program = start(&[WRITE_NEVER])?;
    let before = warm(&program)?;
    let mut peer = Peer::connect(&program, &[(INITIAL_WINDOW_SIZE, 0)])?;
    for stream in streams().take(100) {
        peer.send(&frame(HEADERS, END_HEADERS, stream, &request("POST", "/echo")))?;
    }
    // The windows of the server: one of each stream, and one for all.
    for stream in streams().take(4) {
        peer.send(&frame(DATA, 0, stream, &[b'a'; 16_000]))?;
    }
    peer.until(|frame| frame.kind == HEADERS && frame.stream == 199)?;
    is_small(&program, before)?;
    // One byte more than the windows have is an error.
    peer.send(&frame(DATA, 0, 9, &[b'a'; 16_000]).repeat(9))?;
    assert!(peer.until(|frame| frame.kind == GOAWAY)?.error().is_some_and(|error| error > 0));
    peer.ended();
    is_small(&program, before)
}

#[test]
fn empty_and_tiny_pieces_of_a_body_do_not_pile_up() -> io::Result<()> {
    for piece in [&b""[..], b"a"] {
        let program = start(&[WRITE_NEVER])?;
        let before = warm(&program)?;
        let peer = Peer::connect(&program, &[(INITIAL_WINDOW_SIZE, 0)])?;
        let begin = std::iter::once(frame(HEADERS, END_HEADERS, 1, &request("POST", "/echo")));
        let data = frame(DATA, 0, 1, piece);
        let pieces = begin.chain((0..100_000).map(move |_| data.clone()));
        let error = peer.flood(pieces)?;
        assert!(error.is_some_and(|error| error > 0), "{error:?}");
        is_small(&program, before)?;
    }
    Ok(())
}

#[test]
fn body_that_a_hundred_streams_wait_for_is_in_memory_once() -> io::Result<()> {
    let program = start(&[WRITE_NEVER])?;
    assert_eq!(program.client()?.ask("GET", "/shared")?.status, "HTTP/1.1 200 OK");
    let before = warm(&program)?;
    let mut peer = Peer::connect(&program, &[(INITIAL_WINDOW_SIZE, 0)])?;
    for stream in streams().take(100) {
        peer.send(&get(stream, "/shared"))?;
    }
    peer.until(|frame| frame.kind == HEADERS && frame.stream == 199)?;
    is_small(&program, before)
}

#[test]
fn streams_share_what_memory_there_is_and_are_told_when_it_ends() -> io::Result<()> {
    let program = start(&["memory=3355440", WRITE_NEVER])?;
    // What is to be echoed may take as much as a head and a buffer for each.
    let mut peers = Vec::new();
    for _ in 0..2 {
        let mut peer = Peer::connect(&program, &[(INITIAL_WINDOW_SIZE, 0)])?;
        // Both are let in before there is no memory left.
        peer.until(|frame| frame.kind == SETTINGS)?;
        peers.push(peer);
    }
    for peer in &mut peers {
        for stream in streams().take(100) {
            peer.send(&frame(HEADERS, END_HEADERS, stream, &request("POST", "/echo")))?;
        }
    }
    for peer in &mut peers {
        peer.until(|frame| frame.kind == HEADERS && frame.stream == 199)?;
    }
    // Who comes now is told, and not cut off.
    let mut late = Peer::connect(&program, &[])?;
    late.send(&get(1, "/"))?;
    assert_eq!(late.read()?.kind, SETTINGS);
    let end = late.read()?;
    assert_eq!((end.kind, end.error()), (GOAWAY, Some(ENHANCE_YOUR_CALM)));
    assert_eq!(late.read().map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    drop(late);
    let mut told = 0;
    // The page itself needs buffers, and may be refused for the same reason.
    while told == 0 {
        told = program.metric("requests_total{status=\"503\"}").unwrap_or(1);
    }
    drop(peers);
    // And what they held is there again.
    while program.metric("connections").unwrap_or(u64::MAX) > 1 {
        thread::sleep(Duration::from_millis(5));
    }
    let mut peer = Peer::connect(&program, &[])?;
    peer.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/echo")))?;
    assert_eq!(peer.until(|frame| frame.kind == HEADERS)?.payload.first(), Some(&0x88));
    Ok(())
}

#[test]
fn refusal_comes_before_the_end_of_the_stream_whose_body_is_too_long() -> io::Result<()> {
    let program = start(&["body-limit=1024"])?;
    // `content-length` of the static table.
    let long = b"\x0f\x0d\x042000";
    for (path, fields, body) in [
        ("/echo", &long[..], 0),
        // In the middle of a body that nobody wants.
        ("/", b"", 1500),
    ] {
        let mut peer = Peer::connect(&program, &[])?;
        let mut block = request("POST", path);
        block.extend(fields);
        peer.send(&frame(HEADERS, END_HEADERS, 1, &block))?;
        if body > 0 {
            peer.send(&frame(DATA, 0, 1, &vec![b'a'; body]))?;
        }
        let first = peer.until(|frame| frame.stream == 1 && frame.kind != WINDOW_UPDATE)?;
        assert_eq!((first.kind, first.payload.first()), (HEADERS, Some(&0x48)), "{path}");
        let last = peer.until(|frame| frame.kind == RST_STREAM)?;
        assert_eq!((last.stream, last.error()), (1, Some(0)), "{path}");
    }
    Ok(())
}

#[test]
fn bytes_of_both_directions_are_counted() -> io::Result<()> {
    let program = start(&[])?;
    let mut peer = Peer::connect(&program, &[])?;
    peer.send(&get(1, "/bytes/10000"))?;
    peer.until(|frame| frame.kind == DATA && frame.flags & END_STREAM > 0)?;
    let mut client = program.client()?;
    assert!(client.metric("sent_bytes_total")? > 10_000);
    assert!(client.metric("received_bytes_total")? > 40);
    Ok(())
}
