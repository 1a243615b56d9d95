//! The load generator against servers written here: what they do wrong must show, and nothing else.

mod load {
    mod errors;
    mod pace;
    mod protocol;
    mod server;
}
