//! Does what its arguments say, one after another: what containers of the tests run.

use std::io::Write;

fn main() {
    for argument in std::env::args().skip(1) {
        let (what, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match what {
            // One line on stdout.
            "say" => println!("{value}"),
            "complain" => eprintln!("{value}"),
            "exit" => std::process::exit(value.parse().unwrap()),
            "abort" => std::process::abort(),
            "env" => println!("{}", std::env::var(value).unwrap_or_default()),
            "read" => match std::fs::read_to_string(value) {
                Ok(text) => println!("{}", text.trim()),
                Err(error) => println!("{:?}", error.kind()),
            },
            "write" => match std::fs::write(value, "x") {
                Ok(()) => println!("written"),
                Err(error) => println!("{:?}", error.kind()),
            },
            "parallelism" => println!("{}", std::thread::available_parallelism().unwrap()),
            // Bytes that are really there.
            "alloc" => {
                let mut all = Vec::new();
                for _ in 0..value.parse::<usize>().unwrap() >> 20 {
                    all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
                println!("{}", all.len());
            }
            // Threads that never rest.
            "spin" => {
                for _ in 0..value.parse::<usize>().unwrap() {
                    std::thread::spawn(|| {
                        loop {
                            std::hint::black_box(0);
                        }
                    });
                }
            }
            "threads" => {
                let count = value.parse::<usize>().unwrap();
                let made = (0..count).map_while(|_| {
                    std::thread::Builder::new().spawn(|| loop { std::thread::park() }).ok()
                });
                println!("{}", made.count());
            }
            // Sends who it is to everybody who connects.
            "serve" => {
                let listener = std::net::TcpListener::bind(("0.0.0.0", value.parse().unwrap())).unwrap();
                for stream in listener.incoming() {
                    let _ = write!(stream.unwrap(), "served by {}", std::process::id());
                }
            }
            "sleep" => loop {
                std::thread::park();
            },
            other => panic!("what is {other}?"),
        }
        let _ = std::io::stdout().flush();
    }
}
