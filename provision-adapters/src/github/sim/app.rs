//! GitHub Apps: what proves an app, and the tokens its installations are given.

use std::collections::BTreeMap;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    Answer, GitHubSim, not_found,
    state::{Token, printed},
    trouble,
};
use crate::sim::{SimRequest, SimResponse, SimTime};

/// How long a token of an installation is good, unless told otherwise.
const TOKEN_LIFE: SimTime = SimTime::from_secs(3_600);
/// How far in the future a JWT may end.
const JWT_LIFE_MAX: u64 = 600;

/// Key of a simulated app: drawn, and known to nobody else.
pub struct AppKey {
    pem: String,
    public: Vec<u8>,
}

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppKey").finish_non_exhaustive()
    }
}

impl AppKey {
    /// Draws a key of 2,048 bits.
    ///
    /// # Errors
    /// The system has no randomness to draw it from.
    pub fn draw() -> Result<Self, &'static str> {
        let drawn = RsaKeyPair::generate(KeySize::Rsa2048);
        let pair = drawn.map_err(|_| "no key could be drawn")?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| "the key cannot be written")?;
        let pem = pem("PRIVATE KEY", der.as_ref());
        Ok(Self { pem, public: pair.public_key().as_ref().to_vec() })
    }

    /// The private key, in PEM (PKCS#8).
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The apps of a simulated GitHub.
#[derive(Debug)]
pub(super) struct Apps {
    known: BTreeMap<String, App>,
    /// Tokens that were given out, with their end.
    tokens: BTreeMap<String, (SimTime, String)>,
    life: SimTime,
    given: usize,
    /// The repositories that the installations were given, where not all.
    selected: Option<Vec<String>>,
}

impl Default for Apps {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            tokens: BTreeMap::new(),
            life: TOKEN_LIFE,
            given: 0,
            selected: None,
        }
    }
}

#[derive(Debug)]
struct App {
    public: Vec<u8>,
    installation: u64,
}

impl Apps {
    fn selection(&self) -> &'static str {
        if self.selected.is_none() { "all" } else { "selected" }
    }

    /// Who a token belongs to, while it is good.
    pub(super) fn token(&self, value: &str, now: SimTime) -> Option<Token> {
        let (end, client_id) = self.tokens.get(value)?;
        let login = format!("{client_id}[bot]");
        let selected = self.selected.clone();
        (now < *end).then_some(Token { login, scopes: None, member: true, owner: false, selected })
    }
}

impl GitHubSim {
    /// Adds a GitHub App with one installation, which may do everything.
    #[must_use]
    pub fn with_app(mut self, client_id: &str, installation: u64, key: &AppKey) -> Self {
        let app = App { public: key.public.clone(), installation };
        self.apps.known.insert(client_id.to_owned(), app);
        self
    }

    /// Sets how long tokens of installations are good. Default an hour.
    pub fn set_app_token_life(&mut self, life: SimTime) {
        self.apps.life = life;
    }

    /// Takes all tokens of installations back, as when an app is suspended and let in again.
    pub fn revoke_app_tokens(&mut self) {
        self.apps.tokens.clear();
    }

    /// Gives the installations these repositories (`owner/name`) alone, as a person would.
    pub fn select_for_apps(&mut self, repositories: &[&str]) {
        let names = repositories.iter().map(|name| (*name).to_owned()).collect();
        self.apps.selected = Some(names);
    }

    /// How many tokens of installations were given out.
    #[must_use]
    pub fn app_tokens_given(&self) -> usize {
        self.apps.given
    }

    /// POST `/app/installations/{id}/access_tokens`, which a JWT opens and nothing else.
    pub(super) fn give_token(&mut self, request: &SimRequest, id: &str, now: SimTime) -> Answer {
        let client_id = self.proven(request, now)?;
        let known = self.apps.known.get(&client_id);
        if known.is_none_or(|app| app.installation.to_string() != id) {
            return Err(not_found());
        }
        self.apps.given += 1;
        let seed = format!("{client_id} {} {}", self.apps.given, now.as_millis());
        let token = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes());
        let token = format!("ghs_{}", token.simple());
        let end = now.saturating_add(self.apps.life);
        self.apps.tokens.insert(token.clone(), (end, client_id));
        let body = json!({
            "token": token, "expires_at": printed(end),
            "permissions": { "administration": "write", "contents": "write", "actions": "write" },
            "repository_selection": self.apps.selection(),
        });
        Ok(SimResponse::json(201, &body))
    }

    /// GET `/app/installations/{id}`: where it is installed, which here is the first organization.
    pub(super) fn installation(&mut self, request: &SimRequest, id: &str, now: SimTime) -> Answer {
        let client_id = self.proven(request, now)?;
        let known = self.apps.known.get(&client_id);
        if known.is_none_or(|app| app.installation.to_string() != id) {
            return Err(not_found());
        }
        let account =
            self.orgs.iter().next().map(|(login, id)| json!({ "login": login, "id": id }));
        let body = json!({
            "id": id.parse::<u64>().unwrap_or_default(), "account": account,
            "repository_selection": self.apps.selection(), "target_type": "Organization",
            "permissions": { "administration": "write", "contents": "write", "actions": "write" },
            "suspended_at": null, "suspended_by": null,
        });
        Ok(SimResponse::json(200, &body))
    }

    /// The app that a JWT is of.
    fn proven(&self, request: &SimRequest, now: SimTime) -> Result<String, SimResponse> {
        let undecoded = || trouble(401, "A JSON web token could not be decoded");
        let token = request.bearer().ok_or_else(undecoded)?;
        let (signed, signature) = token.rsplit_once('.').ok_or_else(undecoded)?;
        let (header, claims) = signed.split_once('.').ok_or_else(undecoded)?;
        let read = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Value>(&bytes).ok()
        };
        let header = read(header).ok_or_else(undecoded)?;
        let claims = read(claims).ok_or_else(undecoded)?;
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or_else(undecoded)?;
        let app =
            self.apps.known.get(issuer).ok_or_else(|| trouble(401, "Integration not found"))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| undecoded())?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &app.public);
        let signed_as_told = header.get("alg").is_some_and(|name| name == "RS256");
        if !signed_as_told || key.verify(signed.as_bytes(), &signature).is_err() {
            return Err(undecoded());
        }
        let now = now.as_secs();
        let moment = |name| claims.get(name).and_then(Value::as_u64);
        let (made, ends) = (moment("iat"), moment("exp"));
        match (made, ends) {
            (Some(made), _) if made > now => Err(trouble(
                401,
                "'Issued at' claim ('iat') must be an Integer representing the time that the \
                 assertion was issued",
            )),
            (_, Some(ends)) if ends > now.saturating_add(JWT_LIFE_MAX) => {
                Err(trouble(401, "'Expiration time' claim ('exp') is too far in the future"))
            }
            (Some(_), Some(ends)) if ends > now => Ok(issuer.to_owned()),
            _ => Err(trouble(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future \
                 time at which the assertion expires",
            )),
        }
    }
}
