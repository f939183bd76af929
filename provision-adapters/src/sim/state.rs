//! One simulated cloud behind its front: the provider, what has not landed yet, and the log.

use std::{io, sync::Arc};

use provision_core::clock::Clock;

use super::{
    Provider, SimTime,
    fault::{Fault, RetryAfterForm},
    message::{SimRequest, SimResponse},
    persist::{Disk, Late, Saved},
    routes::{may_change, route_of},
    server::SimOptions,
};

/// One line of the log of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// Method.
    pub method: String,
    /// Path, decoded, with a leading slash.
    pub path: String,
    /// Query, as `name=value` pairs joined by `&`, decoded.
    pub query: String,
    /// Status the provider answered with; 0 when it was not asked.
    pub status: u16,
    /// What went wrong on the way, by plan.
    pub fault: Option<&'static str>,
    /// The route it takes, of [`Provider::changing_routes`]; none for a request that only looks, and
    /// for one that the provider does not know.
    pub route: Option<&'static str>,
}

/// One request and what the provider answered, before anything went wrong with the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The request, with its headers and body.
    pub request: SimRequest,
    /// The answer.
    pub response: SimResponse,
}

pub(super) struct Cloud<P> {
    pub(super) provider: P,
    pub(super) log: Vec<RequestLine>,
    pub(super) exchanges: Vec<Exchange>,
    late: Vec<Late>,
    disk: Option<Disk>,
    clock: Arc<dyn Clock>,
    record: bool,
    log_max: usize,
}

impl<P: Provider> Cloud<P> {
    pub(super) fn open(mut provider: P, options: &SimOptions) -> io::Result<Self> {
        provider.configure(options);
        let (mut disk, mut late) = (None, Vec::new());
        if let Some(path) = &options.persist {
            let (opened, saved) = Disk::open(path)?;
            if let Some(saved) = saved {
                provider.restore(saved.state).map_err(io::Error::other)?;
                provider.committed();
                late = saved.late;
            }
            disk = Some(opened);
        }
        Ok(Self {
            provider,
            log: Vec::new(),
            exchanges: Vec::new(),
            late,
            disk,
            clock: Arc::clone(&options.clock),
            record: options.record_exchanges,
            log_max: options.log_lines_max,
        })
    }

    /// Carries out what has become due, makes it durable.
    pub(super) fn settle(&mut self) {
        let now = self.wall();
        let mut landed = false;
        while let Some(place) = self.first_due(now) {
            let late = self.late.remove(place);
            self.provider.handle(&late.request, late.due);
            landed = true;
        }
        if landed {
            // A disk that fails shows at the next request, which is then not answered.
            let _ = self.save();
        }
    }

    /// The clock, as simulated clouds read it.
    fn wall(&self) -> SimTime {
        SimTime::from_millis(self.clock.wall().as_millis())
    }

    fn first_due(&self, now: SimTime) -> Option<usize> {
        let due = self.late.iter().enumerate().filter(|(_, late)| late.due <= now);
        due.min_by_key(|(_, late)| late.due).map(|(place, _)| place)
    }

    pub(super) fn save(&mut self) -> io::Result<()> {
        if let Some(disk) = &mut self.disk {
            disk.write(&Saved { state: self.provider.snapshot(), late: self.late.clone() })?;
        }
        self.provider.committed();
        Ok(())
    }

    /// Carries out one request, or not, as the fault says; the state is durable on return.
    ///
    /// `None` means that the sender gets no answer at all.
    pub(super) fn answer(
        &mut self,
        mut request: SimRequest,
        fault: Option<&Fault>,
    ) -> io::Result<Option<SimResponse>> {
        self.settle();
        let line = RequestLine { route: self.route(&request), ..log_line(&request, fault) };
        let response = match fault {
            Some(Fault::RefuseBefore | Fault::ResetBefore | Fault::HalfOpen | Fault::TlsAlert) => {
                None
            }
            Some(Fault::LateLanding(by)) => {
                self.late.push(Late { due: self.wall().saturating_add(*by), request });
                None
            }
            Some(Fault::Status(status)) => Some(self.provider.refuse(*status)),
            Some(Fault::TokenRevoked) => Some(self.provider.refuse(401)),
            Some(Fault::RateLimited { retry_after }) => Some(self.rate_limited(*retry_after)),
            Some(Fault::Redirect(to)) => Some(SimResponse::empty(307).header("location", to)),
            Some(Fault::RedirectLoop) => {
                let here = format!("http://{}/{}", request.host, request.path.join("/"));
                Some(SimResponse::empty(302).header("location", &here))
            }
            Some(Fault::Page { status, content_type, body }) => {
                Some(SimResponse::text(*status, content_type, body.as_str()))
            }
            Some(Fault::Echo(status)) => Some(echo(*status, &request)),
            Some(Fault::Ghost) => {
                let before = self.provider.snapshot();
                let response = self.handle(&request);
                self.provider.restore(before).map_err(io::Error::other)?;
                Some(response)
            }
            Some(Fault::Duplicate) => {
                self.handle(&request);
                Some(self.handle(&request))
            }
            other => {
                if let Some(Fault::LateVisible(by) | Fault::LostAndLateVisible(by)) = other {
                    request.hidden_for = *by;
                }
                Some(self.handle(&request))
            }
        };
        self.log(line, response.as_ref());
        self.save()?;
        Ok(response)
    }

    fn handle(&mut self, request: &SimRequest) -> SimResponse {
        let now = self.wall();
        let known = !may_change(request) || self.route(request).is_some();
        let response = match known {
            true => self.provider.handle(request, now),
            false => SimResponse::unhandled(request),
        };
        if self.record && self.exchanges.len() < self.log_max {
            let exchange = Exchange { request: request.clone(), response: response.clone() };
            self.exchanges.push(exchange);
        }
        response
    }

    fn route(&self, request: &SimRequest) -> Option<&'static str> {
        may_change(request).then(|| route_of(self.provider.changing_routes(), request)).flatten()
    }

    fn rate_limited(&self, form: RetryAfterForm) -> SimResponse {
        let response = self.provider.refuse(429);
        match form {
            RetryAfterForm::Reset(s) => {
                let until = self.clock.wall().as_millis() / 1_000 + s;
                response
                    .header("x-ratelimit-remaining", "0")
                    .header("ratelimit-remaining", "0")
                    .header("x-ratelimit-reset", &until.to_string())
                    .header("ratelimit-reset", &until.to_string())
            }
            RetryAfterForm::Page(s) => {
                let page = "<html><body>Too many requests</body></html>";
                SimResponse::text(429, "text/html", page).header("retry-after", &s.to_string())
            }
            RetryAfterForm::Absent => response,
            RetryAfterForm::Seconds(s) => response.header("retry-after", &s.to_string()),
            RetryAfterForm::Date(s) => {
                let until = self.clock.wall().plus(std::time::Duration::from_secs(s));
                response.header("retry-after", &httpdate::fmt_http_date(until.to_system()))
            }
        }
    }

    fn log(&mut self, mut line: RequestLine, response: Option<&SimResponse>) {
        line.status = response.map_or(0, |r| r.status);
        if self.log.len() < self.log_max {
            self.log.push(line);
        }
    }
}

/// What was asked, said again in every place where providers put their words.
fn echo(status: u16, request: &SimRequest) -> SimResponse {
    let body = String::from_utf8_lossy(&request.body);
    let words = format!("bad request: {:?} {body}", request.headers);
    let error = serde_json::json!({ "code": words, "message": words });
    SimResponse::json(
        status,
        &serde_json::json!({ "message": words, "msg": words, "error": error }),
    )
}

fn log_line(request: &SimRequest, fault: Option<&Fault>) -> RequestLine {
    let query: Vec<_> = request.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
    RequestLine {
        method: request.method.clone(),
        path: format!("/{}", request.path.join("/")),
        query: query.join("&"),
        status: 0,
        fault: fault.map(Fault::name),
        route: None,
    }
}
