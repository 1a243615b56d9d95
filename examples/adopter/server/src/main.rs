//! Notes over HTTP: POST / adds the body as a note, GET / lists all of them.

use std::error::Error;
use std::io::Read as _;

use rusqlite::Connection;
use tiny_http::{Method, Response, Server};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let path = std::env::var("DATABASE").unwrap_or_else(|_| ":memory:".to_owned());
    let database = Connection::open(path)?;
    database.execute_batch("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")?;
    let server = Server::http(format!("0.0.0.0:{port}"))?;
    for mut request in server.incoming_requests() {
        let answer = match request.method() {
            Method::Post => {
                let mut text = String::new();
                request.as_reader().take(64 << 10).read_to_string(&mut text)?;
                database.execute("INSERT INTO note (text) VALUES (?1)", [text.trim()])?;
                Response::from_string("added\n").with_status_code(201)
            }
            Method::Get => {
                let mut query = database.prepare("SELECT id, text FROM note ORDER BY id")?;
                let notes = query
                    .query_map([], |row| Ok(format!("{}: {}\n", row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
                Response::from_string(notes.collect::<Result<String, _>>()?)
            }
            _ => Response::from_string("").with_status_code(405),
        };
        request.respond(answer)?;
    }
    Ok(())
}
