//! What differs from run to run, replaced; what goes on side by side, in one order.

use client_onboarding::saga::STEPS;
use serde_json::Value;

/// Words of progress lines that come as often as the machine is slow: not ready yet, not yet sure.
const WAITS: [&str; 2] =
    [" is not ready yet, looks again in ", ", until a lost call can no longer land"];
/// The run's id, also in JSON.
const RUN: &str = "<run>";
const ID: &str = "<id>";
/// Columns in front of a line that tell the runs of a fleet apart.
const LABEL: usize = 15;

/// Lines as a page keeps them.
pub(super) fn text(printed: &str) -> String {
    let told = |line: &&str| !WAITS.iter().any(|waits| line.contains(waits));
    let lines = printed.lines().filter(told);
    let mut lines: Vec<_> = lines.map(|line| words(line).trim_end().to_owned()).collect();
    lines = sorted(lines, |line| label(line).map(str::to_owned));
    lines = sorted(lines, step);
    lines = sorted(lines, |line| is_row(line).then(|| line.to_owned()));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Sorts each stretch of neighbours that have a key.
fn sorted<K: Ord>(lines: Vec<String>, key: impl Fn(&str) -> Option<K>) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines {
        match key(&line) {
            Some(_) => all.push(line),
            None => {
                settle(&mut all, &key);
                all.push(line);
            }
        }
    }
    settle(&mut all, &key);
    all
}

/// Sorts the last stretch that has keys; in it, what is equal stays in its order.
fn settle<K: Ord>(all: &mut [String], key: impl Fn(&str) -> Option<K>) {
    let before = all.iter().rposition(|line| key(line).is_none()).map_or(0, |at| at + 1);
    all[before..].sort_by_key(|line| key(line));
}

/// The client of a fleet whose line it is.
fn label(line: &str) -> Option<&str> {
    let (label, _) = line.split_at_checked(LABEL)?;
    let name = label.trim_end();
    let (_, number) = name.rsplit_once('-')?;
    (label.ends_with(' ') && number.parse::<u32>().is_ok()).then_some(name)
}

/// The place in the saga of the step whose progress a line tells.
fn step(line: &str) -> Option<usize> {
    let rest = if label(line).is_some() { &line[LABEL..] } else { line };
    let path = rest.get(12..27).filter(|_| rest.as_bytes()[11] == b' ')?.trim_end();
    STEPS.iter().position(|step| *step == path)
}

/// Whether it is a row of the table of resources.
fn is_row(line: &str) -> bool {
    let first = line.strip_prefix("  ").and_then(|rest| rest.split(' ').next());
    first.is_some_and(|what| what.contains('.'))
}

/// A line without what is another one each time.
fn words(line: &str) -> String {
    let line = match line.split_once("data: ") {
        Some(("", _)) => return "data: <folder>".to_owned(),
        _ => with_times(line),
    };
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut plain = String::new();
    let mut rest = line.as_str();
    while let Some(begin) = rest.find(part) {
        plain.push_str(&rest[..begin]);
        let word = rest[begin..].split(|c| !part(c)).next().unwrap_or_default();
        plain.push_str(same_each_time(word));
        rest = &rest[begin + word.len()..];
    }
    plain + rest
}

fn same_each_time(word: &str) -> &str {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let bare = word.strip_prefix("prj_").or_else(|| word.strip_prefix("dpl_")).unwrap_or(word);
    let drawn = bare.len() == 20 && bare.bytes().all(|b| b.is_ascii_lowercase());
    let number = word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit());
    match word {
        _ if word.len() == 36 && word.matches('-').count() == 4 => RUN,
        _ if drawn || number || (bare.len() >= 12 && hex(bare)) => ID,
        same => same,
    }
}

/// Moments and spans of time replaced; moments keep their column.
fn with_times(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        let (before, unit) = (words[at - 1].clone(), words[at].trim_end_matches(','));
        let number = !before.is_empty() && before.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let is_moment = unit.len() == 9 && unit.ends_with('Z') && before.len() == 10;
        if unit == "s" && number && before.contains('.') {
            words[at - 1] = "<time>".to_owned();
        } else if is_moment {
            words[at - 1] = "<date>    ".to_owned();
            words[at] = "<time>   ".to_owned();
        }
    }
    words.join(" ")
}

/// What a program reads as a page keeps it: the same words replaced, resources in one order, and
/// each item of a list on a line of its own.
pub(super) fn object(mut value: Value) -> String {
    replace(&mut value, "");
    spread(&value, 0)
}

fn spread(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth + 1);
    let lines = |open: &str, items: Vec<String>, close: &str| {
        let items: Vec<_> = items.into_iter().map(|item| format!("{indent}{item}")).collect();
        format!("{open}\n{}\n{}{close}", items.join(",\n"), "  ".repeat(depth))
    };
    match value {
        Value::Object(fields) if fields.values().any(|field| field.is_array()) => {
            let field = |(name, value)| format!("\"{name}\": {}", spread(value, depth + 1));
            lines("{", fields.iter().map(field).collect(), "}")
        }
        Value::Array(items) if !items.is_empty() => {
            lines("[", items.iter().map(|item| spread(item, depth + 1)).collect(), "]")
        }
        other => other.to_string(),
    }
}

fn replace(value: &mut Value, field: &str) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, value)| replace(value, &name.clone()));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| replace(item, ""));
            if field == "resources" {
                items.sort_by_key(ToString::to_string);
            }
        }
        Value::Number(_) if field == "elapsed_ms" => *value = "<time>".into(),
        Value::String(text) => *text = words(text),
        _ => {}
    }
}

#[test]
fn only_what_differs_each_time_is_replaced() {
    let cases = [
        ("data: ./elsewhere", "data: <folder>"),
        ("run 01a2034f-9a92-77b1-956e-cddd1a1a8aa4: Succeeded", "run <run>: Succeeded"),
        ("exists as prj_3b0306bbb9695582badb9505/env/009d3ef3fb8c", "exists as <id>/env/<id>"),
        ("waits 1.0 s, asked to slow down", "waits <time> s, asked to slow down"),
        ("client-demo-app and repo_variables", "client-demo-app and repo_variables"),
        ("10.00 USD/month", "10.00 USD/month"),
        ("exists as 1004", "exists as <id>"),
    ];
    for (line, expected) in cases {
        assert_eq!(words(line), expected);
    }
}

#[test]
fn lines_of_a_step_are_put_together_and_others_stay() {
    let printed = "\
head\n\
code        repo            begins\n\
database    supabase        begins\n\
code        repo            done\n            run             ends: Succeeded\n";
    let expected = "\
head\n\
database    supabase        begins\n\
code        repo            begins\n\
code        repo            done\n            run             ends: Succeeded\n";
    assert_eq!(text(printed), expected);
}
