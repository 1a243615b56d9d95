//! Rocket as its guide has it; SIGTERM is handled by itself.

use std::error::Error;
use std::net::Ipv4Addr;

use rocket::response::content::RawJson;
use rocket::{Config, catch, catchers, get, routes};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_PORT: u16 = 60000;

#[get("/")]
fn hello() -> &'static str {
    "Hello from tare\n"
}

#[get("/json")]
fn json() -> RawJson<&'static str> {
    RawJson("{\"message\":\"Hello from tare\"}\n")
}

#[get("/health")]
fn health() -> &'static str {
    "ok\n"
}

#[get("/ready")]
fn ready() -> &'static str {
    "ready\n"
}

#[catch(404)]
fn not_found() -> &'static str {
    "not found\n"
}

#[rocket::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let config = Config::figment().merge(("address", Ipv4Addr::UNSPECIFIED)).merge(("port", port));
    let rocket = rocket::custom(config)
        .mount("/", routes![hello, json, health, ready])
        .register("/", catchers![not_found]);
    rocket.launch().await?;
    Ok(())
}
