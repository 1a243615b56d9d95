//! actix-web as its examples have it: a single-threaded runtime for each worker, SIGTERM handled by itself.

use std::error::Error;
use std::net::Ipv4Addr;

use actix_web::{App, HttpServer, get};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_PORT: u16 = 60000;

#[get("/")]
async fn hello() -> &'static str {
    "Hello from tare\n"
}

#[get("/health")]
async fn health() -> &'static str {
    "ok\n"
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let server = HttpServer::new(|| App::new().service(hello).service(health));
    server.bind((Ipv4Addr::UNSPECIFIED, port))?.run().await?;
    Ok(())
}
