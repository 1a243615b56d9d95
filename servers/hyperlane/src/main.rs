//! Hyperlane as its quick start has it: middlewares set what all answers have and send them, routes fill
//! in the rest. Without the quick start's logging, and with the date as the only field beyond the needed.

use std::error::Error;
use std::time::SystemTime;

use hyperlane::{
    APPLICATION_JSON, CONTENT_TYPE, ContentType, Context, DATE, Server, ServerConfig, ServerHook, Status,
    Stream, TEXT_PLAIN, UTF8,
};
use tokio::signal::unix::{SignalKind, signal};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFAULT_PORT: u16 = 60000;

/// Before the route: what is the same for all answers.
struct Head;

impl ServerHook for Head {
    async fn new(_: &mut Stream, _: &mut Context) -> Self {
        Self
    }

    async fn handle(self, _: &mut Stream, ctx: &mut Context) -> Status {
        ctx.get_mut_response()
            .set_status_code(404)
            .set_header(CONTENT_TYPE, ContentType::format_content_type_with_charset(TEXT_PLAIN, UTF8))
            .set_header(DATE, httpdate::fmt_http_date(SystemTime::now()))
            .set_body("not found\n");
        Status::Continue
    }
}

struct Hello;

impl ServerHook for Hello {
    async fn new(_: &mut Stream, _: &mut Context) -> Self {
        Self
    }

    async fn handle(self, _: &mut Stream, ctx: &mut Context) -> Status {
        ctx.get_mut_response().set_status_code(200).set_body("Hello from tare\n");
        Status::Continue
    }
}

struct Json;

impl ServerHook for Json {
    async fn new(_: &mut Stream, _: &mut Context) -> Self {
        Self
    }

    async fn handle(self, _: &mut Stream, ctx: &mut Context) -> Status {
        ctx.get_mut_response()
            .set_status_code(200)
            .set_header(CONTENT_TYPE, APPLICATION_JSON)
            .set_body("{\"message\":\"Hello from tare\"}\n");
        Status::Continue
    }
}

struct Health;

impl ServerHook for Health {
    async fn new(_: &mut Stream, _: &mut Context) -> Self {
        Self
    }

    async fn handle(self, _: &mut Stream, ctx: &mut Context) -> Status {
        ctx.get_mut_response().set_status_code(200).set_body("ok\n");
        Status::Continue
    }
}

struct Ready;

impl ServerHook for Ready {
    async fn new(_: &mut Stream, _: &mut Context) -> Self {
        Self
    }

    async fn handle(self, _: &mut Stream, ctx: &mut Context) -> Status {
        ctx.get_mut_response().set_status_code(200).set_body("ready\n");
        Status::Continue
    }
}

/// After the route: the answer goes out.
struct Send;

impl ServerHook for Send {
    async fn new(_: &mut Stream, _: &mut Context) -> Self {
        Self
    }

    async fn handle(self, stream: &mut Stream, ctx: &mut Context) -> Status {
        let answer = ctx.get_mut_response().build();
        match stream.try_send(answer).await {
            Ok(()) => Status::Continue,
            Err(_) => Status::Reject,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let mut config = ServerConfig::default();
    config.set_address(Server::format_bind_address("0.0.0.0", port)).set_nodelay(Some(true));
    let mut server = Server::from(config);
    server
        .request_middleware::<Head>()
        .route::<Hello>("/")
        .route::<Json>("/json")
        .route::<Health>("/health")
        .route::<Ready>("/ready")
        .response_middleware::<Send>();
    let mut terminate = signal(SignalKind::terminate())?;
    let running = server.run().await.map_err(|error| error.to_string())?;
    terminate.recv().await;
    running.shutdown().await;
    running.wait().await;
    Ok(())
}
