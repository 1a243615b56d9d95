//! `cargo xtask image`, `inspect` and `list` from outside: the program is run in small workspaces, and
//! what it prints, writes and leaves alone is compared.
//!
//! Most images here hold a program that is written byte by byte (`tiny_elf`), so that nothing is
//! compiled; `compiled` is the exception.

#![cfg(unix)]

#[cfg(test)]
mod base;
#[cfg(test)]
mod base_pins;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod cargo;
#[cfg(test)]
mod clean;
#[cfg(test)]
mod compiled;
#[cfg(test)]
mod content;
#[cfg(test)]
mod daemons;
#[cfg(test)]
mod definitions;
#[cfg(test)]
mod git;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod killed;
#[cfg(all(test, target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod libraries;
#[cfg(test)]
mod others;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod places;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod reproducible;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tiny_elf;
#[cfg(test)]
mod together;
#[cfg(test)]
mod toolkit;
#[cfg(test)]
mod workspaces;
