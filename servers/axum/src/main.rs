//! axum as its examples have it, on tokio's usual runtime.

use std::error::Error;
use std::net::Ipv4Addr;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_PORT: u16 = 60000;
const JSON: &str = "{\"message\":\"Hello from tare\"}\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let app = Router::new()
        .route("/", get(async || "Hello from tare\n"))
        .route("/json", get(async || ([(CONTENT_TYPE, "application/json")], JSON)))
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(async || "ready\n"))
        .fallback(async || (StatusCode::NOT_FOUND, "not found\n"));
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    let terminated = async move { terminate.recv().await.unwrap_or_default() };
    axum::serve(listener, app).with_graceful_shutdown(terminated).await?;
    Ok(())
}
