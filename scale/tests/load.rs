//! The load generator against servers written here: what they do wrong must show, and nothing else.

#[cfg(test)]
mod load {
    mod errors;
    mod pace;
    mod protocol;
    mod server;
}
