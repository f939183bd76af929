//! Resend: a mail goes out once, what cannot be sent is refused, and the simulator refuses what
//! the provider refuses.

use std::time::Duration;

use provision_adapters::{
    http::BaseUrl,
    resend::{
        KEY_TRUSTED, Mail, MailSent, Resend, ResendConfig, SendMail,
        sim::{Email, KEY, ResendSim},
    },
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{
    Effect, RunId, SecretRef, Step, StepContext, StepError, Timestamp, Verdict, context::Memory,
};
use provision_testkit::solo::SoloHost;
use serde_json::{Value, json};
use uuid::Uuid;

/// A moment of the store's clock.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

struct World {
    server: SimServer<ResendSim>,
    host: SoloHost,
    mail: SendMail,
    http: reqwest::Client,
}

impl World {
    fn start() -> Self {
        let options = SimOptions::default().with_recorded_exchanges();
        let server = SimServer::start(ResendSim::new(), options).unwrap();
        server.with(|sim| sim.set_calls_per_second(1_000));
        let base = BaseUrl::parse(&server.url()).unwrap();
        let config = ResendConfig::at(base, SecretRef::named("RESEND_API_KEY"));
        let mail = SendMail::new(&Resend::new(config).unwrap());
        let host = SoloHost::new().with_secret("RESEND_API_KEY", KEY).with_now(NOW);
        let http = reqwest::Client::builder().no_proxy().user_agent("raw").build().unwrap();
        Self { server, host, mail, http }
    }

    fn cx(&self, run: u128) -> StepContext {
        self.host.context(RunId::from_uuid(Uuid::from_u128(run)), "mail")
    }

    /// The second attempt, after a first one whose end is unknown, which began so long ago.
    fn again(&self, ago: Duration) -> StepContext {
        let ago = u64::try_from(ago.as_millis()).unwrap();
        let begun_at = Some(Timestamp::from_millis(NOW.as_millis() - ago));
        let memory = Memory { unknown: true, may_exist: true, begun_at, ..Memory::default() };
        self.host.attempt(RunId::from_uuid(Uuid::from_u128(1)), "mail", 2, memory)
    }

    async fn send(&self, run: u128, mail: Mail) -> Result<MailSent, StepError> {
        self.mail.run(&self.cx(run), mail).await
    }

    fn mails(&self) -> Vec<Email> {
        self.server.with(|sim| sim.mails())
    }

    /// A mail by other means than our client: status and answer.
    async fn raw(&self, key: Option<&str>, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/emails", self.server.url())).bearer_auth(KEY);
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        told(request.json(body).send().await.unwrap()).await
    }
}

async fn told(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    for name in ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
        assert!(answer.headers().contains_key(name), "{name} comes with every answer");
    }
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
}

fn hello() -> Mail {
    Mail::new("Acme <ops@example.com>", "ada@example.org", "Hello").with_text("Hello Ada")
}

// covers: R2-27, S10
#[tokio::test]
async fn a_mail_goes_out_once_however_often_its_step_is_repeated() {
    let world = World::start();
    let whole = hello()
        .with_html("<p>Hello Ada</p>")
        .also_to("bob@example.org")
        .with_copy_to("cc@example.org")
        .with_hidden_copy_to("bcc@example.org")
        .with_reply_to("desk@example.com")
        .with_tag("kind", "welcome");
    let first = world.send(1, whole.clone()).await.unwrap();
    assert_eq!(world.send(1, whole.clone()).await.unwrap(), first);
    let other = world.send(2, whole).await.unwrap();
    assert_ne!(other, first, "another run's mail is another mail");
    let mails = world.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!((&mails[0].id, mails[0].to.len()), (&first.id, 2));
    assert_eq!(mails[0].tags["provision_run"], world.cx(1).run_id().to_string());
    assert_eq!(mails[0].key.as_deref(), Some(world.cx(1).idempotency_key()));
    let sent: Value = world.server.exchanges()[0].request.json().unwrap();
    for (field, wanted) in [
        ("cc", json!(["cc@example.org"])),
        ("bcc", json!(["bcc@example.org"])),
        ("reply_to", json!(["desk@example.com"])),
        ("html", json!("<p>Hello Ada</p>")),
    ] {
        assert_eq!(sent[field], wanted, "{field}");
    }
}

// covers: R2-27, S10
#[tokio::test]
async fn a_mail_without_an_answer_is_repeated_while_its_key_is_known_and_never_after() {
    let world = World::start();
    world.server.faults().add(FaultRule::new(Fault::DropAfter).once());
    let error = world.send(1, hello()).await.unwrap_err();
    assert_eq!((error.effect(), error.code()), (Effect::Unknown, "no_answer"));
    let moment = Duration::from_millis(1);
    let sent = world.mail.run(&world.again(KEY_TRUSTED - moment), hello()).await.unwrap();
    assert_eq!((world.mails().len(), &world.mails()[0].id), (1, &sent.id));

    let asked = world.server.requests().len();
    for ago in [KEY_TRUSTED, KEY_TRUSTED * 30] {
        let error = world.mail.run(&world.again(ago), hello()).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("key_expired", &Verdict::Operator));
    }
    assert_eq!(world.server.requests().len(), asked, "nothing is sent");
    // Where every earlier attempt is known to have sent nothing, age says nothing.
    let memory = Memory { begun_at: Some(Timestamp::ZERO), ..Memory::default() };
    let late = world.host.attempt(RunId::from_uuid(Uuid::from_u128(2)), "mail", 9, memory);
    world.mail.run(&late, hello()).await.unwrap();
    assert_eq!(world.mails().len(), 2);
}

// covers: R2-27, S9
#[tokio::test]
async fn another_mail_under_the_same_key_is_a_question_for_a_person() {
    let world = World::start();
    world.send(1, hello()).await.unwrap();
    let error = world.send(1, hello().with_text("Goodbye")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("key_reused", Effect::Unknown));
    assert_eq!(error.verdict(), &Verdict::Operator);
    assert_eq!(world.mails().len(), 1);
}

// covers: R2-27
#[tokio::test]
async fn what_is_refused_sends_nothing_and_says_why() {
    let world = World::start();
    let before = world.send(1, Mail::new("nobody", "ada@example.org", "x")).await.unwrap_err();
    assert_eq!((before.code(), before.verdict()), ("invalid_mail", &Verdict::Permanent));
    assert!(world.server.requests().is_empty(), "asked before anything is sent");
    let stranger = Mail::new("eve@elsewhere.org", "ada@example.org", "x").with_text("x");
    let error = world.send(1, stranger).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("domain_not_verified", Effect::None));
    world.server.with(|sim| sim.set_daily_quota(Some(0)));
    let error = world.send(1, hello()).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("daily_quota", Effect::None));
    assert!(
        matches!(error.verdict(), Verdict::Throttled { after, .. } if after.as_secs() == 3_600)
    );
    world.server.with(|sim| {
        sim.set_daily_quota(None);
        sim.set_calls_per_second(0);
    });
    let error = world.send(1, hello()).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("rate_limit", Effect::None));
    world.server.with(|sim| sim.set_calls_per_second(1_000));
    world.host.set_secret("RESEND_API_KEY", "re_wrong");
    let error = world.send(1, hello()).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("unauthorized", &Verdict::Permanent));
    assert!(world.mails().is_empty());
    world.server.with(|sim| sim.accept_sending_key("re_sending"));
    world.host.set_secret("RESEND_API_KEY", "re_sending");
    world.send(1, hello()).await.unwrap();
}

// covers: R2-70
#[tokio::test]
async fn the_simulator_refuses_known_bad_mails_in_the_providers_words() {
    let world = World::start();
    let good = json!({ "from": "a@example.com", "to": "b@c.de", "subject": "x", "text": "x" });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let many: Vec<String> = (0..51).map(|n| format!("a{n}@b.de")).collect();
    let cases = [
        (without("from"), 422, "missing_required_field"),
        (without("to"), 422, "missing_required_field"),
        (without("subject"), 422, "missing_required_field"),
        (without("text"), 422, "missing_required_field"),
        (with("from", json!("nobody")), 422, "validation_error"),
        (with("to", json!("nobody")), 422, "validation_error"),
        (with("to", json!(many)), 422, "validation_error"),
        (with("to", json!([])), 422, "validation_error"),
        (with("cc", json!(["nobody"])), 422, "validation_error"),
        (with("tags", json!([{ "name": "a b", "value": "c" }])), 422, "validation_error"),
        (with("from", json!("a@elsewhere.org")), 403, "validation_error"),
        (json!([]), 422, "validation_error"),
    ];
    for (body, status, name) in cases {
        let (got, answer) = world.raw(None, &body).await;
        assert_eq!(
            (got, &answer["name"], &answer["statusCode"]),
            (status, &json!(name), &json!(status))
        );
        assert!(answer["message"].is_string());
    }
    let long = "x".repeat(257);
    assert_eq!(world.raw(Some(&long), &good).await.1["name"], "invalid_idempotency_key");
    assert!(world.mails().is_empty());

    let (status, first) = world.raw(Some("k"), &good).await;
    assert_eq!((status, world.raw(Some("k"), &good).await), (200, (200, first.clone())));
    let (status, other) = world.raw(Some("k"), &with("text", json!("y"))).await;
    assert_eq!((status, &other["name"]), (409, &json!("invalid_idempotent_request")));
    assert_ne!(world.raw(None, &good).await.1, first, "without a key, another mail");
    assert_eq!(world.mails().len(), 2);
}

// covers: R2-70
#[tokio::test]
async fn the_simulator_knows_who_asks_and_how_often() {
    let world = World::start();
    let url = format!("{}/emails", world.server.url());
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = plain.post(&url).bearer_auth(KEY).body("{}").send().await.unwrap();
    assert_eq!(told(answer).await.0, 403, "without a user agent");
    world.server.with(|sim| sim.accept_sending_key("re_sending"));
    let one = format!("{url}/none");
    let cases = [
        (world.http.post(&url), 401, "missing_api_key"),
        (world.http.post(&url).bearer_auth("wrong"), 403, "invalid_api_key"),
        (world.http.get(&one).bearer_auth("re_sending"), 401, "restricted_api_key"),
        (world.http.get(&one).bearer_auth(KEY), 404, "not_found"),
    ];
    for (request, status, name) in cases {
        let (got, answer) = told(request.send().await.unwrap()).await;
        assert_eq!((got, &answer["name"]), (status, &json!(name)));
    }
    world.send(1, hello()).await.unwrap();
    let shown = format!("{url}/{}", world.mails()[0].id);
    let (status, answer) = told(world.http.get(shown).bearer_auth(KEY).send().await.unwrap()).await;
    assert_eq!(
        (status, &answer["object"], &answer["last_event"]),
        (200, &json!("email"), &json!("delivered"))
    );
    world.server.with(|sim| sim.set_calls_per_second(1));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(world.raw(None, &json!({})).await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}
