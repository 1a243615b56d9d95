//! Rocket as its guide has it; SIGTERM is handled by itself.

use std::error::Error;
use std::net::Ipv4Addr;

use rocket::{Config, get, routes};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_PORT: u16 = 60000;

#[get("/")]
fn hello() -> &'static str {
    "Hello from tare\n"
}

#[get("/health")]
fn health() -> &'static str {
    "ok\n"
}

#[rocket::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let config = Config::figment().merge(("address", Ipv4Addr::UNSPECIFIED)).merge(("port", port));
    rocket::custom(config).mount("/", routes![hello, health]).launch().await?;
    Ok(())
}
