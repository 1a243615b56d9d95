//! actix-web as its examples have it: a single-threaded runtime for each worker, SIGTERM handled by itself.

use std::error::Error;
use std::net::Ipv4Addr;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, Responder, get, web};

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

#[get("/ready")]
async fn ready() -> &'static str {
    "ready\n"
}

#[get("/json")]
async fn json() -> impl Responder {
    HttpResponse::Ok().content_type(ContentType::json()).body("{\"message\":\"Hello from tare\"}\n")
}

async fn not_found() -> impl Responder {
    ("not found\n", StatusCode::NOT_FOUND)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let server = HttpServer::new(|| {
        let app = App::new().service(hello).service(json).service(health).service(ready);
        app.default_service(web::to(not_found))
    });
    server.bind((Ipv4Addr::UNSPECIFIED, port))?.run().await?;
    Ok(())
}
