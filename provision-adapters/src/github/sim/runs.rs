//! Dispatches, and the runs they start.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, GitHubSim, RUN_MS, invalid, not_found, page,
    render::run,
    state::{Run, Workflow, printed},
    trouble, with_link,
};
use crate::sim::{SimResponse, SimTime};

#[derive(Debug, Deserialize)]
struct Dispatch {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
    #[serde(default)]
    return_run_details: bool,
}

#[derive(Debug, Deserialize)]
struct Event {
    event_type: String,
    #[serde(default)]
    client_payload: BTreeMap<String, Value>,
}

impl GitHubSim {
    pub(super) fn on_dispatch(&mut self, ask: &Ask<'_>, id: u64, file: &str) -> Answer {
        let wanted: Dispatch = ask.request.json().map_err(|_| {
            invalid("Invalid request.", "Workflow", "ref", "\"ref\" wasn't supplied")
        })?;
        let repo = self.writable(ask, id)?;
        let ready = ask.now >= repo.workflows_at;
        let workflow = repo.workflows.iter().find(|workflow| workflow.file == file);
        // A file is known as a workflow some seconds after it is there.
        let workflow = workflow.filter(|_| ready).cloned().ok_or_else(not_found)?;
        let Some(known) = &workflow.inputs else {
            let text = "Workflow does not have 'workflow_dispatch' trigger";
            return Err(trouble(422, text));
        };
        if wanted.reference != repo.default_branch {
            return Err(trouble(422, &format!("No ref found for: {}", wanted.reference)));
        }
        let unknown = wanted.inputs.keys().any(|input| !known.contains(input));
        if unknown || wanted.inputs.len() > 25 {
            return Err(trouble(422, "Unexpected inputs provided"));
        }
        let value = |input: &str| wanted.inputs.get(input).and_then(Value::as_str);
        let title = expand(&workflow.run_name, known, value, "");
        let run_id = self.start(ask, id, &workflow, ("workflow_dispatch", title));
        let texts = wanted.inputs.iter();
        let texts =
            texts.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        if let Some(run) = self.world.repos.get_mut(&id).and_then(|repo| repo.runs.last_mut()) {
            run.inputs = texts.collect();
        }
        if !wanted.return_run_details || !self.run_details {
            return Ok(SimResponse::empty(204));
        }
        let full_name = self.world.repos.get(&id).map(super::Repo::full_name).unwrap_or_default();
        let body = json!({
            "workflow_run_id": run_id,
            "run_url": format!("{}/repos/{full_name}/actions/runs/{run_id}", ask.api()),
            "html_url": format!("https://github.com/{full_name}/actions/runs/{run_id}"),
        });
        Ok(SimResponse::json(200, &body))
    }

    pub(super) fn on_event(&mut self, ask: &Ask<'_>, id: u64) -> Answer {
        if ask.request.method != "POST" {
            return Err(SimResponse::unhandled(ask.request));
        }
        let why = "event_type is missing, or client_payload has more than 10 properties";
        let wrong = || invalid("Invalid request.", "Dispatch", "event_type", why);
        let body: Event = ask.request.json().map_err(|_| wrong())?;
        let (event, payload) = (body.event_type, body.client_payload);
        if !(1..=100).contains(&event.chars().count()) || payload.len() > 10 {
            return Err(wrong());
        }
        let key = payload.get("provision").and_then(|ours| ours.get("key"));
        let key = key.and_then(Value::as_str).unwrap_or_default().to_owned();
        let repo = self.writable(ask, id)?;
        let listening: Vec<Workflow> =
            repo.workflows.iter().filter(|w| w.event.as_ref() == Some(&event)).cloned().collect();
        if ask.now >= repo.workflows_at {
            for workflow in listening {
                let inputs = workflow.inputs.clone().unwrap_or_default();
                let title = expand(&workflow.run_name, &inputs, |_| None, &key);
                self.start(ask, id, &workflow, ("repository_dispatch", title));
            }
        }
        Ok(SimResponse::empty(204))
    }

    fn start(
        &mut self,
        ask: &Ask<'_>,
        id: u64,
        workflow: &Workflow,
        (event, title): (&str, String),
    ) -> u64 {
        let run_id = self.world.fresh_id();
        let begins = ask.now.saturating_add(self.delay(RUN_MS.0));
        let works = workflow.works.unwrap_or_else(|| self.delay(RUN_MS.1));
        let ends = begins.saturating_add(works);
        if let Some(repo) = self.world.repos.get_mut(&id) {
            let started = Run {
                id: run_id,
                number: repo.runs.len() + 1,
                event: event.to_owned(),
                title,
                file: workflow.file.clone(),
                created: ask.now,
                visible: ask.now.saturating_add(ask.request.hidden_for),
                begins,
                ends,
                cancelled_at: None,
                conclusion: workflow.conclusion.clone().unwrap_or_else(|| "success".to_owned()),
                inputs: BTreeMap::new(),
            };
            repo.runs.push(started);
        }
        run_id
    }

    pub(super) fn on_runs(&mut self, ask: &Ask<'_>, id: u64, rest: &[&str]) -> Answer {
        let most = self.search_max;
        let repo = self.world.repos.get_mut(&id).ok_or_else(not_found)?;
        let place = |id: &str| repo.runs.iter().position(|run| run.id.to_string() == id);
        match (ask.request.method.as_str(), rest) {
            ("GET", []) => {
                let since = ask.request.q("created").and_then(|text| text.strip_prefix(">="));
                let all: Vec<Value> = repo
                    .runs
                    .iter()
                    .rev()
                    .filter(|run| ask.now >= run.visible)
                    .filter(|run| ask.request.q("event").is_none_or(|event| run.event == event))
                    .filter(|run| since.is_none_or(|since| printed(run.created).as_str() >= since))
                    .map(|one| run(ask, repo, one))
                    .collect();
                let shown = all.get(..most).unwrap_or(&all);
                let (items, link) = page(ask, shown, 30, 100);
                let body = json!({ "total_count": all.len(), "workflow_runs": items });
                Ok(with_link(SimResponse::json(200, &body), &link))
            }
            ("GET", [run_id]) => {
                let found = place(run_id).and_then(|place| repo.runs.get(place));
                let found = found.filter(|run| ask.now >= run.visible).ok_or_else(not_found)?;
                Ok(SimResponse::json(200, &run(ask, repo, found)))
            }
            ("POST", [run_id, how @ ("cancel" | "force-cancel")]) => {
                let place = place(run_id).ok_or_else(not_found)?;
                let found = repo.runs.get_mut(place).ok_or_else(not_found)?;
                if found.ended(ask.now).is_some() {
                    return Err(trouble(409, "Cannot cancel a workflow run that is completed."));
                }
                let file = repo.workflows.iter().find(|workflow| workflow.file == found.file);
                let (deaf, winds) = file.map_or((false, SimTime::ZERO), |w| (w.deaf, w.winds_down));
                match *how {
                    "force-cancel" => found.cancelled_at = Some(ask.now),
                    _ if deaf => {}
                    _ => {
                        found.cancelled_at.get_or_insert(ask.now.saturating_add(winds));
                    }
                }
                Ok(SimResponse::json(202, &json!({})))
            }
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }
}

/// The title of a run, with what the workflow asks to be printed in it.
fn expand<'a>(
    run_name: &str,
    inputs: &[String],
    value: impl Fn(&str) -> Option<&'a str>,
    key: &str,
) -> String {
    let mut title = run_name.replace("${{ client_payload.provision.key }}", key);
    for input in inputs {
        let hole = format!("${{{{ inputs.{input} }}}}");
        title = title.replace(&hole, value(input).unwrap_or_default());
    }
    title.trim().to_owned()
}
