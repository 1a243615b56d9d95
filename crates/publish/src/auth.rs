//! Authentication with a registry: challenges, tokens, and when they are fetched anew.
//!
//! Filled by hand: no crate speaks the registries' token protocol (distribution, "Token Authentication
//! Specification") without an async runtime. Challenges are parsed by `http-auth`.

use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{HeaderMap, Method};

use crate::credentials::{Credential, Secret};
use crate::error::Error;
use crate::http::{Body, Http, Refused, Request, encoded, with_query};

/// Of a token that does not say (distribution, token.md, `expires_in`).
const LIFETIME: u64 = 60;
/// Before its end a token is fetched anew: clocks differ, and an answer takes time.
const MARGIN: Duration = Duration::from_secs(10);
/// No token server's answer is longer.
const ANSWER_LIMIT: u64 = 1 << 20;

/// What is known of how one repository wants to be asked.
pub(crate) struct Auth {
    credential: Option<Credential>,
    /// `repository:NAME:pull,push` first: some registries look at the first alone.
    scopes: Vec<String>,
    is_tls: bool,
    state: Mutex<State>,
}

struct State {
    header: Option<String>,
    expires: Option<Instant>,
    challenge: Option<Challenge>,
    /// Grows with each header, so that threads that were refused together fetch one token.
    generation: u64,
}

/// `Bearer realm="…",service="…"`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Answer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(credential: Option<Credential>, scopes: Vec<String>, is_tls: bool) -> Self {
        let header = match &credential {
            Some(Credential::RegistryToken(token)) => Some(format!("Bearer {}", token.reveal())),
            // Shown to the registry only when it asks for it.
            _ => None,
        };
        let state = State { header, expires: None, challenge: None, generation: 0 };
        Self { credential, scopes, is_tls, state: Mutex::new(state) }
    }

    /// The header to send, fetched anew where it is about to expire, and its generation.
    pub(crate) fn header(&self, http: &Http) -> Result<(Option<String>, u64), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = state.expires.is_some_and(|at| Instant::now() + MARGIN >= at);
        if let (true, Some(challenge)) = (expired, state.challenge.clone()) {
            self.fetch(http, challenge, &mut state)?;
        }
        Ok((state.header.clone(), state.generation))
    }

    /// After a refusal of a request with the header of that generation: whether another one is to be sent.
    pub(crate) fn answer(
        &self,
        http: &Http,
        status: u16,
        headers: &HeaderMap,
        generation: u64,
    ) -> Result<bool, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation {
            return Ok(true);
        }
        if status == 401 {
            if let Some(challenge) = bearer(headers) {
                self.fetch(http, challenge, &mut state)?;
                return Ok(true);
            }
            if let (Some(Credential::Basic { user, password }), true) =
                (&self.credential, wants_basic(headers))
            {
                state.header = Some(Credential::basic(user, password));
                state.generation += 1;
                return Ok(true);
            }
        }
        // ECR says 403 of a token that has expired.
        if let (403, Some(challenge)) = (status, state.challenge.clone()) {
            self.fetch(http, challenge, &mut state)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn fetch(&self, http: &Http, challenge: Challenge, state: &mut State) -> Result<(), Error> {
        if self.is_tls && !challenge.realm.starts_with("https://") {
            return Err(Error::Registry(format!("the token server {} is without TLS", challenge.realm)));
        }
        let mut form = String::new();
        let request = match &self.credential {
            Some(Credential::IdentityToken(token)) => {
                let service = challenge.service.as_deref().unwrap_or_default();
                form = format!(
                    "grant_type=refresh_token&refresh_token={}&client_id=tare&service={}&scope={}",
                    encoded(token.reveal()),
                    encoded(service),
                    encoded(&self.scopes.join(" "))
                );
                Request::new(Method::POST, challenge.realm.clone())
                    .header("Content-Type", "application/x-www-form-urlencoded")
            }
            _ => {
                let service = challenge.service.iter().map(|service| ("service", service));
                let scopes = self.scopes.iter().map(|scope| ("scope", scope));
                let url = service
                    .chain(scopes)
                    .fold(challenge.realm.clone(), |url, (name, value)| with_query(&url, name, value));
                Request::new(Method::GET, url)
            }
        };
        let request = if form.is_empty() { request } else { request.body(Body::Bytes(form.as_bytes())) };
        let authorization = match &self.credential {
            Some(Credential::Basic { user, password }) => Some(Credential::basic(user, password)),
            _ => None,
        };
        let bytes = http.retrying(|| {
            let mut response = http.send_once(&request, authorization.as_deref())?;
            let mut bytes = Vec::new();
            let read = response.body_mut().as_reader().take(ANSWER_LIMIT).read_to_end(&mut bytes);
            let source = match read {
                Ok(_) => return Ok(bytes),
                Err(error) => ureq::Error::Io(error),
            };
            Err(Refused::from(Error::Exchange { request: request.describe(), source }))
        })?;
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        let token = answer.as_ref().and_then(|answer| answer.token.as_ref().or(answer.access_token.as_ref()));
        let Some(token) = token else {
            return Err(Error::Registry(format!("{} answers no token", request.describe())));
        };
        let lifetime = answer.as_ref().and_then(|answer| answer.expires_in).unwrap_or(LIFETIME).max(LIFETIME);
        state.header = Some(format!("Bearer {}", token.reveal()));
        state.expires = Some(crate::http::after(Duration::from_secs(lifetime.min(24 * 3600))));
        state.challenge = Some(challenge);
        state.generation += 1;
        Ok(())
    }
}

fn challenges(headers: &HeaderMap) -> impl Iterator<Item = (String, Vec<(String, String)>)> {
    let values = headers.get_all("WWW-Authenticate").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| {
        let parsed = http_auth::parse_challenges(value).unwrap_or_default();
        parsed
            .into_iter()
            .map(|challenge| {
                let params = challenge.params.iter();
                let params = params.map(|(name, value)| (name.to_lowercase(), value.to_unescaped()));
                (challenge.scheme.to_lowercase(), params.collect())
            })
            .collect::<Vec<_>>()
    })
}

fn bearer(headers: &HeaderMap) -> Option<Challenge> {
    let (_, params) = challenges(headers).find(|(scheme, _)| scheme == "bearer")?;
    let get = |name: &str| params.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Some(Challenge { realm: get("realm")?, service: get("service") })
}

fn wants_basic(headers: &HeaderMap) -> bool {
    challenges(headers).any(|(scheme, _)| scheme == "basic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_found_among_others_and_with_commas_in_quotes() {
        for (values, expected, basic) in [
            (&[r#"Bearer realm="https://a/t",service="r",scope="repository:x:pull,push""#][..], true, false),
            (&[r#"Basic realm="x", Bearer realm="https://a/t",service=r"#], true, true),
            (&[r#"Basic realm="x""#, r#"bearer realm="https://a/t", service="r""#], true, true),
            (&[r#"Basic realm="Bearer realm=1""#], false, true),
            (&["", "???"], false, false),
        ] {
            let headers: HeaderMap = values
                .iter()
                .map(|value| ("WWW-Authenticate".parse().unwrap(), value.parse().unwrap()))
                .collect();
            let challenge = Challenge { realm: "https://a/t".to_owned(), service: Some("r".to_owned()) };
            assert_eq!(bearer(&headers), expected.then_some(challenge), "{values:?}");
            assert_eq!(wants_basic(&headers), basic, "{values:?}");
        }
    }
}
