//! The verification over scripted answers: what an executor says is judged, and silence is no
//! proof.

use std::{future::Future, sync::Mutex};

use super::{Answer, Executor, Openings, Row, Rule, Scope, Trouble, verify};

/// Answers by what a batch contains; the rest gets no rows.
struct Script {
    answers: Vec<(&'static str, Answer)>,
    asked: Mutex<Vec<String>>,
}

impl Executor for Script {
    type Error = String;

    fn run(&self, batch: String) -> impl Future<Output = Result<Answer, String>> + Send {
        let found = self.answers.iter().find(|(part, _)| batch.contains(part));
        let answer = found.map_or(Answer::Rows(Vec::new()), |(_, answer)| answer.clone());
        self.asked.lock().unwrap().push(batch);
        std::future::ready(Ok(answer))
    }
}

fn row(pairs: &[(&str, &str)]) -> Row {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
}

fn rows(rows: Vec<Row>) -> Answer {
    Answer::Rows(rows)
}

fn refused(sqlstate: &str) -> Answer {
    Answer::Refused { sqlstate: sqlstate.to_owned() }
}

fn anon() -> Answer {
    let fields = [
        ("role", "anon"),
        ("superuser", "false"),
        ("bypasses", "false"),
        ("anon_is_member", "true"),
    ];
    rows(vec![row(&fields)])
}

fn notes(row_security: &str, selects: &str) -> Answer {
    rows(vec![row(&[
        ("schema", "public"),
        ("name", "notes"),
        ("kind", "r"),
        ("row_security", row_security),
        ("forced", "false"),
        ("owner", "postgres"),
        ("options", ""),
        ("anon_selects", selects),
        ("anon_writes", "false"),
        ("anon_truncates", "false"),
    ])])
}

async fn run(
    answers: Vec<(&'static str, Answer)>,
) -> (Result<Vec<Rule>, Trouble<String>>, Vec<String>) {
    let script = Script { answers, asked: Mutex::new(Vec::new()) };
    let end = verify(&script, &Scope::supabase(), &Openings::none()).await;
    let end = end.map(|findings| findings.iter().map(|finding| finding.rule).collect());
    (end, script.asked.into_inner().unwrap())
}

const OFF: &str = "row_security = off";
const ON: &str = "row_security = on";

// covers: X11
#[tokio::test]
async fn silence_and_refused_questions_are_no_proof() {
    let unreadable = |question| Err(Trouble::Unreadable { question });
    assert_eq!(run(vec![]).await.0, unreadable("roles"));
    let (end, _) = run(vec![("from pg_roles", anon()), ("from pg_proc", refused("42501"))]).await;
    let state = "42501".to_owned();
    assert_eq!(end, Err(Trouble::Refused { question: "functions", sqlstate: state }));
    let half = rows(vec![row(&[("schema", "public")])]);
    let (end, _) = run(vec![("from pg_roles", anon()), ("relrowsecurity", half)]).await;
    assert_eq!(end, unreadable("relations"));
    // The table can be read, and whether it has rows is not said.
    let (end, _) = run(vec![
        ("from pg_roles", anon()),
        ("relrowsecurity", notes("true", "true")),
        (OFF, refused("42501")),
    ])
    .await;
    assert_eq!(end, unreadable("rows as anon"));
}

// covers: X11
#[tokio::test]
async fn a_table_is_read_as_the_anonymous_role_in_both_ways() {
    let none = || rows(vec![row(&[("name", "public.notes"), ("shown", "0")])]);
    let some = || rows(vec![row(&[("name", "public.notes"), ("shown", "1")])]);
    let cases = [
        (refused("42501"), none(), vec![]),
        (refused("42501"), some(), vec![Rule::ReadRows]),
        (none(), none(), vec![Rule::ReadUnfiltered]),
        (some(), some(), vec![Rule::ReadUnfiltered, Rule::ReadRows]),
    ];
    for (off, on, expected) in cases {
        let (end, asked) = run(vec![
            ("from pg_roles", anon()),
            ("relrowsecurity", notes("true", "true")),
            (OFF, off),
            (ON, on),
        ])
        .await;
        assert_eq!(end, Ok(expected));
        let probes: Vec<_> = asked.iter().filter(|batch| batch.contains("notes")).collect();
        assert_eq!(probes.len(), 2, "{asked:?}");
        for batch in probes {
            assert!(batch.contains("set local role \"anon\";"), "{batch}");
        }
        assert!(asked.iter().all(|batch| batch.starts_with("set transaction read only;")));
    }
    // Without a grant there is nothing to read, and the catalog alone decides.
    let (end, asked) =
        run(vec![("from pg_roles", anon()), ("relrowsecurity", notes("false", "false"))]).await;
    assert_eq!(end, Ok(vec![Rule::RowSecurityOff]));
    assert!(asked.iter().all(|batch| !batch.contains("notes")));
}

// covers: X11
#[tokio::test]
async fn more_than_can_be_read_is_refused_and_not_skipped() {
    let Answer::Rows(one) = notes("true", "true") else { unreachable!() };
    let many = (0..=super::PROBES_MAX).map(|n| {
        let name = Some(format!("notes_{n}"));
        one[0]
            .iter()
            .cloned()
            .map(|(k, v)| if k == "name" { (k, name.clone()) } else { (k, v) })
            .collect()
    });
    let answers = vec![("from pg_roles", anon()), ("relrowsecurity", rows(many.collect()))];
    let (end, asked) = run(answers).await;
    assert_eq!(end, Err(Trouble::TooMany));
    assert!(asked.iter().all(|batch| !batch.contains("notes")));
}

fn policy(name: &str, shows: &str) -> Row {
    row(&[
        ("schema", "public"),
        ("name", "notes"),
        ("policy", name),
        ("permissive", "PERMISSIVE"),
        ("roles", "public"),
        ("command", "SELECT"),
        ("shows", shows),
    ])
}

// covers: X11
#[tokio::test]
async fn a_condition_that_raises_an_error_does_not_hide_the_others() {
    let policies = rows(vec![
        policy("a", "(auth.uid() = owner)"),
        policy("b", "private.raises()"),
        policy("c", "(auth.uid() IS NULL)"),
        policy("d", "private.closed()"),
    ]);
    let holds = |value: &str| rows(vec![row(&[("place", "0"), ("holds", value)])]);
    let closed = "((private.closed()) is not true)";
    let as_anon = "set local role \"anon\";\nset local row_security = on;\n\
                   select '0'::text as place, ((private.closed";
    let (end, asked) = run(vec![
        ("from pg_roles", anon()),
        ("from pg_policies\nwhere", policies),
        ("from pg_rules", rows(vec![])),
        ("union all", refused("P0001")),
        ("raises", refused("P0001")),
        (as_anon, refused("42501")),
        (closed, holds("false")),
        ("IS NULL", holds("false")),
        ("(auth.uid()) is null", holds("true")),
    ])
    .await;
    let expected = vec![Rule::PolicyUnclear, Rule::PolicyShowsAll, Rule::PolicyShowsAll];
    assert_eq!(end, Ok(expected), "{asked:?}");
    let as_owner = |batch: &&String| batch.contains(closed) && !batch.contains("role \"anon\"");
    assert_eq!(asked.iter().filter(as_owner).count(), 1, "{asked:?}");
}

// covers: X11
#[tokio::test]
async fn only_a_missing_right_proves_that_something_is_closed() {
    let asks = || rows(vec![policy("own", "(auth.uid() = owner)")]);
    for (sqlstate, expected) in [
        ("42501", vec![]),
        ("57014", vec![Rule::PolicyUnclear]),
        ("P0001", vec![Rule::PolicyUnclear]),
        ("22012", vec![Rule::PolicyUnclear]),
        ("42883", vec![Rule::PolicyUnclear]),
        ("0A000", vec![Rule::PolicyUnclear]),
    ] {
        let (end, _) = run(vec![
            ("from pg_roles", anon()),
            ("from pg_policies\nwhere", asks()),
            ("auth.uid()", refused(sqlstate)),
        ])
        .await;
        assert_eq!(end, Ok(expected), "{sqlstate} of a condition");
        // Reading is refused: the same holds for tables.
        let (end, _) = run(vec![
            ("from pg_roles", anon()),
            ("relrowsecurity", notes("true", "true")),
            (OFF, refused(sqlstate)),
            (ON, rows(vec![row(&[("name", "public.notes"), ("shown", "0")])])),
        ])
        .await;
        let trouble = Trouble::Refused { question: "read as anon", sqlstate: sqlstate.to_owned() };
        assert_eq!(end, if sqlstate == "42501" { Ok(vec![]) } else { Err(trouble) }, "{sqlstate}");
    }
    // What the role names cannot be asked by another.
    let role = rows(vec![policy("role", "((CURRENT_USER)::text = private.role())")]);
    let (end, asked) = run(vec![
        ("from pg_roles", anon()),
        ("from pg_policies\nwhere", role),
        ("private.role()", refused("42501")),
    ])
    .await;
    assert_eq!(end, Ok(vec![Rule::PolicyUnclear]), "{asked:?}");
}
