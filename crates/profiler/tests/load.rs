//! The load generator against servers written here: what they do wrong must show, and nothing else.

#[cfg(test)]
mod load {
    #[cfg(target_os = "linux")]
    mod child;
    mod client;
    mod errors;
    mod pace;
    mod protocol;
    mod server;
    mod turns;
}
