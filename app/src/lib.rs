//! A small HTTP server that knows the limits of its container: [`run`] answers on its listeners until it is
//! told to stop, then stops without dropping a request.
//!
//! Four modules are there to be copied, each by itself: what the container allows ([`limits`]), how large
//! everything is made for it ([`sizing`]), the sockets ([`listen`]) and the health check ([`health`]). Beside
//! them stand what can be set and from where ([`config`]), the log ([`log`]), and the routes. HTTP is
//! [`tare_http`]'s.
//!
//! Left out on purpose: TLS, which the proxy in front of a container speaks.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

mod cache;
pub mod config;
pub mod health;
pub mod limits;
pub mod listen;
pub mod log;
mod metrics;
mod report;
mod routes;
mod server;
pub mod sizing;
mod usage;
mod work;

pub use config::Config;
pub use server::Server;
pub use tare_http::{Stopped, runtime};

/// Serves the connections of the listeners until `shutdown` is ready, then finishes those in progress.
///
/// # Errors
/// Those of [`tare_http::Engine::run`].
pub async fn serve(
    server: &Arc<Server>,
    listeners: Vec<TcpListener>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Stopped> {
    let routes = Arc::new(routes::Routes::new(Arc::clone(server)));
    Arc::clone(&server.engine).run(routes, listeners, shutdown).await
}

/// The same, in the limits of this process.
///
/// # Errors
/// Those of [`serve`].
pub async fn run(
    listeners: Vec<TcpListener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Stopped> {
    let server = Server::new(config, limits::of_this_process(), listen::open_files());
    serve(&server, listeners, shutdown).await
}
